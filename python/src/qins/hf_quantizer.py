"""Transformers: `from_pretrained` loads encoded directories, and `save_pretrained` writes them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.core_model_loading import WeightRenaming, revert_weight_conversion
from transformers.modeling_utils import remove_tied_weights_from_state_dict
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from ._native import PolicyError, check_intact, xxh3
from .linear import FusedLinear, Linear, _Encoded
from .replace import encode_linears, install
from .storage import Quantization


@register_quantization_config("qins")
class QinsConfig(QuantizationConfigMixin):
    """`quantization_config`: of an encoded directory, or how to encode a plain one while it is loaded.

    `QinsConfig(scheme="q8", targets="safe", overrides=())` encodes, as `convert_linear_to_qins` does. An encoded directory has its own.
    """

    quant_method = "qins"

    def __init__(self, scheme: str = "q8", targets="safe", overrides=(), kernel: str = "torch", **entry: Any) -> None:
        self.scheme, self.targets, self.overrides, self.kernel = scheme, targets, overrides, kernel
        if entry and not {"quant_method", "format_version"} & entry.keys():
            expected = "scheme, targets, overrides and kernel, or the entry of an encoded directory"
            raise PolicyError(f"QinsConfig: expected {expected}, found {', '.join(map(repr, entry))}")
        self.quantization = Quantization.parse(entry) if entry else Quantization()

    def to_dict(self) -> dict[str, Any]:
        return self.quantization.to_dict()


@register_quantizer("qins")
class QinsHfQuantizer(HfQuantizer):
    """Puts encoded layers in the place of linears, which the checkpoint's tensors fit as they are."""

    quantization_config: QinsConfig

    @property
    def quantization(self) -> Quantization:
        return self.quantization_config.quantization

    def _process_model_before_weight_loading(self, model: nn.Module, checkpoint_files=None, dtype=None, **kwargs) -> None:
        if not self.pre_quantized:
            return
        self.quantization.expect_uncoded("Transformers")
        if checkpoint_files:
            check_intact(Path(checkpoint_files[0]).parent)
        install(model, self.quantization, dtype or torch.get_default_dtype())

    def _process_model_after_weight_loading(self, model: nn.Module, **kwargs) -> nn.Module:
        config = self.quantization_config
        if not self.pre_quantized:
            config.quantization = encode_linears(model, config.scheme, config.targets, config.overrides)
        for name, module in model.named_modules():
            if isinstance(module, _Encoded):
                module.expect_valid(name)
            elif isinstance(module, FusedLinear):
                # A tensor that was renamed keeps the type that it has in the file.
                [part.to(model.dtype) for part in module.children() if isinstance(part, nn.Linear)]
            if isinstance(module, Linear):
                module.kernel = config.kernel
        return model

    def get_weight_conversions(self) -> list[WeightRenaming]:
        """From the names of a fused matrix's linears to those in the model, where they are parts of the fused module."""
        kinds = {}
        for fused, parts in self.quantization.fused.items():
            kinds[".".join(fused.split(".")[-2:])] = [part.rpartition(".")[2] for part in parts]
        renamings = []
        for kind, parts in kinds.items():
            parent, _, leaf = kind.rpartition(".")
            pattern = rf"\.{re.escape(parent)}\.({'|'.join(parts)})\."
            renamings.append(WeightRenaming(source_patterns=pattern, target_patterns=rf".{parent}.{leaf}.\1."))
        return renamings

    def get_state_dict_and_metadata(self, model: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
        """The tensors by the names of a file, and the checksums of all of them, which every shard has."""
        stored = {
            f"{fused}.{part.rpartition('.')[2]}.": f"{part}."
            for fused, parts in self.quantization.fused.items()
            for part in parts
        }

        def rename(name: str) -> str:
            prefix = next((prefix for prefix in stored if name.startswith(prefix)), None)
            return name if prefix is None else stored[prefix] + name.removeprefix(prefix)

        state = {rename(name): tensor for name, tensor in model.state_dict().items()}
        ignored = model._keys_to_ignore_on_save or ()
        state = remove_tied_weights_from_state_dict({n: t for n, t in state.items() if n not in ignored}, model)
        state = revert_weight_conversion(model, state)
        sums = {name: xxh3(_bytes(tensor)) for name, tensor in sorted(state.items())}
        return state, {"qins": json.dumps({"xxh3": sums})}

    def is_serializable(self) -> bool:
        return True

    @property
    def is_trainable(self) -> bool:
        return False

    @property
    def is_compileable(self) -> bool:
        return True


def _bytes(tensor: Tensor):
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
