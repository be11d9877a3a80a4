"""Padding is left out of comparisons where a graph takes an attention mask."""

from __future__ import annotations

import numpy as np

from qcompiler.ir import DType, Graph, Value
from qcompiler.ir.dims import symbol
from qcompiler.real_tokens import RealTokens

BATCH, SEQ = symbol("batch"), symbol("seq")


def graph_with(*names):
    inputs = [Value(DType.int64, (BATCH, SEQ), None, name) for name in names]
    hidden = Value(DType.float32, (BATCH, SEQ, 4), None, "hidden")
    pooled = Value(DType.float32, (BATCH, 4), None, "pooled")
    return Graph("g", inputs, [], [hidden, pooled])


def test_padded_positions_are_dropped_and_pooled_outputs_are_kept():
    tokens = RealTokens(graph_with("input_ids", "attention_mask"))
    ids, mask = np.ones((2, 3), np.int64), np.array([[1, 1, 0], [1, 0, 0]])
    hidden, pooled = np.arange(24.0).reshape(2, 3, 4), np.ones((2, 4))
    tokens.of_sample([ids, mask])
    got = tokens.outputs([hidden, pooled])
    np.testing.assert_array_equal(got[0], hidden[mask.astype(bool)])
    assert got[1] is pooled


def test_nothing_is_dropped_without_padding_or_without_a_mask():
    hidden, pooled = np.ones((2, 3, 4)), np.ones((2, 4))
    ones = np.ones((2, 3), np.int64)
    for graph, arrays in (
        (graph_with("input_ids", "attention_mask"), [ones, ones]),
        (graph_with("input_ids"), [np.zeros((2, 3), np.int64)]),
    ):
        tokens = RealTokens(graph)
        tokens.of_sample(arrays)
        assert tokens.outputs([hidden, pooled])[0] is hidden
