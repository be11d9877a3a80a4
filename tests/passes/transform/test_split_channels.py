"""Splitting of massive channels of gated MLPs."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.calibration import load_samples
from qcompiler.executors.reference import run_reference
from qcompiler.ir import DType, Graph, GraphBuilder, verify_graph
from qcompiler.passes.base import Context
from qcompiler.passes.transform.split_channels import (
    SplitChannels,
    SplitConfig,
    copies,
    find_gated,
    split_gated,
)
from support.decoder import decoder, difference


def gated(massive: float, reader: str = "") -> Graph:
    """x -> down(silu(gate x) * up x) + x with one massive channel, for one token in eight."""
    r = np.random.default_rng(0)
    b = GraphBuilder("gated")
    x = b.input("x", DType.float32, (8, 16))
    weights = [(r.standard_normal(s) / 4).astype(np.float32) for s in ((24, 16), (24, 16), (16, 24))]
    weights[1][3, 0] = massive
    gate = b.op("linear", x, b.const(weights[0]))
    act = b.op("silu", gate)
    hidden = b.op("mul", act, b.op("linear", x, b.const(weights[1])))
    outputs = [b.op("add", x, b.op("linear", hidden, b.const(weights[2])))]
    if reader == "gate":
        outputs.append(b.op("reshape", gate, shape=(24, 8)))
    elif reader == "act":
        outputs.append(b.op("tanh", act))
    return b.build(outputs)


def data(seed: int) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal((8, 16)).astype(np.float32)
    x[0, 0], x[1:, 0] = 2, 1e-4 * x[1:, 0]
    return x


@pytest.mark.parametrize("bias", [True, False])
def test_splitting_is_exact(bias: bool) -> None:
    for number, bound in ((np.float64, 1e-9), (np.float32, 1e-5)):
        graph = decoder(bias=bias, number=number)
        counts = {m: copies(np.arange(24) ** 2.0, 9) for m in find_gated(graph)[0]}
        assert len(counts) == 2
        result = split_gated(graph, counts, "test")
        verify_graph(result)
        assert {n.output.shape[-1] for n in result.nodes if n.op == "silu"} == {33}
        assert difference(graph, result) <= bound


def test_ones_return_the_same_graph() -> None:
    graph = decoder()
    assert split_gated(graph, {m: np.ones(24, np.int64) for m in find_gated(graph)[0]}, "test") is graph


def test_copies_divide_the_widest_most_evenly() -> None:
    assert copies(np.array([1.0, 100.0, 30.0]), 3).tolist() == [1, 4, 1]
    assert copies(np.array([1.0, 100.0, 30.0]), 0).tolist() == [1, 1, 1]


def test_massive_channels_are_split_where_it_pays_and_a_lock_replays_it() -> None:
    graph = gated(massive=4000)
    context = Context(samples=load_samples([(data(i),) for i in range(8)], graph))
    result = SplitChannels(SplitConfig(copies=(32, 128))).run(graph, context)
    assert result.changed and result.notes[0].data["gain_db"] > 1
    x = data(99)
    before, after = run_reference(graph, [x])[0], run_reference(result.graph, [x])[0]
    assert np.abs(after - before).max() <= 1e-5 * np.abs(before).max()
    replayed = SplitChannels().run(graph, Context(locked=context.decisions)).graph
    assert all(np.array_equal(a.data, b.data) for a, b in zip(result.graph.constants(), replayed.constants()))


def test_channels_of_one_size_are_left_alone() -> None:
    graph = gated(massive=0.1)
    context = Context(samples=load_samples([(data(i),) for i in range(4)], graph))
    result = SplitChannels().run(graph, context)
    assert result.graph is graph and "times the median" in result.notes[0].reason


@pytest.mark.parametrize(("reader", "name"), [("gate", "more than the gate"), ("act", "another reader")])
def test_gates_with_an_outside_reader_are_refused_by_name(reader: str, name: str) -> None:
    found, notes = find_gated(gated(1.0, reader))
    assert not found and name in notes[0].reason
