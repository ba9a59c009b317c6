"""The run of the report that this project began with: do the greedy texts of a model stay the same when its weights are encoded?

    python python/examples/plain_against_encoded.py crates/qins/assets/atlas --scheme q8 --targets safe

Reads a plain model directory in Transformers, encodes its linears, and continues a few prompts with both. A control has its weights in three
bits: where its texts are all the same too, the prompts tell nothing.
"""

# %% Arguments
import argparse
import json
import pathlib

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import qins

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model", type=pathlib.Path)
parser.add_argument("--scheme", default="q8")
parser.add_argument("--targets", default="safe")
parser.add_argument("--prompts", type=pathlib.Path, help='lines of {"prompt": …}; by default those beside the model, or three')
parser.add_argument("--count", type=int, default=8)
parser.add_argument("--new", type=int, default=32)
arguments = parser.parse_args()

# %% The prompts
file = arguments.prompts or arguments.model / "prompts.jsonl"
if file.exists():
    prompts = [json.loads(line)["prompt"] for line in file.read_text().splitlines()[: arguments.count]]
else:
    prompts = ["The capital of France is", "Once upon a time", "def fibonacci(n):"]
tokenizer = AutoTokenizer.from_pretrained(arguments.model)


# %% Greedy texts
@torch.no_grad()
def texts(model):
    made = []
    for prompt in prompts:
        inputs = tokenizer(prompt, return_tensors="pt")
        ids = model.generate(**inputs, max_new_tokens=arguments.new, do_sample=False)
        made.append(ids[0, inputs["input_ids"].shape[1] :].tolist())
    return made


def plain():
    return AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.bfloat16).float()


# %% The plain model, the encoded one, and the control
expected = texts(plain())
for scheme, targets in [(arguments.scheme, arguments.targets), ("q3", "full")]:
    model = qins.convert_linear_to_qins(plain(), scheme, targets)
    found = texts(model)
    equal = sum(a == b for a, b in zip(expected, found, strict=True))
    tokens = sum(len(ids) for ids in expected)
    match = sum(x == y for a, b in zip(expected, found, strict=True) for x, y in zip(a, b))  # noqa: B905  (one may end earlier)
    print(f"{scheme}, {targets}: {equal} of {len(prompts)} texts equal, {match} of {tokens} tokens at the same place")
    for prompt, a, b in zip(prompts, expected, found, strict=True):
        if a != b:
            print(f"  {prompt!r}\n    plain   {tokenizer.decode(a)!r}\n    encoded {tokenizer.decode(b)!r}")
