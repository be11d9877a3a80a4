"""The float model behind a quantized program: what figures of an imported model are compared with.

Every code stands for its real number and nothing is rounded: weights are their dequantized codes, activations are
clipped to the range of their codes but not rounded. The ranges have to stay: tools leave out a ReLU or ReLU6 whose
limits are those of the codes after it.
"""

from __future__ import annotations

import functools

import numpy as np

from qcompiler.errors import UnsupportedError
from qcompiler.ir import Graph, GraphBuilder, Level, Node, QuantParams, Value, constant, get_op


def float_form(graph: Graph) -> Graph:
    """The program on real numbers.

    Raises:
        UnsupportedError: inputs that are codes, or an op whose function on real numbers is not known here.
    """
    if any(v.quant is not None for v in graph.inputs):
        raise UnsupportedError(f"{graph.name}: its inputs are codes, so there is no float model to compare with")
    form = _FloatForm(graph)
    for node in graph.nodes:
        form.visit(node)
    return form.builder.build([form.real(v) for v in graph.outputs], graph.output_names)


class _FloatForm:
    def __init__(self, graph: Graph) -> None:
        self.builder = GraphBuilder(graph.name, Level.FLOAT)
        self.builder.inputs = list(graph.inputs)
        self.known: dict[Value, Value] = {}

    def real(self, value: Value) -> Value:
        """The real number behind a value."""
        if value not in self.known:
            if value.data is None or value.quant is None:
                return value
            self.known[value] = constant(value.quant.dequantize(value.data), name=value.name)
        return self.known[value]

    def visit(self, node: Node) -> None:
        self.builder.origin = node.origin
        on_codes = any(v.quant is not None for v in (*node.operands, *node.outputs))
        category = get_op(node.op).category
        if not on_codes and category != "quantized":
            inputs = [None if v is None else self.real(v) for v in node.inputs]
            made = self.builder.node(node.op, *inputs, name=node.outputs[0].name, **dict(node.attrs))
            self.known.update(zip(node.outputs, made.outputs, strict=True))
            return
        self.known[node.output] = self._one(node)

    def _one(self, node: Node) -> Value:
        x = self.real(node.operands[0])
        if node.op == "dequantize":
            return x
        if node.op == "quantize":
            return self._limited(x, node.attrs["quant"], None, None)
        if node.op == "requantize":
            return self._limited(x, node.attrs["quant"], node.attrs["qmin"], node.attrs["qmax"])
        if node.op == "requantize_sum":
            parts = [self.real(v) for v in node.operands]
            total = functools.reduce(lambda a, b: self.builder.op("add", a, b), parts)
            return self._limited(total, node.attrs["quant"], node.attrs["qmin"], node.attrs["qmax"])
        inputs = [None if v is None else self.real(v) for v in node.inputs]
        if node.op in ("linear", "conv"):
            inputs[2] = self._bias(node)
        if node.op in ("dynamic_linear", "weight_only_linear"):
            return self.builder.op("linear", *inputs[:3], name=node.output.name)
        if get_op(node.op).category == "quantized":
            raise UnsupportedError(f"{node.where()}: its function on real numbers is not known")
        return self.builder.op(node.op, *inputs, name=node.output.name, **dict(node.attrs))

    def _bias(self, node: Node) -> Value | None:
        """int32 bias in the scale of the accumulators."""
        bias, (x, w) = node.inputs[2], node.operands[:2]
        if bias is None or bias.data is None or x.quant is None or w.quant is None:
            return bias
        return constant((bias.data * (x.quant.scale * w.quant.scale)).astype(np.float32), name=bias.name)

    def _limited(self, x: Value, quant: QuantParams, low: int | None, high: int | None) -> Value:
        if not quant.per_tensor:
            return x
        codes = (quant.dtype.min if low is None else low, quant.dtype.max if high is None else high)
        ends = [float((code - int(quant.zero_point)) * quant.scale) for code in codes]
        return self.builder.op("clip", x, min=min(ends), max=max(ends))
