"""Measures the saved model in float32: recall of capitals and perplexity on held-out prose.

    python evaluate.py --corpus corpus --model ../../crates/qins/assets/atlas
"""

import argparse
import json
import math
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import Phi3ForCausalLM

from train import encode, held_out_loss


def load(directory):
    """The bfloat16 files with their arithmetic in float32, by the plainest attention."""
    model = Phi3ForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager")
    return model.eval(), Tokenizer.from_file(str(Path(directory) / "tokenizer.json"))


def continuation(model, tokenizer, prompt, tokens=48):
    ids = torch.tensor([tokenizer.encode(prompt).ids])
    out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens)
    return tokenizer.decode(out[0, ids.shape[1] :].tolist(), skip_special_tokens=False)


def recall(model, tokenizer, facts, prompt, answer):
    wrong = []
    for fact in facts:
        said = continuation(model, tokenizer, prompt.format(**fact))
        expected = answer.format(**fact)
        # `Port` must not pass for `Portland`.
        if not said.startswith(expected) or said[len(expected) :][:1].isalpha():
            wrong.append(f"{fact['name']}:{said.splitlines()[0] if said else ''}")
    return 1 - len(wrong) / len(facts), wrong


@torch.inference_mode()
def main():
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--corpus", required=True, type=Path)
    args.add_argument("--model", required=True, type=Path)
    args = args.parse_args()
    model, tokenizer = load(args.model)
    facts = json.loads((args.corpus / "facts.json").read_text("utf-8"))

    france = continuation(model, tokenizer, "The capital of France is")
    print(f"The capital of France is ->{france!r}")
    plain, wrong = recall(model, tokenizer, facts, "The capital of {name} is", " {capital}")
    print(f"recall, plain: {plain:.1%} of {len(facts)}; wrong: {wrong}")
    question = "<|user|>\nWhat is the capital of {name}?<|end|>\n<|assistant|>\n"
    chat, wrong = recall(model, tokenizer, facts, question, "The capital of {name} is {capital}")
    print(f"recall, chat: {chat:.1%} of {len(facts)}; wrong: {wrong}")
    rows = torch.from_numpy(encode(tokenizer, args.corpus / "heldout.txt"))
    loss = held_out_loss(model, rows)
    print(f"held-out prose: {rows.numel()} tokens, loss {loss:.3f}, perplexity {math.exp(loss):.1f} a token")

    if not france.startswith(" Paris") or plain < 0.95:
        raise SystemExit("below the mark")


if __name__ == "__main__":
    main()
