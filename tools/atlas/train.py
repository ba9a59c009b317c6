"""Trains the model and saves it in bfloat16.

    python train.py --corpus corpus --out ../../crates/qins/assets/atlas --minutes 45

The learning rate follows a cosine over whichever of --minutes and --steps runs out first: on a
shared machine the schedule then ends on time. With --steps alone a run can be repeated exactly.
"""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import GenerationConfig, Phi3Config, Phi3ForCausalLM

SHARES = {"facts": 0.45, "glosses": 0.25, "prose": 0.30}
LENGTH, BATCH = 256, 8
WARMUP, DECAY = 0.02, 0.1


def configuration(tokenizer):
    stop = [tokenizer.token_to_id(t) for t in ("<|end|>", "<|endoftext|>")]
    pad = tokenizer.token_to_id("<|endoftext|>")
    model = Phi3Config(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=512,
        original_max_position_embeddings=512,
        rms_norm_eps=1e-5,
        sliding_window=None,
        tie_word_embeddings=False,
        use_cache=True,
        bos_token_id=None,
        eos_token_id=pad,
        pad_token_id=pad,
    )
    return model, GenerationConfig(eos_token_id=stop, pad_token_id=pad, do_sample=False)


def encode(tokenizer, path):
    """One source as rows of LENGTH + 1 tokens; its documents run on, as they did when packed."""
    documents = path.read_text("utf-8").split("<|endoftext|>")[:-1]
    end = tokenizer.token_to_id("<|endoftext|>")
    flat = []
    for encoding in tokenizer.encode_batch(documents):
        flat += encoding.ids + [end]
    rows = len(flat) // (LENGTH + 1)
    return np.array(flat[: rows * (LENGTH + 1)], dtype=np.int64).reshape(rows, LENGTH + 1)


def batches(sources, rng):
    """Endless batches: each row's source by its share, each source's rows without replacement."""

    def endless(rows):
        while True:
            yield from rows[rng.permutation(len(rows))]

    streams = [endless(rows) for rows in sources.values()]
    shares = [SHARES[name] for name in sources]
    while True:
        picks = rng.choice(len(streams), size=BATCH, p=shares)
        yield torch.from_numpy(np.stack([next(streams[i]) for i in picks]))


def rate(peak, progress):
    if progress < WARMUP:
        return peak * progress / WARMUP
    return peak * 0.5 * (1 + math.cos(math.pi * (progress - WARMUP) / (1 - WARMUP)))


def loss_of(model, rows, fast=False):
    with torch.autocast("cpu", torch.bfloat16, enabled=fast):
        logits = model(input_ids=rows[:, :-1], use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), rows[:, 1:].flatten())


@torch.no_grad()
def held_out_loss(model, rows):
    return sum(loss_of(model, b).item() * len(b) for b in rows.split(BATCH)) / len(rows)


def save(model, generation, out):
    """A bfloat16 copy, so that training goes on in float32."""
    copy = Phi3ForCausalLM(model.config)
    copy.load_state_dict(model.state_dict())
    copy.generation_config = generation
    copy.to(torch.bfloat16).save_pretrained(out)
    (Path(out) / "model.safetensors").chmod(0o644)  # it is written readable by its owner alone


def main():
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--corpus", required=True, type=Path)
    args.add_argument("--out", required=True, type=Path, help="folder with tokenizer.json; the model joins it")
    args.add_argument("--minutes", type=float, default=math.inf)
    args.add_argument("--steps", type=float, default=math.inf)
    args.add_argument("--save-every", type=float, default=10, help="minutes between checkpoints")
    args.add_argument("--bf16", action="store_true", help="bfloat16 matrix products, for processors that have them")
    args.add_argument("--peak", type=float, default=2.5e-3, help="highest learning rate")
    args.add_argument("--threads", type=int, help="one is fastest where other programs keep the cores busy")
    args.add_argument("--resume", action="store_true", help="go on from the model already in --out, on a new schedule")
    args.add_argument("--seed", type=int, default=1)
    args.add_argument("--compile", action="store_true", help="needs a C++ compiler")
    args = args.parse_args()
    if math.isinf(args.minutes) and math.isinf(args.steps):
        raise SystemExit("give --minutes or --steps")

    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    tokenizer = Tokenizer.from_file(str(args.out / "tokenizer.json"))
    sources = {name: encode(tokenizer, args.corpus / f"{name}.txt") for name in SHARES}
    held_out = torch.from_numpy(encode(tokenizer, args.corpus / "heldout.txt"))
    print({name: rows.size for name, rows in sources.items()}, "held out:", held_out.numel(), flush=True)

    config, generation = configuration(tokenizer)
    if args.resume:
        model = Phi3ForCausalLM.from_pretrained(args.out, dtype=torch.float32)
    else:
        model = Phi3ForCausalLM(config)
    print(f"{sum(p.numel() for p in model.parameters())} parameters", flush=True)
    run = torch.compile(model) if args.compile else model
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": DECAY},
            {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
        ],
        betas=(0.9, 0.98),
        fused=True,
    )

    start, saved, step, smooth = time.time(), time.time(), 0, None
    for rows in batches(sources, rng):
        minutes = (time.time() - start) / 60
        progress = max(minutes / args.minutes, step / args.steps)
        if progress >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = rate(args.peak, progress)
        loss = loss_of(run, rows, fast=args.bf16)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        step += 1
        smooth = loss.item() if smooth is None else 0.99 * smooth + 0.01 * loss.item()
        if step % 100 == 0:
            tokens = step * BATCH * LENGTH
            speed = tokens / (time.time() - start)
            print(f"step {step} tokens {tokens} minutes {minutes:.1f} loss {smooth:.3f} tokens/s {speed:.0f}", flush=True)
        if time.time() - saved > args.save_every * 60:
            save(model, generation, args.out)
            print(f"saved; held-out prose loss {held_out_loss(model, held_out):.3f}", flush=True)
            saved = time.time()

    save(model, generation, args.out)
    record = {
        "steps": step,
        "tokens": step * BATCH * LENGTH,
        "minutes": round((time.time() - start) / 60, 1),
        "loss": round(smooth, 3),
        "held_out_loss": round(held_out_loss(model, held_out), 3),
    }
    print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
