"""Per-layer errors: definitions, streaming, non-finite values, and rows of a real graph."""

from __future__ import annotations

import math

import numpy as np
import pytest

from qcompiler.errors import InternalError
from qcompiler.executors.reference import run_reference
from qcompiler.ir import DType, Graph, Origin, Value, make_node
from qcompiler.metrics import sqnr
from qcompiler.report.layer_error import LayerErrors, Tap, layer_errors

TAP = Tap("v", "block.0", "linear")


def one_row(pairs, local=()):
    errors = LayerErrors([TAP])
    for x, y in pairs:
        errors.add("v", np.asarray(x, np.float32), np.asarray(y, np.float32))
    for x, y in local:
        errors.add_local("v", np.asarray(x, np.float32), np.asarray(y, np.float32))
    (row,) = errors.rows()
    return row


def test_a_row_holds_its_definitions():
    row = one_row([([3.0, 4.0], [3.5, 3.5])], local=[([3.0, 4.0], [3.0, 4.5])])
    assert (row.module, row.op) == ("block.0", "linear")
    assert row.sqnr_cumulative_db == pytest.approx(10 * math.log10(25 / 0.5))
    assert row.sqnr_local_db == pytest.approx(20.0)
    assert (row.max_abs_error, row.mean_shift, row.rms) == (0.5, 0.0, pytest.approx(math.sqrt(12.5)))


def test_streaming_over_ragged_samples_equals_one_array():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 60)).astype(np.float32)
    cuts = [7, 7, 30]
    row = one_row(zip(np.split(x, cuts), np.split(y, cuts), strict=True))
    assert row.sqnr_cumulative_db == pytest.approx(sqnr(x, y))
    assert row.mean_shift == pytest.approx(float((y - x).mean()), rel=1e-5)
    assert row.max_abs_error == pytest.approx(float(np.abs(x - y).max()))


def test_equal_runs_are_exact():
    row = one_row([([1.0, 2.0], [1.0, 2.0]), ([], [])])
    assert (row.sqnr_cumulative_db, row.max_abs_error, row.mean_shift) == (math.inf, 0.0, 0.0)


def test_values_that_are_infinite_in_both_runs_are_left_out():
    inf, nan = math.inf, math.nan
    row = one_row([([3.0, -inf, nan], [3.3, -inf, nan])])
    assert row.sqnr_cumulative_db == pytest.approx(20.0, abs=1e-4)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_value_that_is_infinite_in_one_run_is_an_infinite_error(bad):
    for x, y in (([1.0, 2.0], [1.0, bad]), ([1.0, bad], [1.0, 2.0])):
        row = one_row([(x, y), ([1.0], [1.0])])
        assert (row.sqnr_cumulative_db, row.max_abs_error) == (-math.inf, math.inf)


def test_a_value_that_never_came_has_no_row():
    errors = LayerErrors([TAP, Tap("w", "block.1", "relu")])
    errors.add("w", np.ones(2), np.ones(2))
    assert [row.module for row in errors.rows()] == ["block.1"]


def test_wrong_keys_and_shapes_are_named():
    errors = LayerErrors([TAP])
    with pytest.raises(InternalError, match="'w' is not a tap"):
        errors.add("w", np.ones(2), np.ones(2))
    with pytest.raises(InternalError, match=r"\(2,\), the quantized run \(3,\)"):
        errors.add("v", np.ones(2), np.ones(3))


@pytest.fixture
def graph():
    x = Value(DType.float32, (2, 3), name="x")
    first = make_node("relu", (x,), origin=Origin(module="act"))
    second = make_node("add", (first.output, x), origin=Origin(module="residual"))
    return Graph("g", [x], [first, second], [second.output])


def run(graph, array):
    values = {}
    taps = [v for node in graph.nodes for v in node.outputs]
    run_reference(graph, [array], taps=taps, on_value=values.__setitem__)
    return values


def test_rows_of_a_graph_are_in_program_order_and_named_by_module(graph):
    rng = np.random.default_rng(1)
    samples = []
    for _ in range(3):
        x = rng.normal(size=(2, 3)).astype(np.float32)
        samples.append((run(graph, x), run(graph, np.round(x * 8) / np.float32(8))))
    rows = layer_errors(graph, iter(samples))
    assert [(row.module, row.op) for row in rows] == [("act", "relu"), ("residual", "add")]
    assert all(row.sqnr_local_db is None for row in rows)
    value = graph.nodes[1].output
    x, y = (np.stack([sample[i][value] for sample in samples]) for i in (0, 1))
    assert rows[1].sqnr_cumulative_db == pytest.approx(sqnr(x, y))


def test_only_the_wanted_values_and_local_where_given(graph):
    values = run(graph, np.ones((2, 3), np.float32))
    first, second = (node.output for node in graph.nodes)
    (row,) = layer_errors(graph, [(values, values, {second: values[second] * 2})], values=[second])
    assert (row.module, row.sqnr_cumulative_db, row.sqnr_local_db) == ("residual", math.inf, 0.0)
    rows = layer_errors(graph, [(values, values, {second: values[second]})])
    assert [row.sqnr_local_db for row in rows] == [None, math.inf]


def test_a_run_that_lacks_a_value_is_an_error(graph):
    values = run(graph, np.ones((2, 3), np.float32))
    with pytest.raises(InternalError, match="sample 0: the quantized run has no value"):
        layer_errors(graph, [(values, {})])
