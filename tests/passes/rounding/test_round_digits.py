"""Weights as sums of few signed powers of two: what codes there are, and better than nearest ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qcompiler.errors import ConstraintError, UnsupportedError
from qcompiler.ir import DType, QuantParams
from qcompiler.ir.signed_digits import codes_of_digits, most_digits
from qcompiler.passes.base import run_passes
from qcompiler.passes.rounding.round_digits import RoundDigits, nearest
from qcompiler.pipeline_config import pass_configs
from qcompiler.recipe import load_recipe
from qcompiler.targets import get_target
from support.toy_networks import basic_passes, context_for, mobile_network, plan_of, recipe_with


def problem(groups: int = 1, outputs: int = 6, length: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """A weight [outputs, length] and the second moment [groups, length, length] of correlated inputs."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((groups, 400, length)) @ rng.standard_normal((groups, length, length))
    return rng.standard_normal((outputs, length)).astype(np.float32), np.einsum("gri,grj->gij", x, x) / 400


def error(weight: np.ndarray, real: np.ndarray, covariance: np.ndarray) -> float:
    e = (weight - real).reshape(len(covariance), -1, weight.shape[1])
    return float(np.einsum("gok,gkl,gol->", e, covariance, e))


@pytest.mark.parametrize("digits", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 3])
def test_codes_have_few_digits_and_beat_the_nearest_ones(digits: int, groups: int) -> None:
    weight, covariance = problem(groups)
    start = QuantParams(DType.int8, np.abs(weight).max(1) / 127, axis=0)
    found = RoundDigits().round(weight, start, covariance, np.zeros(6), digits)
    assert most_digits(found.codes, 8) <= digits == found.quant.digits
    admissible = torch.from_numpy(codes_of_digits(8, digits)).double()
    best = np.inf
    for factor in np.exp2(np.linspace(-0.5, 0.5, 12)):
        scale = factor * np.abs(weight).max(1, keepdims=True) / float(admissible[-1])
        best = min(best, error(weight, nearest(torch.from_numpy(weight / scale), admissible).numpy() * scale, covariance))
    assert error(weight, found.real(), covariance) < 0.7 * best


def test_powers_of_two_stay_powers_of_two() -> None:
    weight, covariance = problem()
    start = QuantParams(DType.int8, np.exp2(np.ceil(np.log2(np.abs(weight).max(1) / 127))), axis=0)
    ratio = RoundDigits().round(weight, start, covariance, np.zeros(6), 2).quant.scale / start.scale
    assert set(ratio.tolist()) <= {1.0, 2.0}


def test_one_scale_for_the_whole_weight() -> None:
    weight, covariance = problem()
    found = RoundDigits().round(weight, QuantParams(DType.int8, np.float32(0.02)), covariance, np.zeros(6), 2)
    assert found.quant.per_tensor and most_digits(found.codes, 8) <= 2


def test_the_pass_takes_the_layers_that_ask_for_it() -> None:
    graph = mobile_network()
    recipe = recipe_with(rules=[{"match": "*", "ops": ["conv"], "weight_digits": 2}])
    context = context_for(graph)
    run_passes(graph, basic_passes(recipe), context)
    plan, before = plan_of(context), dict(plan_of(context).weights)
    result = RoundDigits().run(graph, context)
    asked = [node for node, p in plan.nodes.items() if p.digits == 2]
    assert asked and len(result.notes) == len(asked) and all(note.taken and not note.reason for note in result.notes)
    for node, codes in plan.weights.items():
        assert most_digits(codes.codes, 8) <= 2 if node in asked else codes is before[node]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rounding": "adaround"}, "weights of 2 signed digits are searched for.*set rounding: auto"),
        ({"weight_bits": 2}, "weight_digits is for codes of 3 to 8 bits"),
        ({"scheme": "dynamic"}, "weight_digits is for scheme static, the recipe asks for dynamic"),
    ],
)
def test_settings_that_contradict_it(settings: dict, message: str) -> None:
    graph = mobile_network()
    with pytest.raises(ConstraintError, match=message):
        run_passes(graph, basic_passes(recipe_with(weight_digits=2, **settings)), context_for(graph))


def test_targets_without_the_step_refuse() -> None:
    recipe = load_recipe("w8a8").with_changes({"weight_digits": 2})
    with pytest.raises(UnsupportedError, match="asks for `weight_digits`, and the pipeline of target onnx has no step round_digits"):
        pass_configs(recipe, get_target("onnx"))
