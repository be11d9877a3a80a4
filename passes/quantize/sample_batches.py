"""Which calibration samples a method looks at, and which of them it runs together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from qcompiler.calibration.batching import batch_symbol
from qcompiler.executors.reference import bind_inputs
from qcompiler.ir import Graph
from qcompiler.ir.dims import evaluate, product

BATCH_BYTES = 24 << 20
"""Samples run together while the largest value stays below this: about what the last-level cache holds."""


def batches(graph: Graph, samples: Sequence[Any]) -> Iterator[list[Sequence[Any]]]:
    """Samples to run together: of equal shapes, where the graph keeps samples apart."""
    apart = batch_symbol(graph) is not None
    buckets: dict[Any, list[Sequence[Any]]] = {}
    for index, sample in enumerate(samples):
        key = tuple(np.shape(a) for a in sample) if apart else index
        buckets.setdefault(key, []).append(sample)
    for bucket in buckets.values():
        size = max(1, BATCH_BYTES // max(1, largest_value(graph, bucket[0])))
        for at in range(0, len(bucket), size):
            yield bucket[at : at + size]


def largest_value(graph: Graph, sample: Sequence[Any]) -> int:
    """Bytes of the largest value computed for one sample."""
    bindings = bind_inputs(graph, [np.shape(a) for a in sample])
    sizes = [evaluate(product(v.shape), bindings) * max(1, v.dtype.bits // 8) for n in graph.nodes for v in n.outputs]
    return max(sizes, default=1)


def choose_samples(graph: Graph, samples: Any, count: int, limit: int) -> list[Any]:
    """At most `count` samples, evenly spaced over the data, whose run side by side stays below about `limit` bytes."""
    first = samples[0]
    # Both sides hold a layer's output; what residual paths keep alive is as much again at most.
    count = max(1, min(count, len(samples), limit // max(1, 4 * largest_value(graph, first))))
    return [samples[i] for i in sorted({i * len(samples) // count for i in range(count)})]
