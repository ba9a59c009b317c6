"""vLLM: encoded directories are loaded as they are, and each weight is decoded where it is multiplied.

vLLM joins projections (`qkv_proj`, `gate_up_proj`) and slices matrices for tensor parallelism. The linears of a joined layer stay matrices of
their own here, since each may have a scheme of its own, or none. A slice of rows is the rows' own parts. A slice of columns of a grouped
scheme is that of the scales' 256 columns around it, of which the product takes its own.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from vllm.model_executor.layers.linear import (
    LinearBase,
    LinearMethodBase,
    MergedColumnParallelLinear,
    QKVParallelLinear,
    RowParallelLinear,
    UnquantizedLinearMethod,
)
from vllm.model_executor.layers.quantization import register_quantization_config
from vllm.model_executor.layers.quantization.base_config import QuantizationConfig
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, VocabParallelEmbedding
from vllm.model_executor.parameter import BasevLLMParameter

from ._native import CheckpointError, check_intact
from .linear import _Encoded, blocks
from .storage import GROUPED, SUPER, Quantization, Storage

JOINED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}
SHARDS = {"q": 0, "k": 1, "v": 2}


def register() -> None:
    """What vLLM calls in each of its processes: importing this module has registered the method."""


@register_quantization_config("qins")
class QinsVllmConfig(QuantizationConfig):
    """The `quantization_config` of an encoded directory."""

    def __init__(self, quantization: Quantization) -> None:
        super().__init__()
        self.quantization = quantization

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> QinsVllmConfig:
        quantization = Quantization.parse(config)
        quantization.expect_uncoded("vLLM")
        return cls(quantization)

    def get_name(self) -> str:
        return "qins"

    def get_supported_act_dtypes(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16, torch.float32]

    @classmethod
    def get_min_capability(cls) -> int:
        return 70

    @staticmethod
    def get_config_filenames() -> list[str]:
        return []

    def maybe_update_config(self, model_name: str, hf_config=None, revision: str | None = None) -> None:
        # vLLM reads tensors without a look at their checksums.
        if os.path.isdir(model_name):
            check_intact(model_name)

    def apply_vllm_mapper(self, hf_to_vllm_mapper) -> None:
        mine = self.quantization
        mine.modules = hf_to_vllm_mapper.apply_dict(mine.modules)
        mine.ignore = hf_to_vllm_mapper.apply_list(mine.ignore)

    def get_quant_method(self, layer: nn.Module, prefix: str) -> LinearMethodBase | None:
        parent, _, leaf = prefix.rpartition(".")
        modules = self.quantization.modules
        if isinstance(layer, LinearBase):
            names = [f"{parent}.{name}" for name in JOINED[leaf]] if leaf in JOINED else [prefix]
            storages = [modules.get(name) for name in names]
            return QinsLinearMethod(storages) if any(storages) else UnquantizedLinearMethod()
        if isinstance(layer, VocabParallelEmbedding):
            storage = modules.get(prefix)
            if storage is None and isinstance(layer, ParallelLMHead) and prefix not in self.quantization.ignore:
                # It has the weights of the embedding.
                storage = next((modules[name] for name in modules if name.endswith("embed_tokens")), None)
            return None if storage is None else QinsEmbeddingMethod(storage)
        return None


class Shard(_Encoded):
    """Some rows and columns of an encoded matrix."""

    def __init__(self, rows: int, columns: range, cols: int, storage: Storage) -> None:
        step = SUPER if storage.scheme in GROUPED else 1
        self.first, self.last = columns.start // step * step, min(cols, -(-columns.stop // step) * step)
        super().__init__(rows, self.last - self.first, storage)
        self.columns = slice(columns.start - self.first, columns.stop - self.first)

    def load(self, name: str, stored: Tensor, rows: slice) -> None:
        """Takes over its part of the stored tensor `weight_<name>`; `rows` are those of the whole matrix."""
        if self.storage.is_by_rows(name):
            stored = stored[rows]
            if stored.dim() == 2:
                low, high = (self.storage.parts(0, cols)[name][1][1] for cols in (self.first, self.last))
                stored = stored[:, low:high]
        buffer = getattr(self, f"weight_{name}")
        if (buffer.dtype, buffer[: len(stored)].shape) != (stored.dtype, stored.shape):
            raise CheckpointError(
                f"weight_{name}: expected {buffer.dtype} of shape {list(buffer.shape)}, found {stored.dtype} of shape {list(stored.shape)}"
            )
        # A vocabulary is padded with rows of zeros.
        buffer[: len(stored)].copy_(stored)

    def product(self, x: Tensor) -> Tensor:
        y = [F.linear(x, self.decode(rows)[:, self.columns].to(x.dtype)) for rows in blocks(self.rows, self.cols)]
        return y[0] if len(y) == 1 else torch.cat(y, -1)


class PlainShard(nn.Module):
    """The same of a linear that is not encoded, in a layer with one that is."""

    def __init__(self, rows: int, columns: range, dtype: torch.dtype) -> None:
        super().__init__()
        self.columns = slice(columns.start, columns.stop)
        self.register_buffer("weight", torch.zeros(rows, len(columns), dtype=dtype))

    def load(self, name: str, stored: Tensor, rows: slice) -> None:
        stored = stored[rows, self.columns]
        if self.weight.shape != stored.shape:
            raise CheckpointError(f"weight: expected shape {list(self.weight.shape)}, found {list(stored.shape)}")
        self.weight.copy_(stored)

    def product(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


class QinsLinearMethod(LinearMethodBase):
    """The linears of a layer, each encoded or plain."""

    def __init__(self, storages: list[Storage | None]) -> None:
        self.storages = storages

    def create_weights(
        self,
        layer: nn.Module,
        input_size_per_partition: int,
        output_partition_sizes: list[int],
        input_size: int,
        output_size: int,
        params_dtype: torch.dtype,
        **extra_weight_attrs,
    ) -> None:
        if len(output_partition_sizes) != len(self.storages):
            message = f"{layer.prefix}: expected a layer of {len(self.storages)} linears, found {len(output_partition_sizes)}"
            raise CheckpointError(message)
        first = layer.tp_rank * input_size_per_partition if isinstance(layer, RowParallelLinear) else 0
        columns = range(first, first + input_size_per_partition)
        layer.shards = nn.ModuleList(
            PlainShard(rows, columns, params_dtype) if storage is None else Shard(rows, columns, input_size, storage)
            for rows, storage in zip(output_partition_sizes, self.storages, strict=True)
        )
        layer.qins_places = [_place(layer, i, rows) for i, rows in enumerate(output_partition_sizes)]
        layer.qins_missing = set(enumerate_parts(self.storages))
        layer.qins_expected = frozenset(layer.qins_missing)
        for name in sorted({name for _, name in layer.qins_expected}):
            # Of no size: a name for vLLM, whose loader passes a tensor on to the shard that it is of.
            loader = _Loader(layer, name, input_size)
            layer.register_parameter(name, BasevLLMParameter(data=torch.empty(0), weight_loader=loader))

    def process_weights_after_loading(self, layer: nn.Module) -> None:
        # Without a file (`--load-format dummy`) nothing is loaded, and nothing missing.
        if layer.qins_missing and layer.qins_missing != layer.qins_expected:
            i, name = min(layer.qins_missing)
            raise CheckpointError(f"{layer.prefix}: expected {name} of its linear {i}, found no such tensor")
        for shard in layer.shards:
            if isinstance(shard, Shard):
                shard.expect_valid(layer.prefix)

    def apply(self, layer: nn.Module, x: Tensor, bias: Tensor | None = None) -> Tensor:
        y = [shard.product(x) for shard in layer.shards]
        y = y[0] if len(y) == 1 else torch.cat(y, -1)
        return y if bias is None else y + bias


class QinsEmbeddingMethod(QinsLinearMethod):
    """A vocabulary's table, and a head."""

    def __init__(self, storage: Storage) -> None:
        super().__init__([storage])

    def embedding(self, layer: nn.Module, ids: Tensor) -> Tensor:
        rows = layer.shards[0].decode(ids.reshape(-1))
        return rows.to(layer.params_dtype).view(*ids.shape, -1)

    def tie_weights(self, layer: nn.Module, embed_tokens: nn.Module) -> nn.Module:
        for name, _ in list(layer.named_parameters(recurse=False)):
            if name.startswith("weight"):
                delattr(layer, name)
        layer.shards, layer.qins_missing = embed_tokens.shards, set()
        return layer


class _Loader:
    """Passes a tensor of a checkpoint on to the shard that it is of."""

    def __init__(self, layer: nn.Module, name: str, cols: int) -> None:
        # In a list, so that the layer does not contain itself.
        self.layer, self.name, self.cols = [layer], name, cols

    def __call__(self, param: nn.Parameter, stored: Tensor, shard_id: str | int | None = None) -> None:
        layer, i = self.layer[0], SHARDS.get(shard_id, shard_id or 0)
        # A fused matrix has no parts, and a layer of several linears no tensor without a shard.
        if (i, self.name) not in layer.qins_expected or (shard_id is None and len(layer.shards) > 1):
            raise CheckpointError(f"{layer.prefix}: expected no {self.name} of its linear {i}, found one")
        total, rows = layer.qins_places[i]
        if self.name == "weight_shape":
            if stored.tolist() != [total, self.cols]:
                raise CheckpointError(
                    f"{layer.prefix}: expected a linear of shape {[total, self.cols]}, found {stored.tolist()}"
                )
        else:
            layer.shards[i].load(self.name.removeprefix("weight_"), stored, rows)
        layer.qins_missing.discard((i, self.name))


def enumerate_parts(storages: list[Storage | None]):
    """The tensors of a layer's linears: number of the linear, and the tensor's last name."""
    for i, storage in enumerate(storages):
        parts = ["weight"] if storage is None else [f"weight_{part}" for part in [*storage.parts(0, 0), "shape"]]
        yield from ((i, part) for part in parts)


def _place(layer: nn.Module, i: int, rows: int) -> tuple[int, slice]:
    """The number of rows of a layer's linear, and those that this process has."""
    rank = layer.tp_rank
    if isinstance(layer, VocabParallelEmbedding):
        total = layer.org_vocab_size
    elif isinstance(layer, QKVParallelLinear):
        size = layer.v_head_size if i == 2 else layer.head_size
        total = size * (layer.total_num_kv_heads if i else layer.total_num_heads)
        # With more processes than heads of keys and values, several have the same.
        rank //= layer.num_kv_head_replicas if i else 1
    elif isinstance(layer, MergedColumnParallelLinear):
        total = layer.output_sizes[i]
    else:
        total = layer.output_size
    first = 0 if rows == total else rank * rows
    return total, slice(first, first + rows)
