"""From recipe fields to configured steps."""

from __future__ import annotations

import pytest

from qcompiler.compilation import build_passes
from qcompiler.errors import UnsupportedError, UsageError
from qcompiler.passes.transform import optional_configs
from qcompiler.pipeline_config import pass_configs
from qcompiler.recipe import load_recipe
from qcompiler.targets import get_target, known_targets


def steps(**changes):
    return {
        p.name: p
        for p in build_passes(load_recipe({"base": "w8a8", **changes}), get_target("onnxruntime-cpu"))
    }


@pytest.mark.parametrize("target", known_targets())
@pytest.mark.parametrize("recipe", ["w8a8", "w8a8-dynamic", "w8a8-int", "w8a8-pow2"])
def test_shipped_recipes_give_a_pipeline_for_every_target(target, recipe):
    names = [p.name for p in build_passes(load_recipe(recipe), get_target(target))]
    assert names.index("assign_precision") < names.index("lower_to_quantized")


def test_switches_of_the_recipe_remove_steps():
    assert "correct_bias" in steps()
    assert "correct_bias" not in steps(bias_correction=False)
    assert "smooth_activations" not in steps(smooth=False)
    assert "round_nearest" not in steps(passes={"round_nearest": {"enabled": False}})


def test_fields_of_a_step_are_set_and_validated():
    assert steps(passes={"correct_bias": {"samples": 7}})["correct_bias"].config.samples == 7
    with pytest.raises(
        UsageError, match="passes.correct_bias: sample: unknown field. Did you mean 'samples'?"
    ):
        steps(passes={"correct_bias": {"sample": 7}})
    with pytest.raises(UsageError, match="greater than or equal to 1"):
        steps(passes={"correct_bias": {"samples": 0}})
    with pytest.raises(UsageError, match="Did you mean 'correct_bias'?"):
        steps(passes={"corect_bias": {"samples": 7}})


@pytest.mark.parametrize("name", sorted(optional_configs()))
def test_optional_steps_run_only_where_a_recipe_names_them(name):
    assert name not in steps()
    assert name in steps(passes={name: {}})
    assert name not in steps(passes={name: {"enabled": False}})


def test_fields_of_an_optional_step_are_set_and_its_absence_from_a_target_is_an_error():
    chosen = steps(passes={"rotate_residual": {"rotation": "random"}})["rotate_residual"]
    assert chosen.config.rotation == "random"

    class Bare:
        name = "bare"

        def pipeline(self, configs):
            return []

    changes = {"base": "w8a8", "bias_correction": False, "rounding": "auto"}
    with pytest.raises(UsageError, match="target bare has no such step"):
        pass_configs(load_recipe({**changes, "passes": {"rotate_residual": {}}}), Bare())


def test_a_method_without_its_step_is_refused_rather_than_skipped():
    """A target whose pipeline lacks the steps that a recipe names."""

    class Bare:
        name = "bare"

        def pipeline(self, configs):
            return []

    for changes in ({"rules": [{"match": "*", "rounding": "hessian"}]}, {"bias_correction": True}):
        recipe = load_recipe({"base": "w8a8", "bias_correction": False, "rounding": "auto", **changes})
        with pytest.raises(UnsupportedError, match="target bare has no step (round_hessian|correct_bias)"):
            pass_configs(recipe, Bare())
