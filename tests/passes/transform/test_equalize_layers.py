"""Cross-layer equalization: exact, refused where it would not be, taken where it pays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qcompiler.executors.reference import run_reference
from qcompiler.ir import DType, Graph, constant, rewrite
from qcompiler.passes.transform.channel_groups import find_channel_groups
from qcompiler.passes.transform.equalize_layers import EqualizeConfig, EqualizeLayers
from qcompiler.passes.transform.fold import apply_channel_factors
from support.toy_networks import Layers, context_for, mobile_network, random_samples

ALWAYS = EqualizeConfig(when="always")


def uneven(graph: Graph, power: float = 2.0) -> Graph:
    """The same function with ranges pulled apart: what equalization has to undo."""
    rng = np.random.default_rng(0)
    factors = {}
    for group in find_channel_groups(graph, []):
        factors.update(dict.fromkeys(group.values, np.exp(rng.uniform(-power, power, group.channels))))
    return apply_channel_factors(graph, factors, "test")


def relu_network() -> Graph:
    b = Layers("relu")
    x = b.input("x", DType.float32, (1, 3, 7, 5))
    y = b.op("relu", b.conv(x, 8, 3, at="a"))
    y = b.op("relu", b.conv(y, 8, 3, groups=8, bias=False, at="depthwise"))
    y = b.op("max_pool", b.conv(y, 6, at="c"), kernel=(2, 2), strides=(2, 2), pads=(0,) * 4)
    return b.build([b.conv(y, 5, at="d")])


def double_run(graph: Graph, samples) -> np.ndarray:
    return np.stack([run_reference(graph, s, float64=True)[0] for s in samples])


@pytest.mark.parametrize("network", [relu_network, mobile_network])
@pytest.mark.parametrize("statistic", ["activations", "weights"])
def test_function_is_preserved(network, statistic):
    graph = network()
    result = EqualizeLayers(EqualizeConfig(when="always", statistic=statistic)).run(graph, context_for(graph))
    assert result.changed
    samples = random_samples(graph, 3)
    a, b = double_run(result.graph, samples), double_run(graph, samples)
    # the folded weights are float32 constants: each is off by half a unit in the last place
    assert np.abs(a - b).max() / np.abs(b).max() < 1e-6


def test_fold_is_exact_with_powers_of_two():
    graph = relu_network()
    groups = list(find_channel_groups(graph, []))
    assert len(groups) == 3
    factors = {v: 2.0 ** np.arange(-3, g.channels - 3) for g in groups for v in g.values}
    samples = random_samples(graph, 3)
    a, b = double_run(apply_channel_factors(graph, factors, "test"), samples), double_run(graph, samples)
    assert np.abs(a - b).max() / np.abs(b).max() <= 1e-9


def test_identity_factors_change_nothing():
    graph = relu_network()
    factors = {v: np.ones(g.channels) for g in find_channel_groups(graph, []) for v in g.values}
    assert apply_channel_factors(graph, factors, "test") is graph


def test_ranges_meet_and_a_second_run_has_nothing_to_do():
    graph = uneven(relu_network())
    context = context_for(graph)
    weights = EqualizeConfig(when="always", statistic="weights")
    once = EqualizeLayers(weights).run(graph, context)
    largest = [n.data["largest"] for n in once.notes if n.data]
    again = EqualizeLayers(weights).run(once.graph, context)
    assert max(n.data["largest"] for n in again.notes if n.data) < max(largest)


def test_uneven_ranges_are_taken_up_and_even_ones_left():
    graph = uneven(relu_network(), 3.0)
    context = context_for(graph, 16)
    result = EqualizeLayers().run(graph, context)
    decision = context.decisions["equalize_layers"]
    assert result.changed and decision["applied"] and decision["sqnr_db_after"] > decision["sqnr_db_before"]
    locked = replace(context_for(graph, 16), locked={"equalize_layers": {**decision, "applied": False}})
    replayed = EqualizeLayers().run(graph, locked)
    assert replayed.graph is graph and all(n.reason for n in replayed.notes if not n.taken)


def test_clips_outputs_and_foreign_readers_refuse():
    graph = mobile_network()
    notes = []
    groups = list(find_channel_groups(graph, notes))
    assert [g.producers[0].origin.module for g in groups] == ["block.project0"]
    assert len(groups[0].producers) == 2  # the residual sum ties both projections
    reasons = {n.site: n.reason for n in notes}
    assert "limits would differ" in reasons["conv at stem"]
    assert "cannot be scaled" in reasons["conv at head"]
    assert "returns" in reasons["linear at classifier"]


def test_a_norm_between_refuses():
    b = Layers("norm")
    x = b.input("x", DType.float32, (1, 4, 8))
    y = b.op("layer_norm", b.linear(x, 8), None, None, eps=1e-5)
    notes = []
    assert not list(find_channel_groups(b.build([b.linear(y, 8)]), notes))
    assert "layer_norm" in notes[0].reason


def test_dead_channels_keep_their_factor():
    graph = relu_network()
    first = next(n for n in graph.nodes if n.origin.module == "a")
    weight, bias = first.inputs[1].data.copy(), first.inputs[2].data.copy()
    weight[2], bias[2] = 0, 0

    def visit(new, node):
        if node is not first:
            return None
        return new.op("conv", node.inputs[0], constant(weight), constant(bias), **dict(node.attrs))

    dead = rewrite(graph, visit)
    result = EqualizeLayers(ALWAYS).run(dead, context_for(dead))
    changed = next(n for n in result.graph.nodes if n.origin.module == "a")
    assert not changed.inputs[1].data[2].any() and np.isfinite(changed.inputs[1].data).all()
