#!/usr/bin/env python3
"""Compare the greedy token ids of Transformers, with encoded weights, with those of `qins generate` on the same directory.

  pip install ./python[transformers]
  cargo build -p qins
  tools/python/greedy.py target/debug/qins DIR PROMPTS.jsonl [--prompts N] [--new N]

DIR is an encoded checkpoint with its tokenizer; PROMPTS has a line `{"prompt": …}` or `{"input_ids": …}` for each text. The program continues
each; Transformers reads the whole in float32, and must choose the same token after each prefix: then its greedy text is the same. `generate`
itself continues the first text. Rust multiplies codes with activations of 16 bits, so a near-tie (a margin of the best logit below 0.01) may be
decided otherwise: such texts are counted, and end there. Any other difference is a fault, and the exit code 1.
"""
import argparse
import json
import pathlib
import resource
import subprocess
import sys
import tempfile

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import qins  # noqa: F401  (registers itself)

NEAR_TIE = 0.01


def rust_ids(program, folder, prompts, new):
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.writelines(json.dumps({"id": str(i), "input_ids": ids}) + "\n" for i, ids in enumerate(prompts))
        file.flush()
        options = ["--prompts", file.name, "--max-new-tokens", str(new), "--ignore-eos", "--json"]
        command = [program, "generate", "--model", folder, *options]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return [line["generated_ids"] for line in map(json.loads, lines) if "generated_ids" in line]


@torch.no_grad()
def choices(model, prompt, text):
    """What the model chooses after each prefix that ends within `text`, and by which margin of the best logit."""
    best = model(torch.tensor([prompt + text[:-1]])).logits[0, len(prompt) - 1 :].float().topk(2)
    return best.indices[:, 0].tolist(), (best.values[:, 0] - best.values[:, 1]).tolist()


def generated(model, prompt, new):
    inputs = torch.tensor([prompt])
    mask = torch.ones_like(inputs)
    return model.generate(inputs, attention_mask=mask, do_sample=False, max_new_tokens=new, min_new_tokens=new)[0, len(prompt) :].tolist()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("folder")
    parser.add_argument("prompts", type=pathlib.Path)
    parser.add_argument("--prompts", dest="count", type=int, default=24)
    parser.add_argument("--new", type=int, default=32)
    arguments = parser.parse_args()
    model = AutoModelForCausalLM.from_pretrained(arguments.folder, dtype=torch.float32, attn_implementation="eager")
    model.generation_config.eos_token_id = None
    tokenizer = AutoTokenizer.from_pretrained(arguments.folder)
    lines = [json.loads(line) for line in arguments.prompts.read_text().splitlines()[: arguments.count]]
    prompts = [line.get("input_ids") or tokenizer(line["prompt"])["input_ids"] for line in lines]
    there = rust_ids(arguments.program, arguments.folder, prompts, arguments.new)
    equal, ties, compared, faults = 0, 0, 0, []
    for ids, rust in zip(prompts, there, strict=True):
        made, margins = choices(model, ids, rust)
        assert len(made) == len(rust) == arguments.new
        at = next((step for step, pair in enumerate(zip(made, rust, strict=True)) if pair[0] != pair[1]), None)
        compared += arguments.new if at is None else at + 1
        equal += at is None
        if at is not None and margins[at] < NEAR_TIE:
            ties += 1
        elif at is not None:
            faults.append(f"expected {rust[at]} at step {at} of {ids}, found {made[at]} by a margin of {margins[at]:.3g}")
    first = generated(model, prompts[0], arguments.new) == there[0]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{arguments.folder}: {equal} of {len(prompts)} texts equal, {ties} end in a near-tie, {len(faults)} differ; {compared} tokens; "
          f"generate: {'equal' if first else 'other'}; peak {peak:.0f} MiB")
    print(*faults, sep="\n", end="\n" if faults else "")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
