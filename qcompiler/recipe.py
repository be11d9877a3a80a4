"""Recipes: what to do to a model, as data.

A recipe is YAML (or JSON, or a dict) that switches and configures the named steps of a target's pipeline; the
order of the steps belongs to the target. The settings at the top level apply to every layer. Each entry of
`rules` overrides some of them for the layers it matches, and **a later rule wins** over an earlier one:

    base: w8a8
    ignore: [head]
    rules:
      - {match: "blocks.0.*", rounding: adaround}
      - {match: "blocks.0.attn", scheme: float}

`match` and `ignore` are shell patterns (`fnmatch`: `*`, `?`, `[abc]`) over the module path of the source
model. A pattern that names a module also covers everything inside it, so `ignore: [head]` covers `head.fc`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from qcompiler.errors import UsageError, did_you_mean
from qcompiler.validation import explain

RECIPE_FOLDER = Path(__file__).parent / "recipes"
FLOAT_OPS = (
    "softmax",
    "gelu",
    "silu",
    "hard_swish",
    "layer_norm",
    "rms_norm",
    "attention",
    "matmul",
    "norm",
    "elementwise",
    "reduce",
    "pool",
    "movement",
    "create",
)
"""What the shipped recipes let stay in float: ops by name, and categories of the op table.

Not in it are the ops that carry a model's weights: conv, conv_transpose and linear.
"""

Scheme = Literal["static", "dynamic", "weight_only", "float", "auto"]
Rounding = Literal["nearest", "hessian", "adaround", "gptq", "autoround", "brecq", "auto"]
Granularity = Literal["tensor", "token", "group"]
ActivationBits = Literal[2, 3, 4, 5, 6, 7, 8, 16]
WeightDigits = Literal[1, 2, 3]
Int16Products = Literal["auto", 1, 2, 4, 8]
RangeMethod = Literal["auto", "minmax", "percentile", "mse", "entropy", "moving_average"]
Switch = Literal["auto"] | bool


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ActivationRange(_Model):
    """How the range of an activation is chosen from its calibration statistics."""

    method: RangeMethod = "auto"
    percentile: Annotated[float, Field(gt=50.0, le=100.0)] = 99.99
    """Share of the values inside the range, in percent; read by `method: percentile` only."""


class LayerSettings(_Model):
    """The settings in force for one layer, after all rules."""

    scheme: Scheme = "static"
    """`static`: ranges fixed by calibration; `dynamic`: ranges found at run time; `weight_only`: weights are codes,
    activations stay real; `float`: left alone; `auto`: chosen among these by measured error."""
    weight_bits: Annotated[int, Field(ge=2, le=8)] = 8
    activation_bits: ActivationBits = 8
    """16: codes of 8 bits for an activation and 8 more for what they leave; of `dynamic` with granularity `group`."""
    per_channel: bool = True
    group_size: Annotated[int, Field(ge=0)] | None = None
    """Weights along the input channels that share one scale; read by `weight_only` and `dynamic`. None: all of an
    output channel. 0 means the same, for a rule that takes groups back."""
    weight_symmetric: bool = True
    """Zero point 0. False gives every group a zero point of its own; for `weight_only` and groups of `dynamic`."""
    progressive: bool = False
    """Scales of groups are integers times a scale of the row, so that codes of 4 bits or less expand to int8. With
    `dynamic` and granularity `token`, products are computed on these."""
    weight_digits: WeightDigits | None = None
    """Weights are sums of so many signed powers of two, which FPGAs multiply by shifts; of `static`. None: any code."""
    granularity: Granularity = "tensor"
    """What shares a range at run time (`dynamic`): the tensor, a token (row), or a token's share of a weight group."""
    weight_range: Literal["minmax", "mse"] = "mse"
    rounding: Rounding = "auto"
    activation_range: ActivationRange = ActivationRange()
    int16_products: Int16Products = "auto"
    """Weights are limited so that the products of so many neighbours with 8-bit codes add up within 16 bits, which the
    products of AVX2 and AVX512 without VNNI need: the more the faster, and the smaller the weights. 1: no limit. `auto`:
    2 where the target asks for it, not in integer-only programs, which are the same for every target. 4 and 8 choose the
    scales of weights by least squares, whatever `weight_range` is; layers of fewer than 64 channels keep to 2, of fewer
    than 128 to 4. Of `static`, and of `dynamic` without groups."""


class Rule(_Model):
    """Overrides for the layers whose module path matches `match` (and whose op is in `ops`, where given)."""

    match: str
    ops: tuple[str, ...] | None = None
    scheme: Scheme | None = None
    weight_bits: Annotated[int, Field(ge=2, le=8)] | None = None
    activation_bits: ActivationBits | None = None
    per_channel: bool | None = None
    group_size: Annotated[int, Field(ge=0)] | None = None
    weight_symmetric: bool | None = None
    progressive: bool | None = None
    weight_digits: WeightDigits | None = None
    granularity: Granularity | None = None
    weight_range: Literal["minmax", "mse"] | None = None
    rounding: Rounding | None = None
    activation_range: ActivationRange | None = None
    int16_products: Int16Products | None = None

    def applies_to(self, module_path: str, op: str) -> bool:
        return matches(self.match, module_path) and (self.ops is None or op in self.ops)

    def overrides(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in LayerSettings.model_fields}
        return {name: value for name, value in values.items() if value is not None}


class CalibrationSettings(_Model):
    """How much of the calibration data is used, and for what."""

    max_samples: Annotated[int, Field(ge=1)] = 512
    held_back: Annotated[float, Field(gt=0.0, le=0.5)] = 0.25
    """Share of the samples that decisions are measured on (choice of rounding, equalization, report)."""


class IntegerSettings(_Model):
    """The arithmetic of an integer-only program; see docs/integer_programs.md."""

    profile: Literal["dyadic", "dyadic_double", "shift_half_even"] = "dyadic"
    """`shift_half_even` makes every scale a power of two."""
    mult_bits: Literal[31, 17, 15] = 31
    accumulator_bits: Annotated[int, Field(ge=8, le=32)] = 32
    """Accumulators that might need more are refused."""


class Recipe(LayerSettings):
    """A whole recipe. Frozen; round-trips through JSON and YAML."""

    schema_version: Literal[1] = 1
    name: str = "custom"
    description: str = ""
    activations: Literal["u8", "s8_symmetric"] = "u8"
    bias_correction: Switch = True
    equalize: Switch = "auto"
    """Move the ranges of a layer's channels into the layer before, where that measures better."""
    smooth: Switch = "auto"
    """Move the ranges of activation channels into the weights that read them, where that measures better."""
    round_embeddings: bool = True
    """Store embedding tables that nothing else reads as 8-bit codes, with a scale for each row."""
    keep_head: bool = False
    """Linear layers whose result the model returns stay in float: the vocabulary layer of a language model."""
    never_slower: bool = True
    """Put a quantized region back to float where it is measured to be slower than float."""
    integer: IntegerSettings | None = None
    """An integer-only program, where the target has the choice."""
    calibration: CalibrationSettings = CalibrationSettings()
    rules: tuple[Rule, ...] = ()
    ignore: tuple[str, ...] = ()
    """Layers that stay in float, as patterns over module paths."""
    allow: tuple[str, ...] = FLOAT_OPS
    """Ops, or categories of ops, that may stay in float; another op left in float is an error."""
    passes: Mapping[str, Mapping[str, Any]] = {}
    """Fields of single steps of the pipeline, by pass name; `{enabled: false}` switches a step off."""

    @field_validator("rules", "ignore", "allow", mode="before")
    @classmethod
    def _none_is_empty(cls, value: Any) -> Any:
        return () if value is None else value

    @property
    def integer_only(self) -> bool:
        """True for programs of integer ops only; those with powers of two are Q/DQ that a runtime may fuse."""
        return self.integer is not None and self.integer.profile != "shift_half_even"

    def settings_for(self, module_path: str, op: str) -> LayerSettings:
        """The settings in force for one op of one module: top level, then `ignore`, then rules in order."""
        values = {name: getattr(self, name) for name in LayerSettings.model_fields}
        if any(matches(pattern, module_path) for pattern in self.ignore):
            values["scheme"] = "float"
        for rule in self.rules:
            if rule.applies_to(module_path, op):
                values.update(rule.overrides())
        return LayerSettings(**values)

    def unmatched_patterns(self, module_paths: list[str]) -> list[str]:
        """Patterns of `ignore` and `rules` that match no module of the model: often a typing error."""
        patterns = [*self.ignore, *(rule.match for rule in self.rules)]
        return [p for p in dict.fromkeys(patterns) if not any(matches(p, path) for path in module_paths)]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, every field present, rules without their unset fields."""
        data = self.model_dump(mode="json")
        data["rules"] = [rule.model_dump(mode="json", exclude_none=True) for rule in self.rules]
        return data

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2, sort_keys=True)

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.to_dict(), sort_keys=False, width=110)

    def with_changes(self, changes: Mapping[str, Any]) -> Recipe:
        """A copy with some fields replaced, validated again. Errors name the field."""
        return _validate({**self.to_dict(), **changes}, where=f"recipe {self.name!r}")


def matches(pattern: str, module_path: str) -> bool:
    """Whether a shell pattern covers a module path or one of the modules around it."""
    if fnmatchcase(module_path, pattern):
        return True
    parts = module_path.split(".")
    return any(fnmatchcase(".".join(parts[:n]), pattern) for n in range(1, len(parts)))


def recipe_names() -> list[str]:
    """Names of the recipes that come with the compiler."""
    return sorted(path.stem for path in RECIPE_FOLDER.glob("*.yaml"))


def load_recipe(source: str | Path | Mapping[str, Any] | Recipe) -> Recipe:
    """A recipe from its name, the path of a YAML or JSON file, or a mapping.

    Raises UsageError for an unknown name, an unreadable file or an unknown field, naming the nearest.
    """
    if isinstance(source, Recipe):
        return source
    if isinstance(source, Mapping):
        return resolve(dict(source), where="recipe", chain=())
    path = _find(str(source))
    return resolve(_read(path), where=str(source), chain=(path.resolve(),))


def resolve(data: dict[str, Any], *, where: str, chain: tuple[Path, ...]) -> Recipe:
    """Merge `base` recipes into `data` and fill in every default.

    Mappings merge key by key, `rules` are appended (the user's own come last and win), other values replace.
    `chain` holds the files already read, to refuse a recipe that is its own base.
    """
    base = data.pop("base", None)
    if base is not None:
        path = _find(str(base))
        if path.resolve() in chain:
            raise UsageError(f"{where}: base {base!r} leads back to a recipe that is being read")
        parent = resolve(_read(path), where=str(base), chain=(*chain, path.resolve()))
        data.setdefault("name", f"{parent.name} (changed)")
        data = _merge(parent.to_dict(), data)
    return _validate(data, where=where)


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        if key == "rules":
            merged[key] = [*base.get("rules", ()), *(value or ())]
        elif isinstance(value, Mapping) and isinstance(base.get(key), Mapping):
            merged[key] = _merge(base[key], value)
        else:
            merged[key] = value
    return merged


def _find(name: str) -> Path:
    shipped = RECIPE_FOLDER / f"{name}.yaml"
    if "/" not in name and shipped.is_file():
        return shipped
    path = Path(name)
    if path.is_file():
        return path
    known = recipe_names()
    raise UsageError(
        f"unknown recipe {name!r}: neither a file nor one of {', '.join(known)}.{did_you_mean(name, known)}"
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"cannot read recipe {path}: {error}") from error
    if not isinstance(data, dict):
        raise UsageError(f"recipe {path}: expected a mapping of fields, found {type(data).__name__}")
    return data


def _validate(data: Mapping[str, Any], *, where: str) -> Recipe:
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise UsageError(explain(error, Recipe, where)) from None
