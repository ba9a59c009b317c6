#!/usr/bin/env python3
"""Write a checkpoint in the Hugging Face layout as a GGUF file, so that llama.cpp computes with the weights that qins computes with.

  VENV/bin/python benches/peers/convert.py MODEL FILE.gguf [--type f32]    # VENV as in llama.py

MODEL is a directory with config.json and safetensors, of model type llama, phi3, qwen2 or gemma3_text, without scaled rotations. With
type f32 no weight of a bf16 checkpoint changes, and llama.cpp multiplies in f32: with bf16, f16 or a quantised type it rounds activations
to that type or to 8 bits before each product. Norms and biases are f32 in any case. The tokenizer is left out: token ids are the input.
"""
import argparse
import json
import os

from llama import Parser, fail, gguf, guarded, np
from gguf import GGMLQuantizationType as Kind, LlamaFileType, MODEL_ARCH
from gguf.quants import quantize

TYPES = {
    "f32": (LlamaFileType.ALL_F32, Kind.F32),
    "f16": (LlamaFileType.MOSTLY_F16, Kind.F16),
    "bf16": (LlamaFileType.MOSTLY_BF16, Kind.BF16),
    "q8_0": (LlamaFileType.MOSTLY_Q8_0, Kind.Q8_0),
}

ARCHITECTURES = {
    "llama": MODEL_ARCH.LLAMA,
    "phi3": MODEL_ARCH.PHI3,
    "qwen2": MODEL_ARCH.QWEN2,
    "gemma3_text": MODEL_ARCH.GEMMA3,
}


def read_safetensors(path):
    """The JSON header of a safetensors file, and its bytes."""
    data = np.memmap(path, np.uint8, "r")
    length = int.from_bytes(data[:8].tobytes(), "little")
    return json.loads(data[8:8 + length].tobytes()), data[8 + length:]


def widened(dtype, data):
    """Floats of a type as f32."""
    if dtype == "BF16":
        return (data.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    if dtype not in ("F16", "F32"):
        fail(f"expected weights in F32, F16 or BF16, found {dtype}: convert the plain checkpoint.")
    return data.view({"F16": np.float16, "F32": np.float32}[dtype]).astype(np.float32)


def checkpoint(model):
    """Name, header entry and bytes of every tensor."""
    files, index = ["model.safetensors"], os.path.join(model, "model.safetensors.index.json")
    if os.path.exists(index):
        with open(index) as file:
            files = sorted(set(json.load(file)["weight_map"].values()))
    for file in files:
        header, data = read_safetensors(os.path.join(model, file))
        for name, info in header.items():
            if name != "__metadata__":
                yield name, info, data[slice(*info["data_offsets"])]


def interleaved(weights, heads):
    """Rows of q or k in the order that llama.cpp rotates for this architecture: pairs are neighbours, not half a head apart."""
    rows = weights.shape[0]
    return weights.reshape(heads, 2, rows // heads // 2, -1).swapaxes(1, 2).reshape(weights.shape)


def describe(writer, config, arch):
    """Writes the metadata that llama.cpp needs for these shapes."""
    heads = config["num_attention_heads"]
    dim = config.get("head_dim") or config["hidden_size"] // heads
    rope = config.get("rope_parameters") or {}
    if config.get("rope_scaling") or rope.get("rope_type", "default") != "default":
        fail("expected a model without scaled rotations, found one with them.")
    if dim % 32:
        fail(f"expected heads of a multiple of 32 numbers, the blocks of llama.cpp's encoded caches, found {dim}.")
    rotated = rope.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0))
    for key, value in {
        "context_length": config["max_position_embeddings"], "embedding_length": config["hidden_size"],
        "block_count": config["num_hidden_layers"], "feed_forward_length": config["intermediate_size"],
        "head_count": heads, "head_count_kv": config.get("num_key_value_heads", heads), "key_length": dim, "value_length": dim,
        "layer_norm_rms_eps": config["rms_norm_eps"], "rope_dimension_count": int(dim * rotated),
        "rope_freq_base": rope.get("rope_theta", config.get("rope_theta", 10000.0)),
        "tokenizer_model": "none", "vocab_size": config["vocab_size"],
    }.items():
        getattr(writer, f"add_{key}")(value)
    if arch == MODEL_ARCH.GEMMA3:
        writer.add_sliding_window(config["sliding_window"])
        writer.add_rope_freq_base_swa(config.get("rope_local_base_freq", 10000.0))
        writer.add_sliding_window_pattern(config.get("_sliding_window_pattern") or config["sliding_window_pattern"])


def convert(args):
    with open(os.path.join(args.model, "config.json")) as file:
        config = json.load(file)
    arch = ARCHITECTURES.get(config["model_type"])
    if arch is None:
        fail(f"{args.model}: expected a model type of {', '.join(ARCHITECTURES)}, found {config['model_type']}.")
    names = gguf.get_tensor_name_map(arch, config["num_hidden_layers"])
    writer = gguf.GGUFWriter(args.out, gguf.MODEL_ARCH_NAMES[arch], use_temp_file=True)
    writer.add_file_type(TYPES[args.type][0])
    describe(writer, config, arch)
    for name, info, data in checkpoint(args.model):
        weights = widened(info["dtype"], data).reshape(info["shape"])
        new = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if new is None:
            fail(f"{args.model}: expected tensors of a {config['model_type']} model, found {name}.")
        if config.get("tie_word_embeddings") and new == "output.weight":
            continue
        if arch == MODEL_ARCH.LLAMA and (".attn_q." in new or ".attn_k." in new):
            heads = config["num_attention_heads"] if ".attn_q." in new else config["num_key_value_heads"]
            weights = interleaved(weights, heads)
        if arch == MODEL_ARCH.GEMMA3 and "norm" in new:
            weights = weights + 1  # Gemma's are stored less 1
        kind = Kind.F32 if weights.ndim == 1 else TYPES[args.type][1]
        writer.add_tensor(new, quantize(weights, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("out", metavar="FILE")
    parser.add_argument("--type", choices=TYPES, default="f32")
    guarded(convert, parser.parse_args())


if __name__ == "__main__":
    main()
