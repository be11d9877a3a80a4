"""What a recipe may ask of weights in groups: refused before any data is looked at, listed by module."""

from __future__ import annotations

import pytest

from qcompiler.errors import ConstraintError, UnsupportedError
from qcompiler.ir import DType, Graph
from qcompiler.passes.base import Context
from qcompiler.passes.quantize.assign_precision import AssignConfig, AssignPrecision
from qcompiler.passes.quantize.plan import KEPT_HEAD, WEIGHT_ONLY, QuantPlan
from qcompiler.pipeline_config import pass_configs
from qcompiler.recipe import load_recipe
from qcompiler.targets import get_target
from support.toy_networks import Layers


def network() -> Graph:
    b = Layers("net")
    x = b.input("x", DType.float32, (2, 48))
    x = b.op("silu", b.linear(x, 40, at="blocks.0.up"))
    x = b.linear(x, 64, at="blocks.0.down")
    return b.build([b.linear(x, 10, at="head")])


def plan(base: str = "w4a16", target: str = "onnxruntime-cpu:avx2", **changes: object) -> QuantPlan:
    recipe = load_recipe(base).with_changes({"group_size": 16, "ignore": [], **changes})
    context = Context(target=get_target(target))
    AssignPrecision(AssignConfig(recipe=recipe)).run(network(), context)
    return context.tables["plan"]


def products(found: QuantPlan) -> dict[str, object]:
    return {n.origin.module: p for n, p in found.nodes.items() if n.op == "linear"}


def test_groups_that_do_not_divide_are_listed_by_module() -> None:
    with pytest.raises(ConstraintError, match="input channels of 2 layers") as error:
        plan(group_size=32)
    assert error.value.exit_code == 3
    assert "blocks.0.up: 48 input channels, groups of 32" in str(error.value)
    assert "blocks.0.down: 40 input channels" in str(error.value)
    assert "head" not in str(error.value)


def test_a_rule_takes_groups_back_or_changes_them() -> None:
    rules = [{"match": "blocks.0.down", "group_size": 0, "weight_bits": 8}]
    found = products(plan(rules=rules))
    assert found["blocks.0.down"].group_size is None and found["blocks.0.down"].weight_dtype is DType.int8
    assert found["blocks.0.up"].group_size == 16 and found["blocks.0.up"].scheme == WEIGHT_ONLY


def test_the_head_stays_real_only_where_the_recipe_says_so() -> None:
    rules = [{"match": "blocks.0.down", "group_size": 0}]
    assert products(plan(rules=rules))["head"].reason == KEPT_HEAD
    assert products(plan(rules=rules, keep_head=False))["head"].scheme == WEIGHT_ONLY


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"group_size": 24}, "int4 weights in groups of 24.*has groups of 16, 32, 64, 128, 256"),
        ({"scheme": "static"}, "group_size is for schemes weight_only and dynamic"),
        ({"scheme": "static", "group_size": 0, "weight_symmetric": False}, "weight_symmetric: false is for schemes"),
        ({"scheme": "dynamic"}, "granularity token or group"),
        ({"scheme": "dynamic", "granularity": "group", "group_size": 0}, "granularity: group needs a group_size"),
        ({"scheme": "dynamic", "weight_symmetric": False, "group_size": 0}, "weight_symmetric: false needs a group_size"),
        ({"scheme": "dynamic", "granularity": "token", "activation_bits": 4}, "have 8 bits, or 16 with granularity group, not 4"),
            ({"scheme": "dynamic", "granularity": "token", "activation_bits": 16}, "not 16 with granularity token"),
            ({"scheme": "static", "group_size": 0, "activation_bits": 16}, "int16 activations"),
    ],
)
def test_settings_without_a_kernel_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConstraintError, match=message):
        plan(**changes)


def test_any_group_is_legal_in_portable_files() -> None:
    rules = [{"match": "blocks.0.down", "group_size": 8}, {"match": "head", "group_size": 64}]
    assert products(plan(target="onnx", group_size=24, rules=rules))["blocks.0.up"].group_size == 24


def test_a_choice_among_schemes_needs_its_step() -> None:
    recipe = load_recipe("w8a8").with_changes({"scheme": "auto"})
    target = get_target("onnx")
    if "choose_scheme" in {step.name for step in target.pipeline({})}:
        assert pass_configs(recipe, target)["assign_precision"] is not None
        return
    with pytest.raises(UnsupportedError, match="scheme: auto.*no step choose_scheme"):
        pass_configs(recipe, target)
