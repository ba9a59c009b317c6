"""Weights of language models, encoded at rest: 3 to 8 bits per weight, decoded where they are multiplied.

- `EncodedMatrix`: one matrix; encode, decode and multiply NumPy arrays.
- `convert`, `export`, `inspect`, `verify`: what the program `qins` does with a checkpoint.
- `decode`, `Linear`, `Embedding`, `convert_linear_to_qins`: the same in PyTorch, where it is installed.

Where Transformers is installed, importing this package lets `from_pretrained` load encoded directories; vLLM finds it by itself.
"""

import importlib
import importlib.util

from ._native import (
    FORMAT_VERSION,
    INTEGER_NMSE,
    SCHEMES,
    CheckpointError,
    EncodedMatrix,
    EncodeError,
    PolicyError,
    QinsError,
    __version__,
)
from .checkpoints import Conversion, Inspection, Module, Tensor, Verification, convert, export, inspect, verify

_IN_TORCH = {
    "decode": ".decoding",
    "Linear": ".linear",
    "FusedLinear": ".linear",
    "Embedding": ".linear",
    "convert_linear_to_qins": ".replace",
    "QinsConfig": ".hf_quantizer",
}

__all__ = [
    "FORMAT_VERSION",
    "INTEGER_NMSE",
    "SCHEMES",
    "CheckpointError",
    "Conversion",
    "EncodeError",
    "EncodedMatrix",
    "Inspection",
    "Module",
    "PolicyError",
    "QinsError",
    "Tensor",
    "Verification",
    "__version__",
    "convert",
    "export",
    "inspect",
    "verify",
    *_IN_TORCH,
]


def __getattr__(name: str):
    # PyTorch takes seconds to import, and NumPy is enough for the rest.
    if name in _IN_TORCH:
        return getattr(importlib.import_module(_IN_TORCH[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if all(importlib.util.find_spec(package) for package in ("torch", "transformers")):
    from . import hf_quantizer as _hf_quantizer  # noqa: F401  (registers itself)
