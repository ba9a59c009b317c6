"""Replacing the linears of a model by encoded ones."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from ._native import SCHEMES, PolicyError
from .linear import Embedding, FusedLinear, Linear, TiedLinear, encode, storage_of
from .storage import Quantization, Storage

ROLES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "embed_tokens", "lm_head")
_LEFT = {"safe": {"q_proj", "k_proj", "embed_tokens", "lm_head"}, "all": {"embed_tokens", "lm_head"}, "full": set()}


def convert_linear_to_qins(
    model: nn.Module,
    scheme: str = "q8",
    targets: str | Sequence[str] = "safe",
    overrides: Sequence[str] = (),
    *,
    kernel: str = "torch",
    config: object | None = None,
) -> nn.Module:
    """Replaces linears of `model` by encoded ones, in place; returns the model.

    `targets` and `overrides` are those of `qins.convert`: `safe` leaves the query and key projections plain, which are told by the last
    part of a linear's name, and within a fused `qkv_proj` by their rows, from `config` (by default `model.config`). Each weight is rounded
    by itself. Raises `PolicyError` for a scheme or target that is not valid or matches nothing, `EncodeError` for weights.
    """
    encode_linears(model, scheme, targets, overrides, kernel=kernel, config=config)
    return model


def encode_linears(
    model: nn.Module,
    scheme: str,
    targets: str | Sequence[str],
    overrides: Sequence[str],
    *,
    kernel: str = "torch",
    config: object | None = None,
) -> Quantization:
    """As `convert_linear_to_qins`; returns what was encoded, and how."""
    choose = _Policy(scheme, targets, overrides)
    config = getattr(model, "config", None) if config is None else config
    plans = list(_matrices(model, config))
    names = [name for _, _, linears in plans for name in linears]
    nothing = [] if any(map(choose, names)) else [str(targets)]
    for missed in choose.unmatched(names) + nothing:
        raise PolicyError(f"expected `{missed}` to match a linear of the model, found none")
    found = Quantization(ignore=[name for name in names if choose(name) is None])
    # The model changes once everything is encoded, or not at all.
    layers = []
    for name, module, linears in plans:
        if not any(map(choose, linears)):
            continue
        if isinstance(module, nn.Embedding):
            matrix = encode(module.weight, choose(name))
            layer = embedding_like(module, storage_of(matrix), module.weight.dtype)
            layer.fill(matrix)
            layer.to(module.weight.device)
            found.modules[name] = layer.storage
            layers.append((name, layer))
            continue
        rows = list(linears.values())
        weights = torch.split(module.weight.detach(), rows)
        biases = [None] * len(rows) if module.bias is None else torch.split(module.bias.detach(), rows)
        parts = {}
        for linear, weight, bias in zip(linears, weights, biases, strict=True):
            part = _plain(weight) if choose(linear) is None else Linear.of_weight(weight, choose(linear), kernel=kernel)
            part.bias = None if bias is None else nn.Parameter(bias.clone(), requires_grad=module.bias.requires_grad)
            if isinstance(part, Linear):
                found.modules[linear] = part.storage
            parts[linear.rpartition(".")[2]] = part
        if list(linears) == [name]:
            layers.append((name, part))
        else:
            found.fused[name] = list(linears)
            layers.append((name, FusedLinear(parts)))
    for name, layer in layers:
        if isinstance(layer, Embedding):
            tie(model, name, _get(model, name), layer)
        else:
            _set(model, name, layer)
    return found


def _matrices(model: nn.Module, config: object | None):
    """The linears and embeddings of a model that have weights of their own: name, module, and the rows of each linear in it."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding):
            yield name, module, {name: module.num_embeddings}
        elif isinstance(module, nn.Linear) and not _is_tied(model, module):
            leaf = name.rpartition(".")[2]
            linears = fused_rows(config, leaf, module)
            own = {name: module.out_features}
            yield name, module, own if linears is None else {name.removesuffix(leaf) + n: r for n, r in linears.items()}


def _plain(weight: Tensor) -> nn.Linear:
    """A linear of a copy of some rows."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta", dtype=weight.dtype)
    linear.weight = nn.Parameter(weight.clone(), requires_grad=False)
    return linear


def install(model: nn.Module, quantization: Quantization, dtype: torch.dtype) -> None:
    """Replaces the linears of a model by empty ones that the tensors of an encoded checkpoint fit. `dtype` is that of plain weights."""
    config, split = getattr(model, "config", None), set()
    for name, parts in quantization.fused.items():
        module = _get(model, name)
        leaf = name.rpartition(".")[2]
        rows = fused_rows(config, leaf, module) or {}
        if list(rows) != [part.rpartition(".")[2] for part in parts] or module.bias is not None:
            raise PolicyError(f"{name}: expected a fused projection of {parts} in the model, found {module}")

        def linear(part: str, n: int) -> nn.Module:
            if (storage := quantization.modules.get(part)) is None:
                return nn.Linear(module.in_features, n, bias=False, device="meta", dtype=dtype)
            return Linear(module.in_features, n, storage, device="meta")

        _set(model, name, FusedLinear({leaf: linear(part, n) for part, (leaf, n) in zip(parts, rows.items(), strict=True)}))
        split.update(parts)
    for name, storage in quantization.modules.items():
        if name in split:
            continue
        module = _get(model, name)
        if isinstance(module, nn.Embedding):
            tie(model, name, module, embedding_like(module, storage, dtype))
        elif isinstance(module, nn.Linear):
            out, size, bias = module.out_features, module.in_features, module.bias is not None
            _set(model, name, Linear(size, out, storage, bias=bias, device="meta", dtype=dtype))
        else:
            raise PolicyError(f"{name}: expected a linear or an embedding in the model, found {type(module).__name__}")


def fused_rows(config: object | None, leaf: str, module: nn.Module) -> dict[str, int] | None:
    """The linears of a fused projection and their rows, in order; `None` of any other.

    Raises `PolicyError` when they cannot be told from the model's configuration.
    """
    if leaf not in ("qkv_proj", "gate_up_proj"):
        return None
    if config is None:
        raise PolicyError(f"{leaf}: expected the model's configuration, to tell the linears of a fused projection, found none")
    if leaf == "gate_up_proj":
        rows = dict.fromkeys(("gate_proj", "up_proj"), config.intermediate_size)
    else:
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        heads = (config.num_attention_heads, config.num_key_value_heads, config.num_key_value_heads)
        rows = {name: n * size for name, n in zip(("q_proj", "k_proj", "v_proj"), heads, strict=True)}
    if sum(rows.values()) != module.out_features:
        raise PolicyError(f"{leaf}: expected {sum(rows.values())} rows by the configuration, found {module.out_features}")
    return rows


def embedding_like(module: nn.Embedding, storage: Storage, dtype: torch.dtype) -> Embedding:
    """An encoded table in place of `module`, with the factor of Gemma's."""
    scale = getattr(module, "scalar_embed_scale", None)
    if type(module) is not nn.Embedding and scale is None:
        raise PolicyError(f"expected an embedding that can be encoded, found {type(module).__name__}")
    return Embedding(module.num_embeddings, module.embedding_dim, storage, scale=scale, device="meta", dtype=dtype)


def tie(model: nn.Module, name: str, module: nn.Embedding, table: Embedding) -> None:
    """Puts `table` in the place of `module`, and of a head that has its weights."""
    tied = getattr(model, "all_tied_weights_keys", {})
    plain = f"{_path(model, name)}.weight"
    heads = {target.removesuffix(".weight") for target, source in tied.items() if source == plain}
    heads |= {head for head, other in model.named_modules() if other is not module and _shares(other, module)}
    for head in heads:
        tied.pop(f"{head}.weight", None)
        _set(model, head, TiedLinear(table))
    if heads:
        model._tied_weights_keys = {}
    _set(model, name, table)


def _is_tied(model: nn.Module, module: nn.Linear) -> bool:
    return any(isinstance(other, nn.Embedding) and _shares(module, other) for other in model.modules())


def _shares(module: nn.Module, embedding: nn.Embedding) -> bool:
    return isinstance(module, nn.Linear) and module.weight is embedding.weight


class _Policy:
    """The scheme of a linear by its name; `None` where it stays plain."""

    def __init__(self, scheme: str, targets: str | Sequence[str], overrides: Sequence[str]) -> None:
        self.scheme = self._scheme(scheme)
        if isinstance(targets, str) and targets in _LEFT:
            self.is_target = lambda leaf: leaf not in _LEFT[targets]
        else:
            names = [name.strip() for name in targets.split(",")] if isinstance(targets, str) else list(targets)
            known = {role.removesuffix("_proj"): role for role in ROLES} | {role: role for role in ROLES}
            if unknown := [name for name in names if name not in known]:
                message = f"unknown target `{unknown[0]}`: expected safe, all, full, or a list of {', '.join(ROLES)}"
                raise PolicyError(message)
            roles = {known[name] for name in names}
            self.is_target = lambda leaf: leaf in roles
        self.rules = [self._rule(text) for text in overrides]

    @staticmethod
    def _scheme(name: str) -> str | None:
        if name not in (*SCHEMES, "none"):
            raise PolicyError(f"unknown scheme `{name}`: expected one of none, {', '.join(SCHEMES)}")
        if name in ("lossless", "rate"):
            raise PolicyError(f"expected a scheme for matrices in memory, found `{name}`, which is for files")
        return None if name == "none" else name

    def _rule(self, text: str) -> tuple[str, str, str | None]:
        pattern, _, name = text.rpartition("=")
        if not pattern:
            raise PolicyError(f"expected PATTERN=SCHEME such as down_proj=q6 or model.layers.0.*=q8, found `{text}`")
        # Of the shell's patterns, `*` and `?` only.
        return text, pattern.replace("[", "[[]"), self._scheme(name)

    def __call__(self, name: str) -> str | None:
        scheme = self.scheme if self.is_target(name.rpartition(".")[2]) else None
        for _, pattern, other in self.rules:
            scheme = other if _matches(name, pattern) else scheme
        return scheme

    def unmatched(self, names: list[str]) -> list[str]:
        """The overrides that match none of these linears."""
        return [text for text, pattern, _ in self.rules if not any(_matches(name, pattern) for name in names)]


def _matches(name: str, pattern: str) -> bool:
    leaf = name.rpartition(".")[2]
    return any(fnmatchcase(of, pattern) for of in (name, leaf, leaf.removesuffix("_proj")))


def _path(model: nn.Module, name: str) -> str:
    """The path of a module of a checkpoint: a model without head has no prefix."""
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    known = {path for path, _ in model.named_modules()}
    return name if name in known or not name.startswith(prefix) else name.removeprefix(prefix)


def _get(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(_path(model, name))
    except AttributeError:
        raise PolicyError(f"{name}: expected in the model, as the checkpoint has it encoded, found no such module") from None


def _set(model: nn.Module, name: str, module: nn.Module) -> None:
    model.set_submodule(_path(model, name), module)
