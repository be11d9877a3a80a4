"""From the fields of a recipe to the configurations of a target's steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from qcompiler.errors import UnsupportedError, UsageError, did_you_mean
from qcompiler.validation import explain

if TYPE_CHECKING:
    from qcompiler.passes.base import Pass
    from qcompiler.recipe import Recipe
    from qcompiler.targets import Target


def pass_configs(recipe: Recipe, target: Target) -> dict[str, Any]:
    """Configuration by step name; None switches a step off.

    Raises UsageError for a step that the pipeline does not have or a field that the step does not have.
    """
    from qcompiler.passes.transform import optional_configs

    configs = recipe_configs(recipe)
    optional = optional_configs()
    for name, kind in optional.items():
        asked = name in recipe.passes and recipe.passes[name].get("enabled", True)
        configs[name] = kind() if asked else None
    steps = {step.name: step for step in target.pipeline(configs)}
    for name, fields in recipe.passes.items():
        if name not in steps and (name not in configs or configs[name] is not None):
            known = sorted({*steps, *configs})
            raise UsageError(
                f"recipe {recipe.name!r}: passes.{name}: target {target.name} has no such step."
                f"{did_you_mean(name, known)} Known: {', '.join(known)}"
            )
        given = dict(fields)
        if not given.pop("enabled", True):
            configs[name] = None
        elif given:
            configs[name] = _changed(recipe, steps.get(name), name, given)
    _check_methods(recipe, set(steps), target)
    return configs


def _check_methods(recipe: Recipe, steps: set[str], target: Target) -> None:
    """A method that the recipe asks for by name must have its step, or it would silently not be done."""
    asked = {f"rounding: {s.rounding}": f"round_{s.rounding}" for s in (recipe, *recipe.rules) if s.rounding}
    asked = {field: step for field, step in asked.items() if step != "round_auto"}
    if any(s.weight_digits for s in (recipe, *recipe.rules)):
        asked["weight_digits"] = "round_digits"
    if any(s.scheme == "auto" for s in (recipe, *recipe.rules)):
        asked["scheme: auto"] = "choose_scheme"
    switches = {
        "bias_correction": "correct_bias",
        "equalize": "equalize_layers",
        "smooth": "smooth_activations",
    }
    asked |= {f"{field}: true": step for field, step in switches.items() if getattr(recipe, field) is True}
    for field, step in asked.items():
        if step not in steps:
            raise UnsupportedError(
                f"recipe {recipe.name!r} asks for `{field}`, and the pipeline of target {target.name} has no step "
                f"{step}"
            )


def recipe_configs(recipe: Recipe) -> dict[str, Any]:
    """What the top-level fields of a recipe say about single steps."""
    from qcompiler.passes.quantize.assign_precision import AssignConfig
    from qcompiler.passes.transform.equalize_layers import EqualizeConfig

    configs: dict[str, Any] = {"assign_precision": AssignConfig(recipe=recipe)}
    if recipe.equalize is True:
        configs["equalize_layers"] = EqualizeConfig(when="always")
    configs |= _integer_configs(recipe)
    switches = {
        "correct_bias": recipe.bias_correction,
        "equalize_layers": recipe.equalize,
        "smooth_activations": recipe.smooth,
        "split_channels": recipe.smooth,
        "never_slower": recipe.never_slower,
        "round_embeddings": recipe.round_embeddings,
    }
    return configs | {name: None for name, on in switches.items() if on is False}


def _integer_configs(recipe: Recipe) -> dict[str, Any]:
    """The steps that make an integer program; absent where the recipe leaves it to the target."""
    if recipe.integer is None:
        return {}
    from qcompiler.passes.integer.config import IntegerConfig
    from qcompiler.passes.integer.prove_ranges import ProveConfig
    from qcompiler.passes.integer.snap_scales import SnapConfig

    settings = recipe.integer
    try:
        config = IntegerConfig(profile=settings.profile, mult_bits=settings.mult_bits)
    except ValidationError as error:
        raise UsageError(explain(error, IntegerConfig, f"recipe {recipe.name!r}: integer")) from None
    snap = SnapConfig() if settings.profile == "shift_half_even" else None
    proof = ProveConfig(accumulator_bits=settings.accumulator_bits)
    return {"integerize": config, "prove_ranges": proof, "snap_scales": snap}


def _changed(recipe: Recipe, step: Pass | None, name: str, fields: Mapping[str, Any]) -> BaseModel:
    where = f"recipe {recipe.name!r}: passes.{name}"
    config = getattr(step, "config", None)
    if step is None:
        raise UsageError(f"{where}: the step is switched off by another field of the recipe")
    if not isinstance(config, BaseModel):
        raise UsageError(f"{where}: the step has no fields")
    try:
        return type(config).model_validate({**config.model_dump(), **fields})
    except ValidationError as error:
        raise UsageError(explain(error, type(config), where)) from None
