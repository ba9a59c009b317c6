"""`quantization_config`, and the tensors that store an encoded matrix (docs/format.md)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from ._native import FORMAT_VERSION, CheckpointError

GROUPED = {"q8g": 8, "q6": 6, "q5": 5, "q4": 4, "q3": 3}
"""Bits of a code of the grouped schemes."""

GROUP, SUPER = 32, 256
"""Weights that share a group's scale and curve, and those that share an f16 scale."""

NAMES = {"f32": "companded-f32"}
"""Schemes whose name in files is not that of programs."""


@dataclass(frozen=True)
class Storage:
    """How a matrix is stored: all but its shape and its tensors."""

    scheme: str
    source_dtype: str = "float32"
    alpha: float | None = None
    coding: str | None = None

    def parts(self, rows: int, cols: int) -> dict[str, tuple[str, tuple[int, ...]]]:
        """The type and shape of each tensor `weight_<name>` of a `[rows, cols]` matrix, not entropy-coded.

        By name: `(dtype, shape)`. The first dimension is the matrix's rows, but for the parameters of `WHOLE`.
        """
        if self.scheme == "companded-f32":
            return {"packed": ("float32", (rows, cols))}
        if self.scheme == "q8":
            return {"packed": ("uint8", (rows, cols)), "scale": ("float16", (rows,)), "curvature": ("float16", (rows,))}
        if self.scheme in GROUPED:
            groups = -(-cols // GROUP)
            return {
                "packed": ("uint8", (rows, 4 * GROUPED[self.scheme] * groups)),
                "scale": ("float16", (rows, -(-cols // SUPER))),
                "group_scale": ("int8", (rows, groups)),
                "selector": ("uint8", (rows, -(-groups // 4))),
                "curvature": ("float16", (4,)),
            }
        if self.scheme == "lossless":
            words = {"packed": ("uint16", (rows, cols))}
            return {**words, "low": ("uint16", (rows, cols))} if self.source_dtype == "float32" else words
        if self.scheme == "rate":
            return {"packed": ("int32", (rows, cols)), "step": ("float32", (1,))}
        raise CheckpointError(f"expected a scheme that this version knows, found `{self.scheme}`")

    def is_by_rows(self, part: str) -> bool:
        """Whether a part has a row for each row of the matrix."""
        return not (part == "step" or part == "curvature" and self.scheme in GROUPED)


def expect(key: str, value: Any, kind: type | tuple[type, ...]) -> Any:
    """The value, if it is of that kind. Raises `CheckpointError` otherwise."""
    if isinstance(value, kind):
        return value
    expected = {dict: "an object", list: "a list", str: "a text"}.get(kind, "a number")
    raise CheckpointError(f"quantization_config: {key}: expected {expected}, found {value!r}")


@dataclass
class Quantization:
    """The entry `quantization_config` of a `config.json`."""

    modules: dict[str, Storage] = field(default_factory=dict)
    """How each encoded module is stored, by full name."""
    ignore: list[str] = field(default_factory=list)
    """Linears left plain."""
    fused: dict[str, list[str]] = field(default_factory=dict)
    """Fused matrices of the source that were split, each with its linears in the order of their rows."""
    copies: dict[str, str] = field(default_factory=dict)
    """Tensors that are not stored because another has their weights: copy → original."""
    output_sqnr_db: dict[str, float] = field(default_factory=dict)
    goal: str | None = None
    """What the schemes were chosen for by prompts, such as `kl=0.05`."""

    @classmethod
    def parse(cls, config: dict[str, Any]) -> Quantization:
        """Reads an entry. Raises `CheckpointError` for another method or version, or a module in two groups."""
        for key, expected in [("quant_method", "qins"), ("format_version", FORMAT_VERSION)]:
            if config.get(key) != expected:
                raise CheckpointError(f"quantization_config: expected {key} {expected!r}, found {config.get(key)!r}")
        groups = expect("config_groups", config.get("config_groups", {}), dict)
        expect("ignore", config.get("ignore", []), list)
        for key, kind in [("fused", list), ("copies", str), ("output_sqnr_db", (float, int))]:
            for name, value in expect(key, config.get(key, {}), dict).items():
                expect(f"{key}: {name}", value, kind)
        if config.get("goal") is not None:
            expect("goal", config["goal"], str)
        found = cls(
            ignore=list(config.get("ignore", [])),
            fused={name: list(parts) for name, parts in config.get("fused", {}).items()},
            copies=dict(config.get("copies", {})),
            output_sqnr_db=dict(config.get("output_sqnr_db", {})),
            goal=config.get("goal"),
        )
        for name, group in groups.items():
            expect(name, group, dict)
            for key, kind in [("scheme", str), ("source_dtype", str), ("targets", list)]:
                expect(f"{name}: {key}", group.get(key), kind)
            scheme = NAMES.get(group["scheme"], group["scheme"])
            storage = Storage(scheme, group["source_dtype"], group.get("alpha"), group.get("coding"))
            storage.parts(0, 0)
            for target in group["targets"]:
                if target in found.modules:
                    raise CheckpointError(f"quantization_config: expected {target} once, found it in {name} too")
                found.modules[target] = storage
        return found

    def to_dict(self) -> dict[str, Any]:
        """The entry, as a program writes it."""
        groups: dict[Storage, list[str]] = {}
        for module, storage in self.modules.items():
            groups.setdefault(storage, []).append(module)
        names = {program: file for file, program in NAMES.items()}
        as_group = lambda storage, targets: {  # noqa: E731
            "targets": targets,
            **{key: names.get(value, value) for key, value in asdict(storage).items() if value is not None},
        }
        entry = {
            "quant_method": "qins",
            "format_version": FORMAT_VERSION,
            "config_groups": {f"group_{i}": as_group(*group) for i, group in enumerate(groups.items())},
            "ignore": self.ignore,
        }
        optional = {
            "fused": self.fused,
            "copies": self.copies,
            "output_sqnr_db": self.output_sqnr_db,
            "goal": self.goal,
        }
        return {**entry, **{key: value for key, value in optional.items() if value}}

    def expect_uncoded(self, reader: str) -> None:
        """Raises `CheckpointError` if a module is entropy-coded, which `reader` does not read."""
        for module, storage in self.modules.items():
            if storage.coding is not None:
                raise CheckpointError(
                    f"{module}: expected parts that are not entropy-coded, as {reader} reads no others, found coding"
                    f" `{storage.coding}` ({storage.scheme}); `qins export` makes a plain checkpoint of it"
                )
