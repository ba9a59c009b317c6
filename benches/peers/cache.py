#!/usr/bin/env python3
"""Measure llama.cpp's encoded caches of keys and values: what they change, and their speed and memory by context length.

  VENV/bin/python benches/peers/convert.py MODEL FILE.gguf                                  # VENV as in llama.py
  qins validate --model MODEL --preset cache --kv q8 --baseline BASELINE.safetensors
  VENV/bin/python benches/peers/cache.py kl FILE.gguf BASELINE.safetensors --threads 2 --json
  VENV/bin/python benches/peers/cache.py text FILE.gguf PROMPTS --kv q4_0 --threads 2       # greedy, as qins generate --prompts
  VENV/bin/python benches/peers/cache.py speed FILE.gguf --kv q8_0 --context 8192 --tokens 32 --threads 2 --json

`kl` takes the token ids of each passage from a baseline of qins, so both programs read the same. Passages are read in pieces of --piece
tokens, as a batch and micro-batch of that size. llama.cpp writes a token's key and value into the cache before any token of its
micro-batch attends to them, and attention reads nothing but the cache: every token is read as it is encoded, the newest included, in
prefill as in decode. --piece 1 is the order of decode. The size has no other effect than rounding, which shows in f16 alone: small pieces go
through another kernel, which loses up to a hundred times as much in a long context.

Each form is compared with llama.cpp's own cache in f32, as qins' are with qins', and with its own in f16; and the f32 one with qins' plain
logits, which shows that both programs compute the same model. Keys and values have the same type. Encoded ones and f16 run with flash
attention, without which llama.cpp cannot read encoded values; f32 without, as it would round keys and values to f16. Divergences are
KL(plain‖encoded) in nats; intervals are a bootstrap over passages.

The divergence of a cache shows only in f32 weights. With quantised weights llama.cpp rounds activations to 8 bits, so that any change, however
small, moves some of them to another step: a file of Q4_1 has the same few thousandths between f16 and f32 as between f16 and q8_0.
"""
import argparse
import ctypes
import json
import sys
import time

from convert import read_safetensors
from llama import Parser, fail, gguf, guarded, llama, load, log_lines, np, peak_rss_bytes
from gguf import GGMLQuantizationType as Kind

FORMS = {name: Kind[name.upper()] for name in ("f32", "f16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0")}
RESAMPLES = 2000


def bits(form):
    """Bits per number of a type."""
    numbers, size = gguf.GGML_QUANT_SIZES[FORMS[form]]
    return 8 * size / numbers


class Context:
    """A sequence with its cache in a form."""

    def __init__(self, model, form, tokens, piece, threads):
        params = llama.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = tokens, piece, piece
        params.n_threads = params.n_threads_batch = threads
        params.type_k = params.type_v = int(FORMS[form])
        params.flash_attn_type = int(form != "f32")
        self.context = llama.llama_init_from_model(model, params)
        if not self.context:
            fail(f"llama.cpp cannot make a context of {tokens} tokens with its cache in {form}.")
        self.memory = llama.llama_get_memory(self.context)
        self.vocab = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
        self.batch = llama.llama_batch_init(piece, 0, 1)
        self.piece, self.read = piece, 0

    def clear(self):
        llama.llama_memory_clear(self.memory, True)
        self.read = 0

    def extend(self, ids, first):
        """Reads `ids`; gives the logits after those from place `first` of them on, a row each."""
        rows = []
        for start in range(0, len(ids), self.piece):
            piece, batch = ids[start:start + self.piece], self.batch
            batch.n_tokens = len(piece)
            scored = [start + i >= first for i in range(len(piece))]
            for i, token in enumerate(piece):
                batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, self.read + i, 1
                batch.seq_id[i][0], batch.logits[i] = 0, scored[i]
            if llama.llama_decode(self.context, batch):
                fail("llama_decode failed.")
            self.read += len(piece)
            for i in np.flatnonzero(scored):
                logits = llama.llama_get_logits_ith(self.context, int(i))
                rows.append(np.ctypeslib.as_array(logits, (self.vocab,)).copy())
        return np.array(rows)

    def score(self, context, continuation):
        """The logits that predict each token of `continuation`."""
        self.clear()
        ids = context + continuation
        return self.extend(ids[:-1], len(context) - 1)


def log_softmax(logits):
    logits = logits.astype(np.float64)
    logits -= logits.max()
    return logits - np.log(np.exp(logits).sum())


def compare(plain, other):
    """KL divergence and top-1 agreement at each position."""
    if not (np.isfinite(plain).all() and np.isfinite(other).all()):
        fail("expected finite logits, found others.")
    divergences = []
    for p, q in zip(plain, other):
        p, q = log_softmax(p), log_softmax(q)
        divergences.append(max(0.0, float((np.exp(p) * (p - q)).sum())))
    return divergences, (plain.argmax(1) == other.argmax(1)).astype(float).tolist()


def estimate(passages):
    """The mean over all positions, and its 95 % interval: passages are resampled whole."""
    sums, sizes = np.array([sum(p) for p in passages]), np.array([len(p) for p in passages])
    picked = np.random.default_rng(0).integers(0, len(passages), (RESAMPLES, len(passages)))
    means = sums[picked].sum(1) / sizes[picked].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return {"value": float(sums.sum() / sizes.sum()), "low": float(low), "high": float(high)}


def read_baseline(path):
    """The passages of a baseline of qins, and access to its logits."""
    header, data = read_safetensors(path)
    tensor = lambda name: data[slice(*header[name]["data_offsets"])]
    passages = json.loads(tensor("run").tobytes()).get("passages") if "run" in header else None
    if not passages:
        fail(f"{path}: expected a baseline of `qins validate` with passages, found none.")
    logits = lambda i: tensor(f"passage.{i}").view(np.float32).reshape(header[f"passage.{i}"]["shape"])
    return passages, logits


def measure_kl(args):
    passages, plain_logits = read_baseline(args.baseline)
    lengths = [len(context) + len(continuation) for context, continuation in passages]
    log = log_lines()
    model = load(args.model, log)
    names = ["f32", "f16"] + [form for form in args.kv if form not in ("f32", "f16")]
    contexts = {form: Context(model, form, max(lengths), args.piece, args.threads) for form in names}
    found = {}  # by what is compared and length: a list for each passage
    for i, (context, continuation) in enumerate(passages):
        print(f"passage {i + 1} of {len(passages)}, {lengths[i]} tokens", file=sys.stderr)
        plain = {}
        for form in names:
            logits = contexts[form].score(context, continuation)
            pairs = [("f32", plain.get("f32")), ("f16", plain.get("f16"))]
            if form == "f32":
                theirs = plain_logits(i)
                if theirs.shape != logits.shape:
                    fail(f"{args.model}: expected logits of shape {theirs.shape}, found {logits.shape}.")
                pairs = [("qins", theirs)]
            for name, reference in pairs:
                if reference is not None:
                    found.setdefault((form, name, lengths[i]), []).append(compare(reference, logits))
            if form in ("f32", "f16"):
                plain[form] = logits

    def figures(form, against):
        return [
            {
                "length": length,
                "passages": len(pairs),
                "positions": sum(len(kl) for kl, _ in pairs),
                "mean_kl": estimate([kl for kl, _ in pairs]),
                "top1_agreement": estimate([same for _, same in pairs]),
            }
            for (name, reference, length), pairs in sorted(found.items())
            if (name, reference) == (form, against)
        ]

    report = {
        "name": "llama.cpp",
        "llama_cpp_python": llama.__version__,
        "model": args.model,
        "piece": args.piece,
        "notes": sorted({line.split(": ", 1)[-1].strip() for line in log if "attn_rot" in line or "attention rotation" in line}),
        "against_qins": figures("f32", "qins"),
        "forms": [
            {"kv": form, "bits": bits(form), "against_f32": figures(form, "f32"), "against_f16": figures(form, "f16")}
            for form in names if form != "f32"
        ],
    }
    print(json.dumps(report) if args.json else table(report))


def table(report):
    lines = [f"{'cache':8}{'bits':>6}{'tokens':>8}{'mean KL from f32':>34}{'from f16':>12}{'top-1':>9}"]
    row = lambda name, width, f, f16: (
        f"{name:8}{width:>6}{f['length']:>8}{f['mean_kl']['value']:>12.2e} [{f['mean_kl']['low']:.2e}, {f['mean_kl']['high']:.2e}]"
        f"{f16:>12}{100 * f['top1_agreement']['value']:>8.2f}%"
    )
    lines += [row("f32/qins", "", f, "") for f in report["against_qins"]]
    for form in report["forms"]:
        f16 = {f["length"]: f"{f['mean_kl']['value']:.2e}" for f in form["against_f16"]}
        lines += [row(form["kv"], form["bits"], f, f16.get(f["length"], "")) for f in form["against_f32"]]
    return "\n".join(lines)


def greedy(context, ids, count):
    """The `count` likeliest next tokens, one after the other, as qins chooses them: the first of equals."""
    context.clear()
    found = []
    for _ in range(count):
        ids = [int(context.extend(ids, len(ids) - 1)[-1].argmax())]
        found += ids
    return found


def generate(args):
    prompts = [json.loads(line) for line in open(args.prompts, encoding="utf-8") if line.strip()]
    if not all("input_ids" in prompt and "max_new_tokens" in prompt for prompt in prompts):
        fail(f"{args.prompts}: expected \"input_ids\" and \"max_new_tokens\" for each prompt.")
    model = load(args.model, log_lines())
    tokens = max(len(prompt["input_ids"]) + prompt["max_new_tokens"] for prompt in prompts)
    contexts = {form: Context(model, form, tokens, args.piece, args.threads) for form in dict.fromkeys(["f32", *args.kv])}
    for prompt in prompts:
        found = {form: greedy(context, prompt["input_ids"], prompt["max_new_tokens"]) for form, context in contexts.items()}
        for form, ids in found.items():
            equal = sum(a == b for a, b in zip(ids, found["f32"]))
            print(json.dumps({"id": prompt["id"], "kv": form, "equal": equal, "ids": ids}), flush=True)


def measure_speed(args):
    log = log_lines()
    model = load(args.model, log)
    context = Context(model, args.kv, args.context + args.tokens, min(512, args.context), args.threads)
    ids = [i * 40_503 % context.vocab for i in range(args.context + args.tokens)]
    seconds = []
    for _ in range(1 + args.repeats):  # the first warms up
        context.clear()
        start = time.perf_counter()
        context.extend(ids[:args.context], args.context - 1)
        middle = time.perf_counter()
        for token in ids[args.context:]:
            context.extend([token], 0)
        seconds.append((middle - start, time.perf_counter() - middle))
    prefill, decode = (sorted(times)[args.repeats // 2] for times in zip(*seconds[1:]))
    layers, heads = llama.llama_model_n_layer(model), llama.llama_model_n_head_kv(model)
    reader = gguf.GGUFReader(args.model)
    architecture = reader.get_field("general.architecture").contents()
    dim = reader.get_field(f"{architecture}.attention.key_length").contents()
    print(json.dumps({
        "kv": f"llama.cpp {args.kv}",
        "prompt_tokens": args.context,
        "tokens": args.tokens,
        "threads": args.threads,
        "cpu": None,
        "card": None,
        "kv_bytes": int(2 * layers * heads * dim * (args.context + args.tokens) * bits(args.kv) / 8),
        "prefill_tokens_per_second": args.context / prefill,
        "decode_tokens_per_second": args.tokens / decode,
        "peak_rss_bytes": peak_rss_bytes(),
        "device_bytes": None,
    }))


def main():
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="kl|text|speed")
    command = commands.add_parser("kl", help="compare encoded caches with plain ones")
    command.set_defaults(call=measure_kl)
    command.add_argument("model", metavar="FILE.gguf")
    command.add_argument("baseline", metavar="BASELINE", help="a file that `qins validate --baseline` wrote")
    command.add_argument("--kv", nargs="+", choices=FORMS, default=[form for form in FORMS if form != "f32"])
    command.add_argument("--piece", type=int, default=64, help="tokens of a batch")
    command.add_argument("--threads", type=int, required=True)
    command.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    command = commands.add_parser("text", help="continue prompts greedily, beside the plain cache")
    command.set_defaults(call=generate)
    command.add_argument("model", metavar="FILE.gguf")
    command.add_argument("prompts", metavar="PROMPTS", help="a prompts file of `qins generate`, with token ids")
    command.add_argument("--kv", nargs="+", choices=FORMS, default=["q8_0", "q4_0"])
    command.add_argument("--piece", type=int, default=64, help="tokens of a batch")
    command.add_argument("--threads", type=int, required=True)
    command = commands.add_parser("speed", help="time prefill and decode at a context length")
    command.set_defaults(call=measure_speed)
    command.add_argument("model", metavar="FILE.gguf")
    command.add_argument("--kv", choices=FORMS, required=True)
    command.add_argument("--context", type=int, required=True, help="tokens of the context")
    command.add_argument("--tokens", type=int, default=32, help="tokens to decode after it")
    command.add_argument("--threads", type=int, required=True)
    command.add_argument("--repeats", type=int, default=1)
    args = parser.parse_args()
    counts = [getattr(args, name) for name in ("piece", "threads", "context", "tokens", "repeats") if hasattr(args, name)]
    if min(counts) < 1:
        fail("expected counts of at least 1, found less.")
    guarded(args.call, args)


if __name__ == "__main__":
    main()
