"""Integer programs with power-of-two scales as Q/DQ models: the same integers from real arithmetic.

Where every scale is a power of two and no partial sum of an accumulator reaches 2^24, float32 holds every product,
sum and rescaled value exactly, so dequantize, multiply, quantize (round half to even) is `shift_half_even`. What is
not proven, and the functions, stay integer ops.

Codes become uint8, 128 higher, between the inputs and outputs of the program: what runtimes have kernels for.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from qcompiler.ir import DType, Graph, Level, Node, QuantParams, Value, constant, drop_dead_nodes
from qcompiler.ir.builder import Rewriter
from qcompiler.passes.integer.intervals import Analysis, analyse

EXACT = 1 << 24
OFFSET = 128
PRODUCTS = frozenset({"conv", "linear"})


def real_rescaling(graph: Graph) -> Graph:
    """A LEGAL graph whose 8-bit products and sums rescale in float32, with the same integers; others unchanged."""
    if not any(n.attrs.get("rounding") == "shift_half_even" for n in graph.nodes):
        return graph
    return _Legalization(graph, analyse(graph)).graph()


def unsigned(quant: QuantParams) -> QuantParams:
    """The uint8 form of int8 parameters; others unchanged."""
    if quant.dtype is not DType.int8:
        return quant
    return QuantParams(DType.uint8, quant.scale, quant.zero_point + OFFSET, quant.axis)


class _Legalization:
    def __init__(self, graph: Graph, analysis: Analysis) -> None:
        self.source, self.analysis = graph, analysis
        self.out = Rewriter(graph, "real_rescaling", Level.LEGAL)
        self.reach = {s.node: max(abs(s.low), abs(s.high)) for s in analysis.steps if s.what == "accumulator"}
        for value in graph.inputs:
            if value.dtype is DType.int8 and value.quant is not None:
                self.out.replaced[value] = self._offset(value, unsigned(value.quant))
        for node in graph.nodes:
            self.out.origin = node.origin
            result = self._visit(node)
            for old, new in zip(node.outputs, result, strict=True):
                self.out.replaced[old] = new

    def graph(self) -> Graph:
        """The finished graph; outputs have the types they had."""
        g = self.source
        outputs = []
        for value in g.outputs:
            form = self.out[value]
            if form.dtype is not value.dtype and value.quant is not None:
                form = self._offset(form, value.quant)
            outputs.append(form)
        nodes = self.out.nodes
        return drop_dead_nodes(Graph(g.name, g.inputs, nodes, outputs, g.output_names, Level.LEGAL))

    def _offset(self, value: Value, quant: QuantParams) -> Value:
        """The same numbers with or without sign."""
        codes = np.arange(quant.dtype.min, quant.dtype.max + 1).astype(quant.dtype.numpy)
        return self.out.op("lookup", value, constant(codes, name="sign"), quant=quant, name=value.name)

    def _visit(self, node: Node) -> tuple[Value, ...]:
        inputs = [self._operand(node, v) for v in node.inputs]
        attrs: dict[str, Any] = dict(node.attrs)
        quant = attrs.get("quant")
        if quant is not None and quant.dtype is DType.int8:
            attrs["quant"] = unsigned(quant)
            for limit in ("qmin", "qmax"):
                if attrs.get(limit) is not None:
                    attrs[limit] += OFFSET
            if node.op == "lookup" and inputs[1] is not None and inputs[1].data is not None:
                inputs[1] = constant((inputs[1].data.astype(np.int16) + OFFSET).astype(np.uint8), name=inputs[1].name)
        if node.attrs.get("rounding") == "shift_half_even" and node.output.dtype.bits <= 8:
            self._rescale_in_float(node, inputs, attrs)
        name = node.outputs[0].name if len(node.outputs) == 1 else ""
        return tuple(self.out.node(node.op, *inputs, name=name, **attrs).outputs)

    def _operand(self, node: Node, value: Value | None) -> Value | None:
        if value is None:
            return None
        codes = value.dtype is DType.int8 and value.quant is not None
        if value.data is not None and codes and node.op not in PRODUCTS:
            return constant((value.data.astype(np.int16) + OFFSET).astype(np.uint8), quant=unsigned(value.quant), name=value.name)  # type: ignore[arg-type]
        return self.out[value]

    def _rescale_in_float(self, node: Node, inputs: list[Value | None], attrs: dict[str, Any]) -> None:
        """Change operands and attributes to those of float32 rescaling, where it is proven exact."""
        if node.op == "requantize_sum":
            factors = self._exact_factors(node)
            if factors:
                attrs |= {"rounding": "float32_half_even", "real_multipliers": factors, "multipliers": (), "shift": 0}
            return
        shift = node.inputs[2]
        assert shift is not None
        if shift.data is not None and self._exact_product(node.inputs[0]):
            attrs["rounding"] = "float32_half_even"
            inputs[1:] = [constant(np.exp2(-shift.data.astype(np.float64)).astype(np.float32))]

    def _exact_product(self, acc: Value | None) -> bool:
        source = self.source.producer(acc) if acc is not None else None
        if source is None or source.op not in PRODUCTS or self.reach[source] >= EXACT:
            return False
        return all(v.dtype.bits <= 8 for v in source.operands[:2])

    def _exact_factors(self, node: Node) -> list[float]:
        peaks = [max(map(abs, self.analysis.centred(v).whole)) for v in node.operands]
        total = sum(p * abs(m) for p, m in zip(peaks, node.attrs["multipliers"], strict=True))
        if total >= EXACT or any(v.dtype.bits > 8 for v in node.operands):
            return []
        return [m * 2.0 ** -node.attrs["shift"] for m in node.attrs["multipliers"]]
