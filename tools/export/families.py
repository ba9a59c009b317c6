#!/usr/bin/env python3
"""Convert, verify and export a tiny model of every family in three schemes, and compare Transformers' greedy ids on the export with qins's.

  python3 -m venv VENV && VENV/bin/pip install torch transformers safetensors
  cargo build -p qins
  VENV/bin/python tools/export/families.py target/debug/qins

For each model of tests/fixtures/families and each of `lossless`, `q8` and `q4` of every linear: `convert`, `verify --against` its source,
`export`; then Transformers continues the three prompts of the fixture by 48 tokens from the exported files. Those ids must equal the ones of
`qins generate` on the export and on the encoded checkpoint, and with `lossless` the ones that the fixture records. Codes are multiplied with
activations of 16 bits, so the encoded checkpoint may decide a near-tie (a logit margin below 0.01) otherwise: such texts are counted.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import torch
import transformers
from transformers import AutoModelForCausalLM

FIXTURES = pathlib.Path(__file__).parents[2] / "tests/fixtures/families"
NEAR_TIE = 0.01
NEW = 48


def qins(program, *arguments):
    return subprocess.run([program, *map(str, arguments)], check=True, capture_output=True, text=True).stdout


def qins_ids(program, model, prompts):
    output = qins(program, "generate", "--model", model, "--prompts", prompts, "--max-new-tokens", NEW, "--ignore-eos", "--json")
    return [line["generated_ids"] for line in map(json.loads, output.splitlines()) if "generated_ids" in line]


@torch.no_grad()
def transformers_ids(folder, prompts):
    """The ids of each prompt, and the margin of the best logit at each step."""
    model, report = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    wrong = {kind: names for kind, names in report.items() if names}
    assert not wrong, f"{folder}: {wrong}"
    model.generation_config.eos_token_id = None
    texts = []
    for ids in prompts:
        inputs = torch.tensor([ids])
        made = model.generate(inputs, attention_mask=torch.ones_like(inputs), do_sample=False, max_new_tokens=NEW, min_new_tokens=NEW,
                              output_logits=True, return_dict_in_generate=True)
        best = torch.cat(made.logits).topk(2).values
        texts.append((made.sequences[0, len(ids):].tolist(), (best[:, 0] - best[:, 1]).tolist()))
    return texts


def compare(program, fixture, scheme, home):
    encoded, plain, prompts = home / "encoded", home / "plain", home / "prompts.jsonl"
    goldens = json.loads((fixture / "goldens.json").read_text())["prompts"]
    inputs = [golden["input_ids"] for golden in goldens]
    prompts.write_text("".join(json.dumps({"id": str(i), "input_ids": ids}) + "\n" for i, ids in enumerate(inputs)))
    qins(program, "convert", "--model", fixture, "--scheme", scheme, "--targets", "full", "--out", encoded)
    found = json.loads(qins(program, "verify", encoded, "--against", fixture, "--json"))
    assert found["ok"] and found["modules"], found
    qins(program, "export", encoded, "--out", plain)
    texts = transformers_ids(plain, inputs)
    recorded = [golden["generated"] for golden in goldens]
    exported = qins_ids(program, plain, prompts)
    faults, equal, ties = [], 0, 0
    for i, ((ids, margins), here, there) in enumerate(zip(texts, qins_ids(program, encoded, prompts), exported, strict=True)):
        if there != ids:
            faults.append(f"prompt {i}: qins on the export differs")
        if scheme == "lossless" and ids != recorded[i]:
            faults.append(f"prompt {i}: differs from the fixture")
        at = next((step for step, (a, b) in enumerate(zip(ids, here, strict=True)) if a != b), None)
        equal += NEW if at is None else at
        if at is not None and margins[at] < NEAR_TIE:
            ties += 1
        elif at is not None:
            faults.append(f"prompt {i}: the encoded checkpoint differs at step {at}, by a margin of {margins[at]:.3g}")
    return faults, equal, ties


def main(program):
    print(f"Transformers {transformers.__version__}, torch {torch.__version__}")
    count = failed = 0
    for fixture in sorted(path for path in FIXTURES.iterdir() if path.is_dir()):
        for scheme in ("lossless", "q8", "q4"):
            with tempfile.TemporaryDirectory() as home:
                faults, equal, ties = compare(program, fixture, scheme, pathlib.Path(home))
            print(f"{fixture.name:16} {scheme:9} {equal} equal ids, {ties} near-ties", *faults, sep="; ", flush=True)
            count += 1
            failed += bool(faults)
    print(f"{count - failed} of {count} equal")
    return failed > 0 or count == 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) if len(sys.argv) == 2 else __doc__)
