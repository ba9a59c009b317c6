"""Writes Transformers' continuations and logits: goldens.json, goldens.safetensors and prompts.jsonl.

    python goldens.py --model ../../crates/qins/assets/atlas
"""

import argparse
import json
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file

from evaluate import load
from prompts import GOLDEN, LOGITS, MORE

NEW_TOKENS = 64
CLEAR = 0.001  # a nearer second might win under another order of additions


def rows(table):
    for category, prompts in table.items():
        for prompt in prompts:
            yield category, prompt


def golden(model, tokenizer, prompt):
    ids = tokenizer.encode(prompt).ids
    inputs = torch.tensor([ids])
    out = model.generate(
        inputs,
        attention_mask=torch.ones_like(inputs),
        max_new_tokens=NEW_TOKENS,
        return_dict_in_generate=True,
        output_logits=True,
    )
    new = out.sequences[0, len(ids) :].tolist()
    top = torch.cat(out.logits).topk(2).values
    return {
        "prompt": prompt,
        "input_ids": ids,
        "generated_ids": new,
        "stop": "eos" if new[-1] in model.generation_config.eos_token_id else "length",
        "text": tokenizer.decode(new, skip_special_tokens=True),
        "margin": [round(m, 5) for m in (top[:, 0] - top[:, 1]).tolist()],
        "max_new_tokens": NEW_TOKENS,
    }


def line(value):
    return json.dumps(value, ensure_ascii=False)


@torch.inference_mode()
def main():
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--model", required=True, type=Path)
    args = args.parse_args()
    model, tokenizer = load(args.model)

    # Ids count within a category, golden prompts first.
    seen, goldens, listed, logits = {}, [], [], {}
    for table in (GOLDEN, MORE):
        for category, prompt in rows(table):
            seen[category] = seen.get(category, 0) + 1
            name = f"{category}-{seen[category]:02}"
            listed.append({"id": name, "prompt": prompt, "category": category, "max_new_tokens": NEW_TOKENS})
            if table is GOLDEN:
                goldens.append({"id": name, "category": category, **golden(model, tokenizer, prompt)})
            if name in LOGITS:
                ids = torch.tensor([tokenizer.encode(prompt).ids])
                logits[f"{name}.logits"] = model(ids).logits[0].contiguous()

    assert all(min(g["margin"]) >= CLEAR for g in goldens), "too close to call: choose another prompt"
    meta = {
        "torch": torch.__version__.split("+")[0],
        "transformers": transformers.__version__,
        "dtype": "float32",
        "attention": "eager",
        "decoding": "greedy",
        "eos_token_ids": model.generation_config.eos_token_id,
    }
    body = ",\n".join("  " + line(g) for g in goldens)
    text = f'{{\n "meta": {line(meta)},\n "goldens": [\n{body}\n ]\n}}\n'
    (args.model / "goldens.json").write_text(text, "utf-8")
    (args.model / "prompts.jsonl").write_text("".join(line(p) + "\n" for p in listed), "utf-8")
    save_file(logits, args.model / "goldens.safetensors")
    (args.model / "goldens.safetensors").chmod(0o644)  # it is written readable by its owner alone
    print({name: list(l.shape) for name, l in logits.items()})
    for g in goldens:
        print(f"{g['id']} {g['stop']} least margin {min(g['margin']):.4f} {g['prompt']!r} -> {g['text']!r}")


if __name__ == "__main__":
    main()
