"""Layers whose buffers are the stored tensors; weights are decoded where they are multiplied."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ._native import CheckpointError, EncodedMatrix, PolicyError
from .decoding import DTYPES, decode
from .storage import Storage

BLOCK = 1 << 23
"""Weights that are decoded at a time: a product needs 12 bytes for each of them, whatever the size of its matrix."""

KERNELS = ("torch", "rust")
_TORCH = {**DTYPES, "uint8": torch.uint8, "int8": torch.int8, "uint16": torch.uint16, "int32": torch.int32}


class _Encoded(nn.Module):
    """An encoded `[rows, cols]` matrix as the buffers `weight_packed`, `weight_shape` and those of its scheme."""

    def __init__(self, rows: int, cols: int, storage: Storage, device: torch.device | str | None = None) -> None:
        super().__init__()
        self.rows, self.cols, self.storage = rows, cols, storage
        for name, (dtype, shape) in storage.parts(rows, cols).items():
            self.register_buffer(f"weight_{name}", torch.zeros(shape, dtype=_TORCH[dtype], device=device))
        self.register_buffer("weight_shape", torch.tensor([rows, cols], device=device))

    def parts(self, rows: slice | Tensor | None = None) -> dict[str, Tensor]:
        """The stored tensors by the names of docs/format.md without `weight_`; of some rows, those of these rows."""
        names = self.storage.parts(self.rows, self.cols)
        parts = {name: getattr(self, f"weight_{name}") for name in names}
        if rows is None:
            return parts
        return {name: part[rows] if self.storage.is_by_rows(name) else part for name, part in parts.items()}

    def decode(self, rows: slice | Tensor | None = None) -> Tensor:
        """The weights, or some rows of them: `[rows, cols]`, float32, on the buffers' device."""
        return decode(self.parts(rows), self.storage, self.cols)

    def fill(self, matrix: EncodedMatrix) -> None:
        """Takes over the parts of a matrix of this shape and storage, on the CPU."""
        for name, part in matrix.parts().items():
            setattr(self, f"weight_{name}", torch.from_numpy(part))
        self.weight_shape = torch.tensor([self.rows, self.cols])

    def matrix(self) -> EncodedMatrix:
        """The matrix for NumPy: a copy. Raises `EncodeError` when a value is not valid."""
        parts = {name: part.cpu().contiguous().numpy() for name, part in self.parts().items()}
        storage = self.storage
        return EncodedMatrix.from_parts(
            parts, storage.scheme, (self.rows, self.cols), source_dtype=storage.source_dtype, alpha=storage.alpha
        )

    def expect_valid(self, module: str) -> None:
        """Raises `CheckpointError` when a stored tensor has another type, shape or range than the scheme allows."""
        expected = {**self.storage.parts(self.rows, self.cols), "shape": ("int64", (2,))}
        for name, (dtype, shape) in expected.items():
            part = getattr(self, f"weight_{name}")
            found = (str(part.dtype).removeprefix("torch."), tuple(part.shape))
            if found != (dtype, shape):
                raise CheckpointError(
                    f"{module}.weight_{name}: expected {dtype} of shape {list(shape)}, found {found[0]} of shape {list(found[1])}"
                )
            if part.is_floating_point() and name != "packed" and not bool(((part >= 0) & part.isfinite()).all()):
                raise CheckpointError(f"{module}.weight_{name}: expected finite numbers of at least 0, found others")
        if self.weight_shape.tolist() != [self.rows, self.cols]:
            raise CheckpointError(
                f"{module}.weight_shape: expected {[self.rows, self.cols]}, found {self.weight_shape.tolist()}"
            )

    def _apply(self, fn, recurse=True):
        # `model.to(dtype)` is for activations and plain weights: scales in another type are other scales.
        own = {id(buffer) for buffer in self.buffers(recurse=False)}

        def keep(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return moved if id(tensor) not in own or moved.dtype == tensor.dtype else tensor.to(moved.device)

        return super()._apply(keep, recurse)

    def extra_repr(self) -> str:
        return f"{self.rows} x {self.cols}, {self.storage.scheme} of {self.storage.source_dtype}"


class Linear(_Encoded):
    """`y = x · wᵀ + bias` with an encoded weight.

    `kernel` is `torch`: decode, and multiply in the type of `x` (on any device, with gradients to `x`); or `rust`: multiply the codes
    on the CPU, in float32, without decoding, within a normalised mean squared error of `qins.INTEGER_NMSE`. That one holds a copy of the
    weights in its own layout, and has no gradients.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        scheme: str | Storage = "q8",
        *,
        bias: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        kernel: str = "torch",
    ) -> None:
        super().__init__(out_features, in_features, scheme if isinstance(scheme, Storage) else Storage(scheme), device)
        self.in_features, self.out_features = in_features, out_features
        self.register_parameter(
            "bias", nn.Parameter(torch.zeros(out_features, device=device, dtype=dtype)) if bias else None
        )
        self.kernel = kernel
        self._multiplied: tuple[tuple, EncodedMatrix] | None = None

    @classmethod
    def from_linear(cls, linear: nn.Linear, scheme: str = "q8", *, kernel: str = "torch", **options) -> Linear:
        """Encodes the weight of a linear; `options` are those of `EncodedMatrix.encode`. The bias is the same parameter."""
        layer = cls.of_weight(linear.weight, scheme, kernel=kernel, **options)
        layer.bias = linear.bias
        layer.train(linear.training)
        return layer

    @classmethod
    def of_weight(cls, weight: Tensor, scheme: str = "q8", *, kernel: str = "torch", **options) -> Linear:
        """Encodes `weight`, `[out, in]` of float32, float16 or bfloat16, to a layer on its device."""
        matrix = encode(weight, scheme, **options)
        layer = cls(*reversed(matrix.shape), storage_of(matrix), device="meta", kernel=kernel)
        layer.fill(matrix)
        return layer.to(weight.device)

    @property
    def kernel(self) -> str:
        return self._kernel

    @kernel.setter
    def kernel(self, kernel: str) -> None:
        if kernel not in KERNELS:
            raise PolicyError(f"kernel: expected one of {', '.join(KERNELS)}, found `{kernel}`")
        self._kernel = kernel
        self._multiplied = None

    def forward(self, x: Tensor) -> Tensor:
        return self._in_rust(x) if self._kernel == "rust" else self._in_torch(x)

    def _in_torch(self, x: Tensor) -> Tensor:
        y = [F.linear(x, self.decode(rows).to(x.dtype)) for rows in blocks(self.rows, self.cols)]
        y = y[0] if len(y) == 1 else torch.cat(y, -1)
        return y if self.bias is None else y + self.bias

    def _in_rust(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or (x.requires_grad and torch.is_grad_enabled()):
            found = f"one on {x.device}" if x.device.type != "cpu" else "one with gradients"
            raise PolicyError(f"kernel `rust`: expected an input on the CPU without gradients, found {found}")
        # Of any buffer that was replaced or written into there is a new matrix.
        now = tuple((id(part), part._version) for part in self.parts().values())
        if self._multiplied is None or self._multiplied[0] != now:
            self._multiplied = (now, self.matrix())
        y = self._multiplied[1].matmul(np.ascontiguousarray(x.detach().float().numpy()))
        y = torch.from_numpy(y).to(x.dtype)
        return y if self.bias is None else y + self.bias

    def __getstate__(self):
        return {**self.__dict__, "_multiplied": None}


class Embedding(_Encoded):
    """Rows of an encoded table, times `scale`; in `dtype`."""

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        scheme: str | Storage = "q8",
        *,
        scale: float | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        storage = scheme if isinstance(scheme, Storage) else Storage(scheme)
        super().__init__(num_embeddings, embedding_dim, storage, device)
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.scale, self.dtype = scale, dtype

    def forward(self, ids: Tensor) -> Tensor:
        # A GPU's answer would have to be waited for, and a graph has no numbers yet.
        if ids.device.type == "cpu" and ids.numel() and not torch.compiler.is_compiling():
            low, high = (int(end) for end in ids.aminmax())
            if low < 0 or high >= self.num_embeddings:
                found = low if low < 0 else high
                raise IndexError(f"expected token ids from 0 to {self.num_embeddings - 1}, found {found}")
        rows = self.decode(ids.reshape(-1)).to(self.dtype).view(*ids.shape, self.embedding_dim)
        return rows if self.scale is None else rows * torch.tensor(self.scale, dtype=self.dtype, device=rows.device)

    def _apply(self, fn, recurse=True):
        self.dtype = fn(torch.empty(0, dtype=self.dtype, device=self.weight_packed.device)).dtype
        return super()._apply(fn, recurse)


class TiedLinear(nn.Module):
    """A head that has the weights of an encoded embedding."""

    def __init__(self, embedding: Embedding) -> None:
        super().__init__()
        # In a list: the buffers are the embedding's, and stored once.
        self._embedding = [embedding]

    def forward(self, x: Tensor) -> Tensor:
        table = self._embedding[0]
        return torch.cat([F.linear(x, table.decode(rows).to(x.dtype)) for rows in blocks(table.rows, table.cols)], -1)


class FusedLinear(nn.Module):
    """A fused projection as its linears, some encoded: their outputs, one after another."""

    def __init__(self, linears: dict[str, nn.Module]) -> None:
        super().__init__()
        for name, linear in linears.items():
            self.add_module(name, linear)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([linear(x) for linear in self.children()], -1)


def blocks(rows: int, cols: int) -> Iterator[slice]:
    """Ranges of rows of about `BLOCK` weights, at least one."""
    step = max(1, BLOCK // max(1, cols))
    yield from (slice(first, min(rows, first + step)) for first in range(0, max(1, rows), step))


def encode(weight: Tensor, scheme: str, **options) -> EncodedMatrix:
    """Encodes `[out, in]` weights of float32, float16 or bfloat16. Raises `EncodeError` and `PolicyError`."""
    names = {dtype: name for name, dtype in DTYPES.items()}
    if weight.dtype not in names:
        raise PolicyError(f"expected weights of {', '.join(DTYPES)}, found {weight.dtype}")
    values = weight.detach().to("cpu", torch.float32).contiguous().numpy()
    return EncodedMatrix.encode(values, scheme, source_dtype=names[weight.dtype], **options)


def storage_of(matrix: EncodedMatrix) -> Storage:
    """How a matrix is stored."""
    return Storage(matrix.scheme, matrix.source_dtype, matrix.alpha)
