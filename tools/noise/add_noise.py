#!/usr/bin/env python3
"""Copy a checkpoint in bf16 with noise added to the weights of its linears, as a model to be judged against itself.

Checkpoints that were made from 4- to 8-bit files have weights on or near a grid, which favours whichever format hits that grid
again. With noise they are on none.

  python3 -m venv VENV && VENV/bin/pip install numpy
  VENV/bin/python add_noise.py --decibels -30 MODEL OUT    # Gaussian, 30 dB below the weights of each tensor
  VENV/bin/python add_noise.py --step MODEL OUT            # uniform, as wide as the step of each group of 32 weights

The step of a group is the least distance of two of its weights that is more than 1/40 of the largest magnitude: that of a linear grid of
up to 5 bits. All matrices in blocks get noise; embeddings, heads and vectors do not. The seed is fixed: the same input gives the same bytes.
"""
import argparse, json, os, shutil, struct, sys
import numpy as np


def bf16_bits(x):
    """Round float32 to bf16, to nearest even; the bits as uint16."""
    b = np.ascontiguousarray(x, dtype=np.float32).view(np.uint32)
    return ((b + 0x7FFF + ((b >> 16) & 1)) >> 16).astype(np.uint16)


def steps(w):
    """The step of the grid of each group of 32 weights along the rows, for every weight."""
    rows, cols = w.shape
    groups = np.sort(w.reshape(rows, cols // 32, 32).astype(np.float64), axis=2)
    gaps = np.diff(groups, axis=2)
    largest = np.abs(groups).max(axis=2, keepdims=True)
    gaps[gaps <= largest / 40] = np.inf
    step = gaps.min(axis=2, keepdims=True)
    step[~np.isfinite(step)] = 0.0
    return np.repeat(step, 32, axis=2).reshape(rows, cols)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--decibels", type=float)
    kind.add_argument("--step", action="store_true")
    parser.add_argument("model")
    parser.add_argument("out")
    args = parser.parse_args()
    os.makedirs(args.out)
    random = np.random.default_rng(2026)
    for name in sorted(os.listdir(args.model)):
        path, to = os.path.join(args.model, name), os.path.join(args.out, name)
        if not name.endswith(".safetensors"):
            if os.path.isfile(path):
                shutil.copyfile(path, to)
            continue
        data = bytearray(open(path, "rb").read())
        length, = struct.unpack("<Q", data[:8])
        header = json.loads(data[8:8 + length])
        for tensor, info in sorted(header.items()):
            if tensor == "__metadata__" or len(info["shape"]) != 2 or ".layers." not in tensor:
                continue
            if info["dtype"] != "BF16":
                sys.exit(f"{path}: {tensor}: expected BF16, found {info['dtype']}")
            first, last = (8 + length + at for at in info["data_offsets"])
            bits = np.frombuffer(data[first:last], dtype=np.uint16).astype(np.uint32) << 16
            w = bits.view(np.float32).reshape(info["shape"])
            if args.step:
                noise = random.uniform(-0.5, 0.5, w.shape) * steps(w)
            else:
                noise = random.normal(0.0, np.sqrt((w.astype(np.float64) ** 2).mean()) * 10 ** (args.decibels / 20), w.shape)
            data[first:last] = bf16_bits(w + noise).tobytes()
            db = 10 * np.log10((w.astype(np.float64) ** 2).mean() / (noise ** 2).mean())
            print(f"{tensor}: {db:.1f} dB", file=sys.stderr)
        open(to, "wb").write(data)


if __name__ == "__main__":
    main()
