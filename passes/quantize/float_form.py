"""A quantized program on real numbers.

`float_form` is the float model behind it, what figures of an imported model are compared with. Every code stands for
its real number and nothing is rounded: weights are their dequantized codes, activations are clipped to the range of
their codes but not rounded. The ranges have to stay: tools leave out a ReLU or ReLU6 whose limits are those of the
codes after it.

`rounded_form` keeps the rounding: every real number that was codes is quantized and dequantized at once, as programs
are written that simulate quantization.
"""

from __future__ import annotations

import functools
import math
from dataclasses import replace

import numpy as np

from qcompiler.errors import UnsupportedError
from qcompiler.ir import DType, Graph, GraphBuilder, Level, Node, QuantParams, Value, constant, get_op
from qcompiler.passes.quantize.real_multiplier import range_of_sums, real_multiplier


def float_form(graph: Graph) -> Graph:
    """The program on real numbers, nothing rounded.

    Raises:
        UnsupportedError: inputs that are codes, or an op whose function on real numbers is not known here.
    """
    if any(v.quant is not None for v in graph.inputs):
        raise UnsupportedError(f"{graph.name}: its inputs are codes, so there is no float model to compare with")
    return _walk(graph, _FloatForm(graph))


def rounded_form(graph: Graph) -> Graph:
    """The program with `quantize -> dequantize` around real ops; its inputs and outputs are real.

    The same integers as the program's to within one step, as real numbers are rescaled in another order; exactly the
    same where all scales are powers of two and float32 holds the sums.

    Raises:
        UnsupportedError: a function on integers, multipliers other than ratios of scales, a bias beyond float32.
    """
    return _walk(graph, _RoundedForm(graph))


def _walk(graph: Graph, form: _FloatForm) -> Graph:
    for node in graph.nodes:
        form.visit(node)
    return form.builder.build([form.real(v) for v in graph.outputs], graph.output_names)


class _FloatForm:
    level = Level.FLOAT

    def __init__(self, graph: Graph) -> None:
        self.builder = GraphBuilder(graph.name, self.level)
        self.builder.inputs = list(graph.inputs)
        self.known: dict[Value, Value] = {}

    def real(self, value: Value) -> Value:
        """The real number behind a value."""
        if value not in self.known:
            if value.data is None or value.quant is None:
                return value
            self.known[value] = self.constant(value)
        return self.known[value]

    def constant(self, value: Value) -> Value:
        """The real form of constant codes."""
        assert value.data is not None and value.quant is not None
        return constant(value.quant.dequantize(value.data), name=value.name)

    def visit(self, node: Node) -> None:
        self.builder.origin = node.origin
        on_codes = any(v.quant is not None for v in (*node.operands, *node.outputs))
        category = get_op(node.op).category
        if not on_codes and category not in ("quantized", "integer"):
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
        self.check(node)
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
        if get_op(node.op).category in ("quantized", "integer"):
            raise UnsupportedError(f"{node.where()}: its function on real numbers is not known")
        return self.builder.op(node.op, *inputs, name=node.output.name, **dict(node.attrs))

    def check(self, node: Node) -> None:
        """Refuse what would not stay the same function."""

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


class _RoundedForm(_FloatForm):
    level = Level.QUANTIZED

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self.graph = graph
        self.factors: dict[Value, np.float32] = {}
        for place, value in enumerate(graph.inputs):
            if value.quant is not None:
                real = replace(value, dtype=DType.float32, quant=None)
                self.builder.inputs[place] = real
                self.known[value] = self._limited(real, value.quant, None, None)

    def constant(self, value: Value) -> Value:
        return self.builder.op("dequantize", value, name=value.name)

    def _one(self, node: Node) -> Value:
        if (factor := self._factor(node)) is not None:
            self.factors[node.output] = factor
            return self._summed(node)
        if node.op == "requantize" and node.operands[0] in self.factors:
            real = self.builder.op("mul", self.real(node.operands[0]), constant(self.factors[node.operands[0]]))
            return self._limited(real, node.attrs["quant"], node.attrs["qmin"], node.attrs["qmax"])
        return super()._one(node)

    def _factor(self, node: Node) -> np.float32 | None:
        """What stands for the rescaling of sums that is dyadic, as that of a mean; None where nothing does."""
        users = [user for user, _ in self.graph.uses(node.output)]
        if len(users) != 1 or users[0].op != "requantize" or users[0].attrs["rounding"] != "dyadic":
            return None
        x, out = node.operands[0].quant, users[0].attrs["quant"]
        multiplier, shift = (None if v is None or v.shape else v.data for v in users[0].inputs[1:])
        limits = _range_of_sums(node)
        if x is None or limits is None or multiplier is None or shift is None:
            return None
        if any(np.frexp(s)[0] != 0.5 for s in (float(x.scale), float(out.scale))):
            return None
        return real_multiplier(limits, float(x.scale), out, int(multiplier), int(shift), "dyadic")

    def _summed(self, node: Node) -> Value:
        """The sums times the scale of what is summed: a sum instead of a mean, weights of scale 1."""
        name, attrs = node.output.name, dict(node.attrs)
        if node.op == "reduce_mean":
            return self.builder.op("reduce_sum", self.real(node.operands[0]), name=name, **attrs)
        x, w, bias = node.inputs
        assert x is not None and x.quant is not None and w is not None and w.data is not None
        plain = constant(w.data, w.dtype, QuantParams(w.dtype, np.float32(1), np.int64(0)), w.name)
        added = None if bias is None or bias.data is None else constant((bias.data * x.quant.scale).astype(np.float32), name=bias.name)
        return self.builder.op(node.op, self.real(x), self.constant(plain), added, name=name, **attrs)

    def check(self, node: Node) -> None:
        if node.op == "dynamic_linear":
            raise UnsupportedError(f"{node.where()}: its operand is quantized by its own range, which is no constant scale")
        factors = _factors(node)
        out = node.attrs.get("quant")
        for value, factor in zip(node.operands, factors, strict=False):
            if out is None or value.quant is None or not np.allclose(value.quant.scale / out.scale, factor, rtol=1e-6, atol=0):
                raise UnsupportedError(f"{node.where()}: its multiplier is not the ratio of its scales, which real numbers need")

    def _bias(self, node: Node) -> Value | None:
        bias = node.inputs[2]
        if bias is not None and bias.data is not None and np.abs(bias.data.astype(np.int64)).max(initial=0) >= EXACT_BIAS:
            raise UnsupportedError(f"{node.where()}: a bias of 2^23 steps or more cannot be written as float32 without loss")
        return super()._bias(node)

    def _limited(self, x: Value, quant: QuantParams, low: int | None, high: int | None) -> Value:
        ends = [None if code is None else float((code - int(quant.zero_point)) * quant.scale) for code in (low, high)]
        if low == int(quant.zero_point) and high is None:
            x = self.builder.op("relu", x)
        elif low is not None or high is not None:
            x = self.builder.op("clip", x, min=ends[0], max=ends[1])
        return self.builder.op("dequantize", self.builder.op("quantize", x, quant=quant))


def _range_of_sums(node: Node) -> tuple[int, int] | None:
    """Smallest and largest sum of a layer with constant weights, or of a mean, of codes with one scale."""
    x = node.operands[0]
    if x.quant is None or not x.quant.per_tensor:
        return None
    if node.op == "reduce_mean":
        sizes = [x.shape[axis] for axis in node.attrs["axes"]]
        if not all(isinstance(size, int) for size in sizes):
            return None
        return range_of_sums(np.ones((1, math.prod(map(int, sizes))), np.int64), x.quant, None)
    if node.op not in ("conv", "linear"):
        return None
    w, bias = node.operands[1], node.inputs[2]
    if w.data is None or w.quant is None or w.quant.group_size is not None or np.any(w.quant.zero_point):
        return None
    return range_of_sums(w.data, x.quant, None if bias is None else bias.data)


EXACT_BIAS = 1 << 23
"""Codes below this bound come back from their float32 real numbers."""


def _factors(node: Node) -> list[np.ndarray]:
    """What the operands of a requantize or requantize_sum are multiplied by; nothing for other ops.

    Raises:
        UnsupportedError: a rounding that is not round half to even.
    """
    if node.op not in ("requantize", "requantize_sum"):
        return []
    rounding = node.attrs["rounding"]
    if rounding not in ("float32_half_even", "shift_half_even"):
        raise UnsupportedError(
            f"{node.where()}: rounding {rounding} is no rounding of real numbers; compile with float or power-of-two scales"
        )
    real = rounding == "float32_half_even"
    if node.op == "requantize_sum":
        steps = [m * 2.0 ** -node.attrs["shift"] for m in node.attrs["multipliers"]]
        return [np.asarray(m) for m in (node.attrs["real_multipliers"] if real else steps)]
    multiplier, shift = (None if v is None else v.data for v in node.inputs[1:])
    amount = multiplier if real else shift
    if amount is None:
        raise UnsupportedError(f"{node.where()}: its multiplier is computed")
    return [amount if real else np.exp2(-amount.astype(np.float64))]
