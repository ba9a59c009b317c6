#!/usr/bin/env python3
"""Small hostile or damaged inputs, each in a folder of tests/attacks with what the program must say.

usage: make_attacks.py            (no packages needed; writes into tests/attacks of this repository)

A folder has `attack.json`: "command", run where `model` is a copy of the fixture phi3/e_tied/f32, less the files "without", on which the
folder's other files were laid; and "says", parts of the one sentence on stderr that must come with exit code 2.
"""
import json, pathlib, shutil, struct

ROOT = pathlib.Path(__file__).resolve().parents[2]
FIXTURE = ROOT / "tests/fixtures/phi3/e_tied/f32"
OUT = ROOT / "tests/attacks"
GENERATE = "generate --model model --prompt-ids 5"
CONFIG = json.loads((FIXTURE / "config.json").read_text())


def attack(name, files, says, command=GENERATE, without=()):
    folder = OUT / name
    folder.mkdir(parents=True)
    for file, content in files.items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    (folder / "attack.json").write_text(json.dumps({"command": command, "without": without, "says": says}, indent=1) + "\n")


def config(**changes):
    return json.dumps({k: v for k, v in (CONFIG | changes).items() if v is not None})


def tensors(header, data=b"", length=None):
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(head) if length is None else length) + head + data


def floats(n):
    return struct.pack(f"<{n}f", *([0.5] * n))


TOKENIZER = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None, "pre_tokenizer": {"type": "Whitespace"},
             "post_processor": None, "decoder": None, "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "a"}}
CHAT = "chat --model model --max-new-tokens 1 --system b"


def template(text):
    return {"model/tokenizer.json": json.dumps(TOKENIZER), "model/tokenizer_config.json": json.dumps({"chat_template": text})}


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    m = "model/model.safetensors"
    # Shards.
    attack("shard-empty", {m: b""}, ["model.safetensors", "found"])
    attack("shard-header-of-exabytes", {m: tensors(b"{}", length=2**63 - 1)}, ["model.safetensors"])
    attack("shard-header-beyond-the-file", {m: tensors(b"{}", length=1000)}, ["model.safetensors"])
    attack("shard-header-is-a-list", {m: tensors(b"[]")}, ["model.safetensors"])
    attack("shard-header-is-no-text", {m: tensors(b"\xff\xfe\xfd\xfc")}, ["model.safetensors"])
    attack("shard-header-is-deep", {m: tensors(b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}")}, ["model.safetensors"])
    good = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
    attack("shard-tensors-overlap", {m: tensors({"a": good, "b": good | {"data_offsets": [8, 24]}}, floats(6))}, ["model.safetensors"])
    attack("shard-tensors-leave-a-gap", {m: tensors({"a": good, "b": good | {"data_offsets": [20, 36]}}, floats(9))}, ["model.safetensors"])
    attack("shard-offsets-run-backwards", {m: tensors({"a": good | {"data_offsets": [16, 0]}}, floats(4))}, ["model.safetensors"])
    attack("shard-shape-overflows", {m: tensors({"a": good | {"shape": [2**62, 8]}}, floats(4))}, ["model.safetensors"])
    attack("shard-shape-is-negative", {m: tensors({"a": good | {"shape": [-2, -2]}}, floats(4))}, ["model.safetensors"])
    attack("shard-of-unknown-type", {m: tensors({"a": good | {"dtype": "F31"}}, floats(4))}, ["model.safetensors"])
    attack("shard-with-more-than-its-header-says", {m: tensors({"a": good}, floats(5))}, ["model.safetensors"])
    # Indices.
    index = "model/model.safetensors.index.json"
    attack("index-leads-out", {index: json.dumps({"weight_map": {"a": "../../etc/passwd"}})}, ["../../etc/passwd"], without=[m])
    attack("index-of-nothing", {index: json.dumps({"weight_map": {}})}, ["model.safetensors.index.json"], without=[m])
    attack("index-names-a-missing-shard", {index: json.dumps({"weight_map": {"a": "other.safetensors"}})}, ["other.safetensors"], without=[m])
    # Configurations.
    c = "model/config.json"
    attack("config-empty", {c: ""}, ["config.json", "end of the file"])
    attack("config-cut", {c: config()[:100]}, ["config.json", "end of the file"])
    attack("config-with-a-byte-order-mark", {c: b"\xef\xbb\xbf" + config().encode()}, ["config.json", "byte order mark"])
    attack("config-with-nan", {c: config().replace("1e-05", "NaN")}, ["config.json", "rms_norm_eps", "NaN"])
    attack("config-says-it-twice", {c: config()[:-1] + ', "hidden_size": 64}'}, ["config.json", "hidden_size"])
    attack("config-of-a-billion-blocks", {c: config(num_hidden_layers=10**9)}, ["config.json", "num_hidden_layers"])
    attack("config-of-no-width", {c: config(hidden_size=0)}, ["config.json", "hidden_size"])
    attack("config-stops-at-minus-one", {c: config(eos_token_id=-1)}, ["config.json", "eos_token_id", "-1"])
    attack("config-rotates-by-infinity", {c: config(rope_parameters={"rope_theta": 1e300, "rope_type": "default"})}, ["config.json", "rope_theta"])
    attack("config-of-two-rotations", {c: config(rope_parameters={"rope_theta": 10000.0}, rope_theta=500000.0)}, ["config.json", "rope_theta"])
    attack("config-is-deep", {c: "[" * 5000 + "]" * 5000}, ["config.json"])
    attack("config-of-an-unknown-family", {c: config(model_type="mamba2")}, ["config.json", "mamba2"])
    attack("generation-config-is-a-list", {"model/generation_config.json": "[1]"}, ["generation_config.json"])
    attack("generation-config-stops-beyond-the-vocabulary", {"model/generation_config.json": '{"eos_token_id": [2, 4294967296]}'}, ["generation_config.json", "eos_token_id"])
    # Texts.
    ask = "generate --model model --prompt a"
    attack("tokenizer-cut", {"model/tokenizer.json": json.dumps(TOKENIZER)[:90]}, ["tokenizer.json"], ask)
    broken = json.dumps(TOKENIZER | {"decoder": {"type": "Fuse"}}).replace('"type": "Fuse"', '"type"; "Fuse"')
    attack("tokenizer-with-a-broken-decoder", {"model/tokenizer.json": broken}, ["tokenizer.json"], ask)
    attack("tokenizer-without-a-vocabulary", {"model/tokenizer.json": "{}"}, ["tokenizer.json"], ask)
    attack("template-never-ends", template("{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}"), ["tokenizer_config.json", "chat_template"], CHAT)
    attack("template-calls-itself", template("{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}"), ["tokenizer_config.json", "chat_template"], CHAT)
    attack("template-is-open", template("{% for m in messages %}"), ["tokenizer_config.json", "chat_template"], CHAT)
    attack("template-refuses", template("{{ raise_exception('no system messages') }}"), ["tokenizer_config.json", "no system messages"], CHAT)
    # Prompts.
    p = "generate --model model --prompts attack.jsonl"
    attack("prompts-misspelt", {"attack.jsonl": '{"input_ids": [5], "max_tokens": 3}\n'}, ["attack.jsonl:1", "max_tokens"], p)
    attack("prompts-beyond-the-vocabulary", {"attack.jsonl": '{"input_ids": [5]}\n\n{"input_ids": [4294967295]}\n'}, ["attack.jsonl:3", "4294967295"], p)
    attack("prompts-of-two-kinds", {"attack.jsonl": '{"input_ids": [5], "prompt": "a"}\n'}, ["attack.jsonl:1"], p)
    attack("prompts-in-utf-16", {"attack.jsonl": '{"input_ids": [5]}\n'.encode("utf-16")}, ["attack.jsonl"], p)
    attack("prompts-empty", {"attack.jsonl": ""}, ["attack.jsonl"], p)


main()
