#!/usr/bin/env python3
"""Write the logits of an exported checkpoint in Transformers, to compare them with those of the encoded one in qins.

  python3 -m venv VENV && VENV/bin/pip install torch transformers safetensors
  cargo xtask convert --model MODEL --scheme q8 --targets all --out ENCODED
  cargo xtask export ENCODED --out PLAIN --dtype f32
  VENV/bin/python tools/export/logits.py PLAIN goldens.json LOGITS.safetensors
  QINS_EXPORT_ENCODED=ENCODED QINS_EXPORT_LOGITS=LOGITS.safetensors cargo test -p qins-tests transformers

goldens.json has {"prompts": [{"input_ids", "generated_ids"}]}, such as tests/fixtures/smollm2/goldens.json; each prompt is
read with up to 64 tokens of its continuation. The file holds for each the ids as `ids.N` and the logits of all positions,
in FP32 arithmetic, as `logits.N`.
"""
import json
import sys

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

plain, goldens, out = sys.argv[1:4]
model = AutoModelForCausalLM.from_pretrained(plain, dtype=torch.float32, attn_implementation="eager").eval()
tensors = {}
for n, prompt in enumerate(json.load(open(goldens))["prompts"]):
    continuation = prompt.get("generated_ids", prompt.get("generated", []))
    ids = torch.tensor([prompt["input_ids"] + continuation[:64]])
    with torch.no_grad():
        logits = model(ids).logits[0]
    tensors[f"ids.{n}"] = ids[0].to(torch.int32).contiguous()
    tensors[f"logits.{n}"] = logits.float().contiguous()
save_file(tensors, out)
print(f"{len(tensors) // 2} prompts")
