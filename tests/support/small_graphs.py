"""Small graphs and data for the calibration tests."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from qcompiler.executors.reference import run_reference
from qcompiler.ir import DType, Graph, GraphBuilder, Value
from qcompiler.ir.dims import symbol

BATCH, SEQ = symbol("batch"), symbol("seq")


class ReferenceExecutor:
    """The NumPy interpreter behind the interface of the sweep; remembers the batch sizes it ran."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.batches: list[int] = []

    def run(self, inputs: Sequence[Any], taps: Collection[Value] = (), on_value: Any = None) -> Any:
        self.batches.append(inputs[0].shape[0])
        return run_reference(self.graph, inputs, taps, on_value)


def mlp(batch: Any = BATCH) -> tuple[Graph, Value, Value]:
    """x [batch, 3] -> linear -> relu [batch, 5]; returns graph, hidden, output."""
    rng = np.random.default_rng(0)
    b = GraphBuilder("mlp")
    x = b.input("x", DType.float32, (batch, 3))
    hidden = b.op("linear", x, b.const(rng.normal(size=(5, 3)).astype(np.float32)), name="hidden")
    out = b.op("relu", hidden, name="out")
    return b.build([out]), hidden, out


def encoder() -> tuple[Graph, Value, Value, Value]:
    """Token model with a mask: returns graph, embedded [b, s, 4], heads [b, 2, s, 2], scores [b, 2, s, s]."""
    rng = np.random.default_rng(1)
    b = GraphBuilder("encoder")
    ids = b.input("input_ids", DType.int64, (BATCH, SEQ))
    b.input("attention_mask", DType.int64, (BATCH, SEQ))
    table = b.const(rng.normal(size=(7, 4)).astype(np.float32))
    embedded = b.op("gather", table, ids, axis=0, name="embedded")
    heads = b.op(
        "transpose", b.op("reshape", embedded, shape=(BATCH, SEQ, 2, 2)), perm=(0, 2, 1, 3), name="heads"
    )
    scores = b.op("matmul", heads, b.op("transpose", heads, perm=(0, 1, 3, 2)), name="scores")
    return b.build([scores]), embedded, heads, scores
