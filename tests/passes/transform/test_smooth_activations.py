"""The smoothing pass: what it takes, what it refuses, what a lock replays."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.calibration import load_samples
from qcompiler.errors import UsageError
from qcompiler.executors.reference import run_reference
from qcompiler.ir import DType, Graph, GraphBuilder, verify_graph
from qcompiler.passes.base import Context
from qcompiler.passes.transform.smooth_activations import SmoothActivations, SmoothConfig


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def mlp(outlier: float) -> Graph:
    """layer_norm -> fc1 -> gelu -> fc2 in float64; one channel of the norm is `outlier` times the others."""
    b = GraphBuilder("mlp")
    x = b.input("x", DType.float64, (4, 32))
    gamma = np.ones(32)
    gamma[5] = outlier
    n = b.op("layer_norm", x, b.const(gamma), b.const(normal(1, 32)), eps=1e-5)
    h = b.op("gelu", b.op("linear", n, b.const(normal(2, 48, 32) / 6), b.const(normal(3, 48))))
    return b.build([b.op("linear", h, b.const(normal(4, 8, 48) / 7))])


def context(graph: Graph) -> Context:
    return Context(samples=load_samples([(normal(10 + i, 4, 32),) for i in range(16)], graph))


def test_outliers_are_smoothed_exactly() -> None:
    graph = mlp(outlier=50)
    ctx = context(graph)
    result = SmoothActivations().run(graph, ctx)
    assert result.changed
    verify_graph(result.graph)
    taken = [n for n in result.notes if n.taken]
    assert taken and taken[0].data["gain_db"] > 3
    x = normal(99, 4, 32)
    before, after = run_reference(graph, [x])[0], run_reference(result.graph, [x])[0]
    assert np.abs(before - after).max() <= 1e-9 * np.abs(before).max()


def test_a_lock_replays_the_same_weights_without_data() -> None:
    graph = mlp(outlier=50)
    ctx = context(graph)
    measured = SmoothActivations().run(graph, ctx).graph
    replayed = SmoothActivations().run(graph, Context(locked=ctx.decisions)).graph
    first, second = list(measured.constants()), list(replayed.constants())
    assert len(first) == len(second)
    assert all(np.array_equal(a.data, b.data) for a, b in zip(first, second, strict=True))


def test_sites_without_gain_are_refused_with_the_figure() -> None:
    graph = mlp(outlier=1)
    result = SmoothActivations(SmoothConfig(min_gain_db=30)).run(graph, context(graph))
    assert not result.changed and result.graph is graph
    assert len(result.notes) == 2
    assert all(not n.taken and "needs 30" in n.reason for n in result.notes)


def test_no_multiply_where_it_is_off() -> None:
    graph = mlp(outlier=50)
    result = SmoothActivations(SmoothConfig(multiply=False, min_gain_db=0)).run(graph, context(graph))
    assert not any(n.op == "mul" for n in result.graph.nodes)
    assert any("multiply is off" in n.reason for n in result.notes)


def test_nan_in_the_data_names_the_tensor() -> None:
    graph = mlp(outlier=50)
    bad = normal(1, 4, 32)
    bad[2, 3] = np.nan
    with pytest.raises(UsageError, match="NaN"):
        SmoothActivations().run(graph, Context(samples=load_samples([(bad,), (bad,)], graph)))


def test_a_scalar_factor_in_front_of_a_layer_is_no_gate() -> None:
    b = GraphBuilder("scaled")
    x = b.op("relu", b.input("x", DType.float64, (4, 32)))
    graph = b.build([b.op("linear", b.op("mul", x, b.const(np.float64(0.5))), b.const(normal(2, 8, 32)))])
    result = SmoothActivations().run(graph, context(graph))
    verify_graph(result.graph)
    sample = [normal(3, 4, 32)]
    np.testing.assert_allclose(run_reference(result.graph, sample)[0], run_reference(graph, sample)[0], rtol=1e-12)
