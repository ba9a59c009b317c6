#!/usr/bin/env python3
"""Round a checkpoint's linears to types of llama.cpp and back, so that `qins validate --candidate OUT/TYPE@BITS` can judge them.

  VENV/bin/python benches/peers/round_ggml.py MODEL OUT --types Q8_0,Q4_K,IQ4_XS             # VENV as in llama.py
  qins importance --model MODEL --out importance.safetensors
  VENV/bin/python benches/peers/round_ggml.py MODEL OUT --types Q4_K,IQ4_XS --importance importance.safetensors

The linears of the blocks, and with --full the embedding and head too, are quantised by llama.cpp itself (`ggml_quantize_chunk` of the library
in llama-cpp-python), with --importance by its importance matrix, and dequantised by its `gguf` package. They are stored as float32;
everything else is copied. These are the weights that llama.cpp multiplies by; its rounding of activations is not included, so the figures
are an upper bound of its fidelity.

Each type is written to OUT/TYPE, with an importance matrix to OUT/TYPE-imatrix, and its directory and bits are printed as DIR@BITS. Types with
blocks of 256 weights take rows of a multiple of that only: other rows are padded with zeros, which are removed again, and the bits are
those of the type, without the padding's. (llama.cpp itself stores such rows in another type, of more bits.)
"""
import argparse
import ctypes
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

from convert import checkpoint, read_safetensors, widened
from llama import Parser, fail, gguf, guarded, np
from gguf import GGMLQuantizationType as Kind
from gguf.quants import dequantize
from llama_cpp._ggml import libggml
from safetensors import TensorSpec, serialize_file

# What safetensors calls its types in Python.
DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}

POINTER, INT = ctypes.c_void_p, ctypes.c_int64
libggml.ggml_quantize_chunk.argtypes = [ctypes.c_int, POINTER, POINTER, INT, INT, INT, POINTER]
libggml.ggml_quantize_chunk.restype = ctypes.c_size_t
libggml.ggml_quantize_requires_imatrix.restype = ctypes.c_bool


def quantised(weights, kind, importance, threads):
    """The bytes of a matrix, a row each, that is padded to a multiple of the type's block."""
    (rows, columns), (block, size) = weights.shape, gguf.GGML_QUANT_SIZES[kind]
    padding = -columns % block
    weights = np.ascontiguousarray(np.pad(weights, ((0, 0), (0, padding))))
    columns += padding
    out = np.empty((rows, columns // block * size), np.uint8)
    if importance is not None:
        importance = np.pad(importance, (0, padding))

    def band(first, last):
        start = first * columns
        written = libggml.ggml_quantize_chunk(kind, weights.ctypes.data, out.ctypes.data, start, last - first, columns,
                                              None if importance is None else importance.ctypes.data)
        if written != out[first:last].nbytes:
            fail(f"{kind.name}: expected {out[first:last].nbytes} bytes for {last - first} rows, found {written}.")

    ends = np.linspace(0, rows, threads + 1).astype(int)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(band, ends[:-1], ends[1:]))
    return out


def rounded(weights, kind, importance, threads):
    """A matrix as it is after being quantised."""
    decoded = dequantize(quantised(weights, kind, importance, threads), kind)[:, :weights.shape[1]]
    if not np.isfinite(decoded).all():
        fail(f"{kind.name}: expected finite weights, found others.")
    return np.ascontiguousarray(decoded, np.float32)


def importances(path):
    """The importance of each column of each matrix in a file of `qins importance`."""
    header, data = read_safetensors(path)
    return {name: widened(info["dtype"], data[slice(*info["data_offsets"])])
            for name, info in header.items() if name != "__metadata__"}


def write(args, kind, importance):
    """Writes the checkpoint in a type, and prints its directory and bits."""
    weights, error, energy = 0, 0.0, 0.0
    tensors = {}
    for name, info, data in checkpoint(args.model):
        dtype, shape = info["dtype"], info["shape"]
        if dtype not in DTYPES:
            fail(f"{args.model}: `{name}`: expected F32, F16 or BF16, found {dtype}.")
        if len(shape) == 2 and (args.full or ".layers." in name):
            x = widened(dtype, data).reshape(shape)
            of_columns = importance and importance.get(name)
            if importance is not None and (of_columns is None or of_columns.shape != (shape[1],)):
                found = "none" if of_columns is None else list(of_columns.shape)
                fail(f"{args.importance}: `{name}`: expected a number for each of {shape[1]} columns, found {found}.")
            y = rounded(x, kind, of_columns, args.threads)
            weights, error, energy = weights + x.size, error + float(((x - y) ** 2).sum()), energy + float((x ** 2).sum())
            dtype, data = "F32", y
        tensors[name] = DTYPES[dtype], shape, data
    if weights == 0:
        fail(f"{args.model}: expected matrices in blocks, named *.layers.*, found none.")
    out = os.path.join(args.out, kind.name + ("-imatrix" if importance else ""))
    os.makedirs(out)
    # The arrays stay where they are until the file is written.
    specs = {name: TensorSpec(dtype=dtype, shape=shape, data_ptr=data.ctypes.data, data_len=data.nbytes)
             for name, (dtype, shape, data) in tensors.items()}
    serialize_file(specs, os.path.join(out, "model.safetensors"), {"format": "pt"})
    for entry in os.scandir(args.model):
        if entry.name.endswith(".json") and not entry.name.endswith(".index.json"):
            shutil.copy(entry.path, out)
    block, size = gguf.GGML_QUANT_SIZES[kind]
    decibels = 10 * np.log10(energy / max(error, 1e-300))
    print(f"{out}: {weights:,} weights, {decibels:.2f} dB", file=sys.stderr)
    print(f"{out}@{8 * size / block}", flush=True)


def run(args):
    kinds = [getattr(Kind, name, None) for name in args.types.split(",")]
    if None in kinds:
        fail(f"--types: expected types of llama.cpp such as Q4_K,IQ4_XS, found {args.types}.")
    importance = args.importance and importances(args.importance)
    for kind in kinds:
        if not importance and libggml.ggml_quantize_requires_imatrix(kind):
            fail(f"{kind.name}: expected --importance, which this type needs, found none.")
        write(args, kind, importance)


def main():
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("out", metavar="OUT")
    parser.add_argument("--types", default="Q8_0")
    parser.add_argument("--importance", metavar="FILE")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    guarded(run, parser.parse_args())


if __name__ == "__main__":
    main()
