#!/usr/bin/env python3
"""Round a checkpoint's linears to a ggml type and back, so that `qins validate --candidate OUT` can compare it.

The linears of the blocks, and with --full the embedding and head too, are quantised and dequantised by the reference code of
llama.cpp's own `gguf` package and stored as float32; everything else is copied. These are the weights that llama.cpp multiplies
by; its rounding of activations is not included, so the figures are an upper bound of its fidelity.

  python3 -m venv VENV && VENV/bin/pip install numpy gguf safetensors ml_dtypes
  VENV/bin/python round_ggml.py MODEL OUT --type Q8_0          # Q8_0, Q5_0, Q4_0, ...: what gguf.quants can quantise
"""
import argparse, glob, json, os, shutil
import ml_dtypes, numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize
from safetensors.numpy import save_file

DTYPES = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}


def tensors(path):
    """Name and float32 values of each tensor of a safetensors file."""
    with open(path, "rb") as f:
        header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
        start = f.tell()
        for name, info in header.items():
            if name != "__metadata__":
                f.seek(start + info["data_offsets"][0])
                data = f.read(info["data_offsets"][1] - info["data_offsets"][0])
                yield name, np.frombuffer(data, DTYPES[info["dtype"]]).astype(np.float32).reshape(info["shape"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("out")
    parser.add_argument("--type", default="Q8_0")
    parser.add_argument("--full", action="store_true")
    args = parser.parse_args()
    kind = GGMLQuantizationType[args.type]
    os.makedirs(args.out)
    out, bits, weights = {}, 0, 0
    for path in sorted(glob.glob(os.path.join(args.model, "*.safetensors"))):
        for name, x in tensors(path):
            if x.ndim == 2 and (args.full or name.startswith("model.layers.")):
                packed = quantize(x, kind)
                bits, weights = bits + 8 * packed.nbytes, weights + x.size
                x = dequantize(packed, kind).reshape(x.shape)
            out[name] = np.ascontiguousarray(x, dtype=np.float32)
    save_file(out, os.path.join(args.out, "model.safetensors"), metadata={"format": "pt"})
    for path in glob.glob(os.path.join(args.model, "*.json")):
        if not path.endswith(".index.json"):
            shutil.copy(path, args.out)
    print(f"{args.type}: {weights:,} weights of {bits / weights:.3f} bits")


if __name__ == "__main__":
    main()
