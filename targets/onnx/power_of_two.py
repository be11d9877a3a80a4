"""Integer programs with power-of-two scales as Q/DQ models: the same integers from real arithmetic.

Where every scale is a power of two and no partial sum of an accumulator reaches 2^24, float32 holds every product,
sum and rescaled value exactly, so dequantize, multiply, quantize (round half to even) is `shift_half_even`. What is
not proven, and the functions, stay integer ops.
"""

from __future__ import annotations

import numpy as np

from qcompiler.ir import Graph, Level, Node, Value, constant, rewrite
from qcompiler.ir.builder import Rewriter
from qcompiler.passes.integer.intervals import Analysis, analyse

EXACT = 1 << 24
PRODUCTS = frozenset({"conv", "linear"})


def real_rescaling(graph: Graph) -> Graph:
    """A LEGAL graph whose 8-bit products and sums rescale in float32, with the same integers; others unchanged."""
    if not any(n.attrs.get("rounding") == "shift_half_even" for n in graph.nodes):
        return graph
    analysis = analyse(graph)
    reach: dict[Node, int] = {}
    for step in analysis.steps:
        if step.what in ("accumulator", "weighted sum"):
            reach[step.node] = max(abs(step.low), abs(step.high))

    def visit(out: Rewriter, node: Node) -> Value | None:
        if node.attrs.get("rounding") != "shift_half_even" or node.output.dtype.bits > 8:
            return None
        if node.op == "requantize":
            return _requantize(out, graph, node, reach)
        return _sum(out, analysis, node)

    return rewrite(graph, visit, "real_rescaling", Level.LEGAL)


def _requantize(out: Rewriter, graph: Graph, node: Node, reach: dict[Node, int]) -> Value | None:
    acc, _, shift = node.inputs
    assert acc is not None and shift is not None
    source = graph.producer(acc)
    if source is None or source.op not in PRODUCTS or reach[source] >= EXACT or shift.data is None:
        return None
    if any(v.dtype.bits > 8 for v in source.operands[:2]):
        return None
    factor = constant(np.exp2(-shift.data.astype(np.float64)).astype(np.float32))
    attrs = {**node.attrs, "rounding": "float32_half_even"}
    return out.op("requantize", out[acc], factor, name=node.output.name, **attrs)


def _sum(out: Rewriter, analysis: Analysis, node: Node) -> Value | None:
    peaks = [max(map(abs, analysis.centred(v).whole)) for v in node.operands]
    total = sum(p * abs(m) for p, m in zip(peaks, node.attrs["multipliers"], strict=True))
    if total >= EXACT or any(v.dtype.bits > 8 for v in node.operands):
        return None
    factors = [m * 2.0 ** -node.attrs["shift"] for m in node.attrs["multipliers"]]
    attrs = {
        **node.attrs, "rounding": "float32_half_even", "real_multipliers": factors, "multipliers": (), "shift": 0
    }  # fmt: skip
    return out.op("requantize_sum", *[out[v] for v in node.operands], name=node.output.name, **attrs)
