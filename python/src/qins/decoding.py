"""Decoding stored tensors in PyTorch, on any device, as docs/format.md defines it: in binary32, in that order of operations.

PyTorch's operations round one by one, so the weights have the same bits on every device. A compiler that fuses a product and a sum into
one rounding (`torch.compile` on a GPU) may change the last bit.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .storage import GROUP, GROUPED, SUPER, Storage

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def decode(parts: dict[str, Tensor], storage: Storage, cols: int) -> Tensor:
    """The weights `[rows, cols]`, float32, of the tensors that store them: `parts` has them by the names of `Storage.parts`.

    The parts may be any rows of a matrix, together with those of the whole one. Their types and shapes are the caller's to check.
    """
    packed = parts["packed"]
    if storage.scheme == "companded-f32":
        magnitude = packed.abs()
        decoded = magnitude / ((1 - magnitude) * (1.0 if storage.alpha is None else storage.alpha))
        return torch.copysign(decoded, packed).to(DTYPES[storage.source_dtype]).float()
    if storage.scheme == "q8":
        return _of_rows(packed, parts["scale"], parts["curvature"])
    if storage.scheme == "rate":
        return packed.float() * parts["step"]
    if storage.scheme == "lossless":
        return _of_words(parts, storage.source_dtype)
    return _of_groups(parts, GROUPED[storage.scheme], cols)


def _of_rows(packed: Tensor, scale: Tensor, curvature: Tensor) -> Tensor:
    q = (packed & 0x7F).float()
    bent = (127 - q).mul_(curvature.float()[:, None]).add_(127)
    magnitude = q.div_(bent).mul_(scale.float()[:, None])
    return torch.where(packed >= 0x80, -magnitude, magnitude)


def _of_words(parts: dict[str, Tensor], source_dtype: str) -> Tensor:
    # Words of 16 bits have few operations of their own.
    turned = parts["packed"].to(torch.int32) & 0xFFFF
    word = turned >> 1 | (turned & 1) << 15
    if source_dtype == "float32":
        return (word << 16 | parts["low"].to(torch.int32) & 0xFFFF).view(torch.float32)
    return word.to(torch.int16).view(DTYPES[source_dtype]).float()


def _of_groups(parts: dict[str, Tensor], bits: int, cols: int) -> Tensor:
    packed = parts["packed"]
    rows, groups = packed.shape[0], -(-cols // GROUP)
    # Four groups to a byte, one after another: not as in a plane.
    pairs = torch.arange(0, 8, 2, dtype=torch.uint8, device=packed.device)
    selector = (parts["selector"][..., None] >> pairs & 3).flatten(-2)[:, :groups].int()
    level = _codes(packed.view(rows, groups, 4 * bits), bits) + (selector << bits)[..., None]
    t = _levels(parts["curvature"].float(), bits).view(-1).index_select(0, level.view(-1)).view(rows, groups, GROUP)
    scale = parts["scale"].float().repeat_interleave(SUPER // GROUP, 1)[:, :groups]
    scale = scale * parts["group_scale"].float()
    return t.mul_(scale[..., None]).view(rows, groups * GROUP)[:, :cols]


def _levels(curvature: Tensor, bits: int) -> Tensor:
    """`[4, 2ᵇ]`: t of each code under each curve."""
    n = 2 ** (bits - 1)
    q = torch.arange(-n, n, device=curvature.device, dtype=torch.float32)
    t = q / (n + curvature[:, None] * (n - q.abs()))
    if bits > 5:
        return t
    # Adding zero makes −0 into +0.
    return torch.round(127 * t).add_(0.0) * torch.tensor(1 / 127, dtype=torch.float32, device=t.device)


def _codes(packed: Tensor, bits: int) -> Tensor:
    """`[.., 32]`, int32, of the `[.., 4·b]` bytes of groups."""
    codes, first, low = None, 0, 0
    for width in (8, 4, 2, 1):
        # The widths are the powers of two that sum up to b; the lowest bits of a code are the widest field.
        if bits & width:
            field = _spread(packed[..., first : first + 4 * width], width).int() << low
            codes = field if codes is None else codes | field
            first, low = first + 4 * width, low + width
    return codes


def _spread(plane: Tensor, width: int) -> Tensor:
    """The fields of `width` bits in `[.., n]` bytes, `[.., n·8/width]`: of planes, field i is in byte i mod n, at bit w·(i div n)."""
    shifts = torch.arange(0, 8, width, dtype=torch.uint8, device=plane.device)
    return (plane[..., None, :] >> shifts[:, None] & (2**width - 1)).flatten(-2)
