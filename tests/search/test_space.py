import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search.problems import bits_target

from qcompiler.errors import UnsupportedError, UsageError
from qcompiler.ir import DType
from qcompiler.passes.base import Context
from qcompiler.passes.quantize.assign_precision import PLAN, AssignConfig, AssignPrecision
from qcompiler.recipe import load_recipe
from qcompiler.search.choices import FLOAT, Choice, legal_choices
from qcompiler.search.groups import Group, find_groups
from qcompiler.search.recipes import to_recipe, usual_knobs
from qcompiler.search.space import GlobalKnob, Option, Space
from qcompiler.targets import get_target
from support.toy_networks import Layers, ToyKernel, encoder_network, mobile_network

W8A8 = load_recipe("w8a8")


def space_of(graph, target, knobs=()):
    return Space(tuple(knobs), find_groups(graph, W8A8, target))


def test_choices_are_the_targets_kernels_and_nothing_else():
    graph = mobile_network()
    conv = next(n for n in graph.nodes if n.op == "conv")
    linear = next(n for n in graph.nodes if n.op == "linear")
    target = bits_target(8, 4)
    assert [c.name for c in legal_choices(conv, W8A8, target)] == ["static w8a8", "static w4a8", "float"]
    assert [c.name for c in legal_choices(linear, W8A8, target)] == [
        "static w8a8", "dynamic w8a8", "static w4a8", "float",
    ]  # fmt: skip
    no_float = bits_target(8, capabilities=frozenset())
    assert [c.name for c in legal_choices(conv, W8A8, no_float)] == ["static w8a8"]
    symmetric = W8A8.with_changes({"activations": "s8_symmetric"})
    assert [c.name for c in legal_choices(conv, symmetric, target)] == ["float"]  # kernels read unsigned codes only


def test_choices_of_onnxruntime_leave_out_its_slower_kernels():
    target = get_target("onnxruntime-cpu:avx2")
    conv = next(n for n in mobile_network().nodes if n.op == "conv")
    assert legal_choices(conv, W8A8, target) == (Choice("static", 8, 8, True, None, "QLinearConv"), FLOAT)


def test_query_key_and_value_are_one_group():
    groups = find_groups(encoder_network(), W8A8, bits_target(8, 4))
    assert groups[0].members == (("attention.q", "linear"), ("attention.k", "linear"), ("attention.v", "linear"))
    assert [g.name for g in groups[1:]] == ["attention.output", "mlp.up", "mlp.down"]
    assert groups[0].weights == 3 * 16 * 16


def test_a_shared_weight_and_readers_of_one_value_are_tied():
    b = Layers("tied")
    x = b.input("x", DType.float32, (1, 4, 6, 6))
    y, z = b.conv(x, 4, at="first"), b.conv(x, 4, at="second")
    weight = b.const(b.random(4, 4, 1, 1), name="weight")
    shapes = {"strides": (1, 1), "pads": (0,) * 4, "dilations": (1, 1), "groups": 1}
    for name in ("third", "fourth"):
        b.origin = type(b.origin)(name)
        y = b.op("conv", y, weight, None, **shapes)
    graph = b.build([b.op("add", y, z)])
    groups = find_groups(graph, W8A8, bits_target(8, 4))
    assert [g.members for g in groups] == [
        (("first", "conv"),), (("second", "conv"),), (("third", "conv"), ("fourth", "conv")),
    ]  # fmt: skip
    assert groups[2].weights == 16  # counted once
    mixed = bits_target(8, 4)
    mixed.kernels["conv"] = (*mixed.kernels["conv"], ToyKernel(DType.uint4, DType.int4, "w4a4"))
    assert find_groups(graph, W8A8, mixed)[0].members == (("first", "conv"), ("second", "conv"))


def test_nothing_to_decide_is_refused():
    with pytest.raises(UnsupportedError, match="nothing to quantize"):
        find_groups(mobile_network(), W8A8.with_changes({"ignore": ["*"]}), bits_target(8))


def toy_space(options=3):
    choices = tuple(Choice(s, w, 8) for s, w in (("static", 8), ("static", 4), ("dynamic", 8)))[:options]
    groups = tuple(Group(f"g{i}", ((f"g{i}", "linear"),), (*choices, FLOAT), 100 * (i + 1), 1, 1) for i in range(3))
    knobs = (
        GlobalKnob("clipping", (Option("a", {}), Option("b", {"weight_range": "minmax"})), frozenset({"static"})),
        GlobalKnob("equalization", (Option("on", {}), Option("off", {"equalize": False}))),
    )
    return Space(knobs, groups)


@pytest.mark.parametrize("options", [1, 2, 3])
def test_size_counts_distinct_programs(options):
    space = toy_space(options)
    every = itertools.product(*(range(n) for n in space.radix))
    legal = {space.key(space.canonical(c)) for c in every if space.is_legal(c)}
    listed = list(space.enumerate(seed=3))
    assert space.size == len(legal) == len(listed) == len(set(listed))
    assert {space.key(c) for c in listed} == legal
    assert listed != list(space.enumerate(seed=4)) and listed == list(space.enumerate(seed=3))


def test_large_spaces_are_enumerated_without_being_listed():
    groups = tuple(Group(f"g{i}", ((f"g{i}", "conv"),), (Choice("static", 8, 8), Choice("static", 4, 8)), 1, 1, 1) for i in range(60))
    space = Space((), groups)
    assert space.size == 2**60
    first = list(itertools.islice(space.enumerate(1), 500))
    assert len(set(first)) == 500


def test_a_knob_that_means_nothing_does_not_change_the_key():
    space = toy_space()
    quiet = (0, 0, 2, 2, 3)  # dynamic, dynamic, float
    assert space.canonical((1, 0, 2, 2, 3)) == quiet
    assert space.key((1, 0, 2, 2, 3)) == space.key(quiet) != space.key((0, 1, 2, 2, 3))
    assert "clipping" not in space.describe(quiet)["global"]
    assert not space.is_legal((0, 0, 3, 3, 3))  # nothing quantized


def test_keys_of_other_spaces_differ():
    assert toy_space(3).key((0, 0, 0, 0, 0)) != toy_space(2).key((0, 0, 0, 0, 0))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_samples_neighbours_and_mutations_are_legal_and_canonical(seed):
    space, rng = toy_space(), np.random.default_rng(seed)
    for config in space.sample(rng, 5):
        assert space.parse(space.describe(config)) == config == space.canonical(config)
        around = space.neighbours(config)
        assert len(set(around)) == len(around) and config not in around
        for other in (*around, space.mutate(config, rng, 2)):
            assert space.is_legal(other) and space.canonical(other) == other


def test_samples_are_uniform_over_programs():
    space, rng = toy_space(1), np.random.default_rng(0)
    counts: dict[tuple[int, ...], int] = {}
    for _ in range(6000):
        (config,) = space.sample(rng, 1)
        counts[config] = counts.get(config, 0) + 1
    assert len(counts) == space.size
    expected = 6000 / space.size
    chi2 = sum((n - expected) ** 2 / expected for n in counts.values())
    assert chi2 < space.size - 1 + 5 * np.sqrt(2 * (space.size - 1))  # five standard deviations of chi square


def test_parse_names_what_is_unknown():
    with pytest.raises(UsageError, match="g1: 'static w3a8' is none of"):
        toy_space().parse({"global": {}, "groups": {"g0": "float", "g1": "static w3a8", "g2": "float"}})


def test_recipe_of_a_configuration_assigns_exactly_its_choices():
    graph, target = mobile_network(), bits_target(8, 4)
    space = space_of(graph, target, usual_knobs(64, W8A8, target))
    rng = np.random.default_rng(5)
    for config in space.sample(rng, 12):
        recipe = to_recipe(space, config, W8A8)
        context = Context(target=target)
        AssignPrecision(AssignConfig(recipe=recipe)).run(graph, context)
        plans = {n.origin.module: p for n, p in context.tables[PLAN].nodes.items() if n.op in ("conv", "linear")}
        for group, choice in zip(space.groups, space.choices(config), strict=True):
            for module, _ in group.members:
                assert plans[module].scheme == choice.scheme
                if choice.scheme != "float":
                    assert plans[module].weight_dtype is DType[f"int{choice.weight_bits}"]
        assert load_recipe(recipe.to_dict()) == recipe


def test_knobs_offer_only_what_the_recipe_leaves_open():
    target = get_target("onnxruntime-cpu")
    assert [k.name for k in usual_knobs(512, W8A8, target)] == ["rounding", "equalization", "clipping", "calibration"]
    fixed = W8A8.with_changes({"activation_range": {"method": "mse"}, "equalize": True, "rounding": "nearest"})
    assert [k.name for k in usual_knobs(1, fixed, target)] == []
    assert [o.name for o in usual_knobs(40, fixed, target)[0].options] == ["40", "1"]


def test_no_knob_for_a_step_that_the_target_does_not_have():
    assert [k.name for k in usual_knobs(512, W8A8, bits_target(8, 4))] == ["clipping", "calibration"]
