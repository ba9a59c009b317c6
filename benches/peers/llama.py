#!/usr/bin/env python3
"""Measure the speed of llama.cpp on a model with the shapes of Phi-3.5-mini-instruct and random weights.

Needs gguf 0.19.0, llama-cpp-python 0.3.36 (which builds llama.cpp 0c1e570 from source: a C++ compiler) and numpy 2.4.6:

  python3 -m venv VENV
  CMAKE_ARGS="-DGGML_NATIVE=ON" VENV/bin/pip install --no-binary llama-cpp-python -r benches/peers/requirements.txt
  VENV/bin/python benches/peers/llama.py make --type q8_0 --blocks 32 --out FILE.gguf
  VENV/bin/python benches/peers/llama.py run --model FILE.gguf --threads 2 --prompt 128 --tokens 32 --json

If such a build ends at an illegal instruction (AMX, on some virtual machines), list the supported features instead:
CMAKE_ARGS="-DGGML_NATIVE=OFF -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON -DGGML_AVX512=ON
-DGGML_AVX512_VBMI=ON -DGGML_AVX512_VNNI=ON -DGGML_AVX512_BF16=ON".

`make` writes random blocks of the file type directly, without a float model. Layer norms are 1, weights have a
standard deviation of about 0.02. The tokenizer is a dummy, since `run` uses token ids. The rope factors for long contexts
are omitted: contexts are at most 4096. Tensors are fused as by llama.cpp's own converter of this architecture: query,
key and value are `attn_qkv`, gate and up are `ffn_up`.

`run` times llama_decode, called through ctypes. Prefill is one batch of random ids; decode is greedy, one token at a time,
after that prompt, argmax included. The KV cache is FP16. For a prompt, llama.cpp computes the last block's feed-forward and
the head at the last position only, which saves a sixth of the blocks' work with 4 blocks and 2 % with 32.
`load_seconds` is for the model alone, its file in the page cache or not. --no-repack, also an option of llama.cpp's own programs,
keeps Q4_K in the layout of the file: prefill was then 1.5 times as fast with AVX-512 VNNI, decode a tenth slower.
"""
import argparse
import ctypes
import json
import os
import re
import statistics
import sys
import time

HIDDEN, HEADS, HEAD_DIM, INTERMEDIATE, VOCAB = 3072, 32, 96, 8192, 32064


def fail(sentence):
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(2)


try:
    import gguf
    import llama_cpp as llama
    import numpy as np
    from gguf import GGMLQuantizationType as Kind, LlamaFileType
except ImportError as error:
    fail(f"the Python package {error.name} is missing; install benches/peers/requirements.txt with pip.")

# File type: what general.file_type says, and the type of the tensors that no exception names.
TYPES = {
    "f16": (LlamaFileType.MOSTLY_F16, Kind.F16),
    "bf16": (LlamaFileType.MOSTLY_BF16, Kind.BF16),
    "q8_0": (LlamaFileType.MOSTLY_Q8_0, Kind.Q8_0),
    "q4_k_m": (LlamaFileType.MOSTLY_Q4_K_M, Kind.Q4_K),
    "q4_k_s": (LlamaFileType.MOSTLY_Q4_K_S, Kind.Q4_K),
    "iq4_xs": (LlamaFileType.MOSTLY_IQ4_XS, Kind.IQ4_XS),
}


def tensors(file_type, blocks):
    """Name, shape and type of every tensor, in the order of the file."""
    kind = TYPES[file_type][1]

    def more_bits(block, name):
        """As llama-quant.cpp has it, with an importance matrix, of attn_qkv and of ffn_down."""
        first, last = blocks // 8, 7 * blocks // 8
        if file_type == "q4_k_m" and (block < first or block >= last or (block - first) % 3 == 2):
            return Kind.Q6_K
        return Kind.Q5_K if file_type == "q4_k_s" and name == "ffn_down" and block < first else kind

    yield "token_embd.weight", (VOCAB, HIDDEN), kind
    for n in range(blocks):
        yield f"blk.{n}.attn_norm.weight", (HIDDEN,), Kind.F32
        yield f"blk.{n}.attn_qkv.weight", (3 * HEADS * HEAD_DIM, HIDDEN), more_bits(n, "attn_qkv")
        yield f"blk.{n}.attn_output.weight", (HIDDEN, HEADS * HEAD_DIM), kind
        yield f"blk.{n}.ffn_norm.weight", (HIDDEN,), Kind.F32
        yield f"blk.{n}.ffn_up.weight", (2 * INTERMEDIATE, HIDDEN), kind
        yield f"blk.{n}.ffn_down.weight", (HIDDEN, INTERMEDIATE), more_bits(n, "ffn_down")
    yield "output_norm.weight", (HIDDEN,), Kind.F32
    yield "output.weight", (VOCAB, HIDDEN), Kind.Q6_K if kind in (Kind.Q4_K, Kind.IQ4_XS) else kind


def stored_bytes(shape, kind):
    weights, size = gguf.GGML_QUANT_SIZES[kind]
    return int(np.prod(shape, dtype=np.int64)) // weights * size


def random_tensor(rng, shape, kind):
    """The bytes of a tensor: random quants and scales, or random signs and mantissas at one exponent."""
    weights, size = gguf.GGML_QUANT_SIZES[kind]
    if kind == Kind.F32:
        return np.ones(shape, np.float32)
    if kind == Kind.F16:  # ±[2^-6, 2^-5)
        return (rng.integers(0, 1 << 16, shape, np.uint16) & 0x83FF | 9 << 10).view(np.float16)
    if kind == Kind.BF16:
        return (rng.integers(0, 1 << 16, shape, np.uint16) & 0x807F | 121 << 7).view(np.uint8)
    data = rng.integers(0, 256, (stored_bytes(shape, kind) // size, size), np.uint8)
    # One FP16 scale a block, within a tenth of `scale`, as bytes.
    f16 = lambda scale: (scale * rng.uniform(0.9, 1.1, (len(data), 1))).astype(np.float16).view(np.uint8)
    if kind == Kind.Q8_0:  # f16 d, 32 x i8
        data[:, :2] = f16(2.7e-4)
    elif kind == Kind.IQ4_XS:  # f16 d, 8 scales of 6 bits in 6 bytes, 256 x u4
        data[:, :2] = f16(1.7e-5)
    elif kind in (Kind.Q4_K, Kind.Q5_K):  # f16 d, f16 dmin, 8 scales and 8 minima of 6 bits in 12 bytes, 256 x u4 or u5
        scale, middle = (1.2e-4, 7.5) if kind == Kind.Q4_K else (6e-5, 15.5)
        data[:, :2] = d = f16(scale)
        data[:, 2:4] = (d.view(np.float16) * np.float16(middle)).view(np.uint8)
        # Minima alike the scales, so that every group has mean 0.
        data[:, 8:12] = data[:, 4:8]
        data[:, 12:16] = data[:, 12:16] % 16 * 17
    else:  # Q6_K: 256 x u6, 16 x i8 scales, f16 d
        data[:, -2:] = f16(1.5e-5)
    return data.reshape(*shape[:-1], shape[-1] // weights * size)


def make(args):
    if args.blocks < 1:
        fail(f"--blocks must be at least 1, not {args.blocks}.")
    listed = list(tensors(args.type, args.blocks))
    writer = gguf.GGUFWriter(args.out, "phi3")
    for key, value in {
        "file_type": TYPES[args.type][0], "context_length": 4096, "embedding_length": HIDDEN, "block_count": args.blocks,
        "feed_forward_length": INTERMEDIATE, "head_count": HEADS, "head_count_kv": HEADS, "layer_norm_rms_eps": 1e-5,
        "rope_dimension_count": HEAD_DIM, "rope_freq_base": 10000.0,
        "tokenizer_model": "llama", "unk_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    }.items():
        getattr(writer, f"add_{key}")(value)
    # As sentencepiece has it: unknown, begin, end, 256 bytes, then pieces.
    token, pieces = gguf.TokenType, VOCAB - 259
    names = ["<unk>", "<s>", "</s>"] + [f"<0x{n:02X}>" for n in range(256)] + [f"piece{n}" for n in range(pieces)]
    writer.add_token_list(names)
    writer.add_token_scores([-float(n) for n in range(VOCAB)])
    writer.add_token_types([token.UNKNOWN] + [token.CONTROL] * 2 + [token.BYTE] * 256 + [token.NORMAL] * pieces)
    for name, shape, kind in listed:
        writer.add_tensor_info(name, shape, np.dtype(np.float32), stored_bytes(shape, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    rng = np.random.default_rng(0)
    for _, shape, kind in listed:
        writer.write_tensor_data(random_tensor(rng, shape, kind))
    writer.close()
    weights, stored = sum(int(np.prod(t[1])) for t in listed), sum(stored_bytes(*t[1:]) for t in listed)
    print(f"{args.out}: {weights} weights in {stored} bytes, {8 * stored / weights:.3f} bits per weight")


def run(args):
    if min(args.threads, args.prompt, args.tokens, args.repeats) < 1:
        fail("--threads, --prompt, --tokens and --repeats must be at least 1.")
    # As by default: a multiple of 256 positions, and a prompt in pieces of 512.
    context_tokens = -(-(args.prompt + args.tokens) // 256) * 256
    log = log_lines()
    start = time.perf_counter()
    model = load(args.model, log, not args.no_repack)
    load_seconds = time.perf_counter() - start
    params = llama.llama_context_default_params()
    params.n_ctx = params.n_batch = context_tokens
    params.n_ubatch = 512
    params.n_threads = params.n_threads_batch = args.threads
    context = llama.llama_init_from_model(model, params)
    if not context:
        fail(f"llama.cpp cannot make a context of {context_tokens} tokens for {args.model}.")
    vocab = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))

    def decode(ids):
        """Reads `ids` at the positions that follow; answers the seconds and the likeliest next id."""
        start = time.perf_counter()
        if llama.llama_decode(context, llama.llama_batch_get_one(ids, len(ids))):
            fail(f"llama_decode failed on {args.model}.")
        llama.llama_synchronize(context)
        logits = np.ctypeslib.as_array(llama.llama_get_logits_ith(context, -1), (vocab,))
        likeliest = int(logits.argmax())
        seconds = time.perf_counter() - start
        if not np.isfinite(logits[likeliest]):  # argmax finds a NaN
            fail(f"{args.model} gives logits that are not finite.")
        return seconds, likeliest

    prompt = (ctypes.c_int32 * args.prompt)(*np.random.default_rng(1).integers(0, vocab, args.prompt).tolist())
    one = (ctypes.c_int32 * 1)()
    prefill, decoding = [], []  # tokens per second
    for repeat in range(1 + args.repeats):
        llama.llama_memory_clear(llama.llama_get_memory(context), True)
        seconds, one[0] = decode(prompt)
        total = 0.0
        for _ in range(args.tokens):
            spent, one[0] = decode(one)
            total += spent
        if repeat > 0:  # the first warms up
            prefill.append(args.prompt / seconds)
            decoding.append(args.tokens / total)
    reader = gguf.GGUFReader(args.model)
    sizes = {tensor.name: int(tensor.n_bytes) for tensor in reader.tensors}
    weight_bytes = sum(sizes.values())
    # The embedding is looked up, a row a token; everything else is read whole.
    read_bytes = weight_bytes - sizes["token_embd.weight"]
    decode_speed = statistics.median(decoding)
    buffers = re.findall(r"(\w+) model buffer size = +([\d.]+) MiB", "".join(log))
    report = {
        "name": "llama.cpp",
        "llama_cpp_python": llama.__version__,
        "file_type": LlamaFileType(reader.get_field("general.file_type").contents()).name,
        "blocks": llama.llama_model_n_layer(model),
        "threads": args.threads,
        "prompt_tokens": args.prompt,
        "prefill_tokens_per_second": round(statistics.median(prefill), 2),
        "decode_tokens_per_second": round(decode_speed, 3),
        "prefill_runs": [round(speed, 2) for speed in prefill],
        "decode_runs": [round(speed, 3) for speed in decoding],
        "load_seconds": round(load_seconds, 3),
        "peak_rss_bytes": peak_rss_bytes(),
        "weight_bytes": weight_bytes,
        "decode_gb_per_second": round(read_bytes * decode_speed / 1e9, 2),
        "buffers_mib": {name: float(size) for name, size in buffers},
        "system_info": llama.llama_print_system_info().decode().strip(),
    }
    print(json.dumps(report) if args.json else "\n".join(f"{key}: {value}" for key, value in report.items()))


def log_lines():
    """llama.cpp's log from now on, in which alone it says where weights and caches are."""
    lines = []
    log_lines.callback = llama.llama_log_callback(lambda _, text, __: lines.append(text.decode("utf-8", "replace")))
    llama.llama_log_set(log_lines.callback, None)
    return lines


def load(path, log, repack=True):
    """The model of a GGUF file, on the CPU."""
    with open(path, "rb") as file:
        if file.read(4) != b"GGUF":
            fail(f"{path} is not a GGUF file.")
    params = llama.llama_model_default_params()
    params.n_gpu_layers = 0
    params.load_mode = llama.LLAMA_LOAD_MODE_MMAP
    params.use_extra_bufts = repack
    model = llama.llama_model_load_from_file(os.fsencode(path), params)
    if not model:
        reason = next((line.split(": ", 1)[1].strip() for line in log if "error loading" in line), "no reason given")
        fail(f"llama.cpp cannot load {path}: {reason}.")
    return model


def peak_rss_bytes():
    with open("/proc/self/status") as status:  # Linux; getrusage would count the parent before exec
        return 1024 * int(re.search(r"VmHWM:\s*(\d+) kB", status.read())[1])


def guarded(command, args):
    """Runs a command, and says in one sentence which file could not be read or written."""
    try:
        command(args)
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}." if error.filename else f"{error}.")


class Parser(argparse.ArgumentParser):
    def error(self, message):
        fail(f"{message} (see {self.prog} --help).")


def main():
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="make|run")
    command = commands.add_parser("make", help="write a GGUF file with random weights")
    command.set_defaults(call=make)
    command.add_argument("--type", choices=TYPES, required=True)
    command.add_argument("--blocks", type=int, default=32)
    command.add_argument("--out", required=True)
    command = commands.add_parser("run", help="measure llama.cpp on a GGUF file")
    command.set_defaults(call=run)
    command.add_argument("--model", required=True)
    command.add_argument("--threads", type=int, required=True)
    command.add_argument("--prompt", type=int, default=128, help="tokens of the prefill")
    command.add_argument("--tokens", type=int, default=32, help="tokens to decode")
    command.add_argument("--repeats", type=int, default=3, help="measurements after a warm-up, of which the median is reported")
    command.add_argument("--no-repack", action="store_true", help="leave the weights in the layout of the file")
    command.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    args = parser.parse_args()
    guarded(args.call, args)


if __name__ == "__main__":
    main()
