"""What the program `qins` does with checkpoints, without running a model."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass

from . import _native

Path = str | os.PathLike[str]


@dataclass(frozen=True)
class Conversion:
    """What a conversion wrote."""

    bytes_before: int
    """Bytes of all tensors of the source."""
    bytes_after: int
    """Bytes of all tensors of the result."""
    unused: list[str]
    """Tensors that the model does not read: copied, except copies of others."""
    left_out: list[str]
    """Files of the source that were not copied, each with the reason."""


@dataclass(frozen=True)
class Tensor:
    """A stored matrix or tensor."""

    name: str
    """The name it has, or had, in a plain checkpoint."""
    scheme: str
    """A scheme's name, or the type of a plain tensor."""
    shape: list[int]
    """Of an encoded one, `[out, in]`."""
    bits_per_weight: float
    """Of an encoded one, parameters included."""
    sqnr_db: float | None
    """Signal-to-quantisation-noise ratio against the source, in dB, where there is one and the two differ."""
    output_sqnr_db: float | None
    """The same of its outputs on the calibration it was converted with."""
    cosine: float | None
    """Cosine similarity with the source."""


@dataclass(frozen=True)
class Inspection:
    """What a checkpoint has."""

    file_bytes: int
    """Bytes of all tensors."""
    encoded_weights: int
    """Number of encoded weights."""
    bits_per_weight: float | None
    """Of the encoded weights, parameters included."""
    tensors: list[Tensor]


@dataclass(frozen=True)
class Module:
    """An encoded module compared with its source."""

    name: str
    scheme: str
    sqnr_db: float | None
    cosine: float | None
    output_sqnr_db: float | None
    changed: int
    """Weights whose bits differ."""
    weights: int


@dataclass(frozen=True)
class Verification:
    """What was checked, and the faults found."""

    ok: bool
    checksums: int
    """The number of tensors that match their checksum."""
    faults: list[str]
    """One sentence for each fault."""
    modules: list[Module]


def convert(
    model: Path,
    out: Path,
    *,
    scheme: str = "q8",
    targets: str | Sequence[str] = "safe",
    overrides: Sequence[str] = (),
    alpha: float | None = None,
    bits_per_weight: float | None = None,
    prune: float = 0.0,
    entropy: bool = False,
) -> Conversion:
    """Writes a plain checkpoint with some of its linears encoded, as `qins convert --no-calibrate` does.

    Each weight is rounded by itself. The error feedback that the program has by default runs the model, which this package does not:
    for q3 to q6 and rate convert with the program where it matters.

    `model` is a directory with `config.json` and safetensors; `out` one that does not exist yet, or is empty. `targets` is `safe`
    (v, o, gate, up, down), `all` (q and k too), `full` (embedding and head too), or roles such as `["v_proj", "down_proj"]`; an
    override is `PATTERN=SCHEME`, where the last match decides. `entropy` codes the stored parts for size; Transformers and vLLM do
    not read such a directory.

    Raises `PolicyError` for a scheme, target, override or option that is not valid, `CheckpointError` for files; then nothing is left
    at `out`.
    """
    targets = targets if isinstance(targets, str) else ",".join(targets)
    written = _native.convert(
        model,
        out,
        scheme=scheme,
        targets=targets,
        overrides=list(overrides),
        alpha=alpha,
        bits_per_weight=bits_per_weight,
        prune=prune,
        entropy=entropy,
    )
    return Conversion(**json.loads(written))


def export(model: Path, out: Path, *, dtype: str | None = None) -> None:
    """Decodes an encoded checkpoint into a plain one, as `qins export` does: fused matrices are fused again.

    `dtype` is `float32`, `float16` or `bfloat16`, by default that of the source. Raises `CheckpointError`; then nothing is left at `out`.
    """
    _native.export(model, out, dtype=dtype)


def inspect(model: Path, against: Path | None = None) -> Inspection:
    """The scheme, shape and bits per weight of a checkpoint's tensors, and the error of each against a plain source.

    Raises `CheckpointError` when a file is missing, damaged or not valid.
    """
    found = json.loads(_native.inspect(model, against))
    return Inspection(**{**found, "tensors": [Tensor(**tensor) for tensor in found["tensors"]]})


def verify(model: Path, against: Path | None = None) -> Verification:
    """Compares every tensor with its checksum, decodes every encoded module, and compares all with a plain source, if given.

    Defects are in `faults`. Raises `CheckpointError` when the directory is no checkpoint, or the source is not plain.
    """
    found = json.loads(_native.verify(model, against))
    return Verification(**{**found, "modules": [Module(**module) for module in found["modules"]]})
