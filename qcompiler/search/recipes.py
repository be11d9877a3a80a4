"""From a configuration to a recipe, and the knobs that a recipe leaves open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from qcompiler.recipe import Recipe
from qcompiler.search.choices import Choice
from qcompiler.search.space import Config, GlobalKnob, Option, Space

if TYPE_CHECKING:
    from qcompiler.search.groups import Group
    from qcompiler.targets import Target

STATIC = frozenset({"static"})
CALIBRATION_SIZES = (512, 64, 1)


def usual_knobs(samples: int, recipe: Recipe, target: Target) -> tuple[GlobalKnob, ...]:
    """Rounding, equalization, clipping and calibration size, where there is something to choose.

    Args:
        samples: calibration samples at hand; a size beyond them means all of them.
        recipe: a method that it names is kept; what it leaves at `auto` is open, and `auto` is one of the options.
        target: only methods that its pipeline has a step for are open.
    """
    from qcompiler.compilation import build_passes

    steps = {step.name for step in build_passes(recipe, target)}
    knobs = []
    if recipe.rounding == "auto" and "round_gptq" in steps:
        options = (Option("auto", {}), Option("gptq", {"rounding": "gptq"}))
        knobs.append(GlobalKnob("rounding", options))
    if recipe.equalize == "auto" and "equalize_layers" in steps:
        options = (Option("auto", {}), Option("on", {"equalize": True}), Option("off", {"equalize": False}))
        knobs.append(GlobalKnob("equalization", options, STATIC))
    if recipe.activation_range.method == "auto":
        methods = ("auto", "minmax", "mse", "percentile", "entropy")
        options = tuple(Option(m, {"activation_range": {"method": m}}) for m in methods)
        knobs.append(GlobalKnob("clipping", options, STATIC))
    sizes = list(dict.fromkeys(min(size, samples, recipe.calibration.max_samples) for size in CALIBRATION_SIZES))
    if len(sizes) > 1:
        options = tuple(Option(str(n), {"calibration": {"max_samples": n}}) for n in sizes)
        knobs.append(GlobalKnob("calibration", options, STATIC))
    return tuple(knobs)


def to_recipe(space: Space, config: Config, base: Recipe, name: str = "auto") -> Recipe:
    """The recipe that a configuration means: the base with its knobs, and one rule per layer that differs from it."""
    changes: dict[str, Any] = {"name": name}
    for knob, index in zip(space.knobs, config, strict=False):
        if space.canonical(config)[space.knobs.index(knob)] == index:
            _merge(changes, knob.options[index].changes)
    changed = base.with_changes({**changes, **_nested(base, changes)})
    rules = [rule.model_dump(mode="json", exclude_none=True) for rule in base.rules]
    own: list[tuple[int, dict[str, Any]]] = []
    for group, choice in zip(space.groups, space.choices(config), strict=True):
        own += [(module.count("."), rule) for module, rule in _rules(group, choice, changed)]
    # A rule covers the modules inside the one it names, and later rules win: outer modules first.
    rules += [rule for _, rule in sorted(own, key=lambda pair: pair[0])]
    return changed.with_changes({"rules": rules})


def _merge(into: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for field, value in changes.items():
        into[field] = {**into.get(field, {}), **value} if isinstance(value, Mapping) else value


def _nested(base: Recipe, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Changed fields that are mappings, with what the base has in them."""
    whole = base.to_dict()
    return {f: {**whole[f], **v} for f, v in changes.items() if isinstance(v, Mapping)}


def _rules(group: Group, choice: Choice, recipe: Recipe) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for module, op in group.members:
        wanted = settings_of(choice)
        present = recipe.settings_for(module, op).model_dump(mode="json")
        different = {f: v for f, v in wanted.items() if (present.get(f) or 0) != (v or 0)}
        if different:
            found.append((module, {"match": literal(module), "ops": [op], **different}))
    return found


def settings_of(choice: Choice) -> dict[str, Any]:
    """The fields of a layer's settings that a choice fixes."""
    if choice.scheme == "float":
        return {"scheme": "float"}
    settings: dict[str, Any] = {"scheme": choice.scheme, "weight_bits": choice.weight_bits}
    if choice.activation_bits <= 8:
        settings["activation_bits"] = choice.activation_bits
    if choice.group_size is None:
        settings |= {"per_channel": choice.per_channel, "group_size": 0}
    else:
        settings |= {"group_size": choice.group_size, "weight_symmetric": True}
        if choice.scheme == "dynamic":
            settings["granularity"] = "token"  # weights in groups have no kernel for one range per tensor
    return settings


def literal(module: str) -> str:
    """A shell pattern that matches one module path (and what is inside it)."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in module)
