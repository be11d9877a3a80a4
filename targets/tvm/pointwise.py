"""Ops of level QUANTIZED and INTEGER that compute each element from elements at the same place.

A body takes (kernel builder, node, point, elements of the operands) and gives the element of the result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import tirx

from qcompiler.ir import Node, Value
from qcompiler.ir.fixed_point import sum_constant
from qcompiler.targets.tvm.arithmetic import (
    clamp,
    const64,
    half_even,
    i32,
    i64,
    quotient,
    rescale,
    saturate,
    shift_exp,
)
from qcompiler.targets.tvm.kernel import KernelBuilder, operand, weight_codes, zero_of
from qcompiler.targets.tvm.table_entry import line_between, table_entry
from qcompiler.targets.tvm.views import Point, View

WIDE_ENTRIES = 1024
"""Tables of so many entries are kept as 32-bit numbers, which are read faster, and stay in a first cache level."""
Body = Callable[[KernelBuilder, Node, Point, list[Any]], Any]


def pointwise_view(builder: KernelBuilder, node: Node, body: Body) -> View:
    """The result of an op as a function of the point."""
    operands = [None if v is None else v for v in node.inputs]

    def at(point: Point) -> Any:
        elements = [None if v is None else builder.view(v).read(point) for v in operands]
        return body(builder, node, point, elements)

    return View(node.output.shape, at)


def result_limits(node: Node) -> tuple[int, int, int]:
    """(zero point, smallest, largest code) of the result."""
    quant = node.attrs["quant"]
    low, high = node.attrs.get("qmin"), node.attrs.get("qmax")
    return int(quant.zero_point), quant.dtype.min if low is None else low, quant.dtype.max if high is None else high


def _kind(node: Node) -> str:
    return str(node.output.dtype.numpy.name)


def _requantize(builder: KernelBuilder, node: Node, point: Point, xs: list[Any]) -> Any:
    acc, m, s = operand(node, 0), operand(node, 1), node.inputs[2]
    assert acc.quant is not None and m.data is not None
    x = i32(xs[0]) - zero_of(acc) if zero_of(acc) else i32(xs[0])
    read = builder.channel(acc.quant.axis, point)
    zero, low, high = result_limits(node)
    factors = (m.data, None if s is None else s.data)
    y, zero = rescale(x, node.attrs["rounding"], *factors, read, bound_of(builder, acc), zero)
    return saturate(y, zero, low, high, _kind(node))


def bound_of(builder: KernelBuilder, acc: Any) -> int:
    """Largest magnitude of an accumulator that its producer's weights and types allow; 2^31 where nothing is known."""
    node = builder.graph.producer(acc)
    if node is not None and node.op == "integer_mul":
        return min(_peak(operand(node, 0)) * _peak(operand(node, 1)), 1 << 31)
    if node is not None and node.op == "matmul" and isinstance(node.inputs[0].shape[-1], int):
        return min(_peak(operand(node, 0)) * _peak(operand(node, 1)) * node.inputs[0].shape[-1], 1 << 31)
    if acc.dtype.bits < 32:
        return max(acc.dtype.max - zero_of(acc), zero_of(acc) - acc.dtype.min)
    if node is None or node.op not in ("linear", "conv"):
        return 1 << 31
    x, w, bias = node.inputs[:3]
    if x is None or w is None or w.data is None or x.quant is None or (bias is not None and bias.data is None):
        return 1 << 31
    peak = max(x.dtype.max - zero_of(x), zero_of(x) - x.dtype.min)
    codes, _, w_zero = weight_codes(w)
    rows = np.abs(codes.reshape(w.shape[0], -1).astype(np.int64) - w_zero).sum(1)
    offset = 0 if bias is None or bias.data is None else int(np.abs(bias.data.astype(np.int64)).max(initial=0))
    return int(rows.max(initial=0)) * peak + offset


def _peak(value: Value) -> int:
    """Largest magnitude of a value less its zero point."""
    if value.data is not None:
        codes, _, zero = weight_codes(value)
        return int(np.abs(codes.astype(np.int64) - zero).max(initial=0))
    return max(value.dtype.max - zero_of(value), zero_of(value) - value.dtype.min)


def _requantize_sum(builder: KernelBuilder, node: Node, point: Point, xs: list[Any]) -> Any:
    attrs = node.attrs
    values = [v for v in node.inputs if v is not None]
    if attrs["rounding"] == "float32_half_even":
        zero, low, high = result_limits(node)
        factors = attrs["real_multipliers"]
        total: Any = tirx.const(float(sum_constant(factors, [zero_of(v) for v in values], zero)), "float32")
        for x, m in zip(xs[::-1], factors[::-1], strict=True):  # a fused multiply-add, as the op's definition says
            product = i32(x).astype("float64") * tirx.const(float(np.float32(m)), "float64")
            total = (product + total.astype("float64")).astype("float32")
        return saturate(tirx.nearbyint(total), 0, low, high, _kind(node))
    shift = int(attrs["shift"])
    half = 1 << (shift - 1) if shift > 0 else 0
    bound = half + sum(
        abs(m) * max(v.dtype.max - zero_of(v), zero_of(v) - v.dtype.min) for v, m in zip(values, attrs["multipliers"], strict=True)
    )
    narrow = bound < 1 << 31 and 0 <= shift <= 30
    widen, c = (i32, lambda n: tirx.const(n, "int32")) if narrow else (i64, const64)
    # zero points leave the sum as one constant
    whole: Any = c(-sum(m * zero_of(v) for v, m in zip(values, attrs["multipliers"], strict=True)))
    if narrow and bound + abs(sum(m * zero_of(v) for v, m in zip(values, attrs["multipliers"], strict=True))) >= 1 << 31:
        widen, c, whole = i64, const64, const64(int(whole.value))
    for x, m in zip(xs, attrs["multipliers"], strict=True):
        whole = whole + widen(x) * c(m)
    if attrs["rounding"] == "dyadic":
        y = (whole + c(half)) >> c(shift)
    else:
        y = half_even(whole, np.asarray(shift), lambda a: tirx.const(int(a), str(a.dtype)), bound)
    return saturate(y, *result_limits(node), _kind(node))


def _quantize(builder: KernelBuilder, node: Node, point: Point, xs: list[Any]) -> Any:
    quant = node.attrs["quant"]
    read = _group_reader(builder, quant, point)
    zero = read(quant.zero_point)
    low, high = quant.dtype.min, quant.dtype.max
    real = tirx.nearbyint(xs[0].astype("float32") / read(quant.scale))
    if quant.symmetric or quant.zero_point.ndim == 0:
        return saturate(real, int(quant.zero_point.reshape(-1)[0]), low, high, _kind(node))
    # per-channel zero points: limits of the sum lie within twice the type's range, which float32 holds exactly
    bounded = clamp(real, -(1 << 20), 1 << 20).astype("int32") + i32(zero)
    return clamp(bounded, low, high).astype(_kind(node))


def _group_reader(builder: KernelBuilder, quant: Any, point: Point) -> Callable[[np.ndarray], Any]:
    """Reads scales or zero points at a point: per tensor, per channel, or of groups along an axis."""
    if quant.group_size is None:
        return builder.channel(quant.axis, point)

    def read(array: np.ndarray) -> Any:
        index = [i // quant.group_size if axis == quant.axis else i for axis, i in enumerate(point.index)]
        return builder.constant(array)(*index)

    return read


def _dequantize(builder: KernelBuilder, node: Node, point: Point, xs: list[Any]) -> Any:
    quant = operand(node, 0).quant
    assert quant is not None
    read = _group_reader(builder, quant, point)
    whole = i32(xs[0]) if not quant.zero_point.any() else i32(xs[0]) - i32(read(quant.zero_point))
    return whole.astype("float32") * read(quant.scale)


def _lookup(builder: KernelBuilder, node: Node, point: Point, xs: list[Any]) -> Any:
    table = operand(node, 1)
    assert table.data is not None
    low = operand(node, 0).dtype.min
    at = i32(xs[0]) - low if low else i32(xs[0])
    if table.data.size > WIDE_ENTRIES:
        return builder.constant(table.data)(at)
    return table_entry(builder, table.data, at).astype(_kind(node))


def _lookup_interpolated(builder: KernelBuilder, node: Node, point: Point, xs: list[Any]) -> Any:
    table = operand(node, 1)
    assert table.data is not None
    shift = node.attrs["shift"]
    t = line_between(builder, table.data, i32(xs[0]) + (1 << 15))
    t = (t + (1 << (shift - 1))) >> shift
    zero, low, high = result_limits(node)
    least, most = (((int(k) << 8) + (1 << (shift - 1))) >> shift for k in (table.data.min(), table.data.max()))
    if low <= least + zero and most + zero <= high:  # between knots that need no clipping
        return (t + zero).astype(_kind(node))
    return saturate(t, zero, low, high, _kind(node))


def _integer_mul(builder: KernelBuilder, node: Node, point: Point, xs: list[Any]) -> Any:
    a, b = (i32(x) - zero_of(operand(node, n)) for n, x in enumerate(xs))
    return a * b


def _shift_sigmoid(builder: KernelBuilder, node: Node, point: Point, xs: list[Any]) -> Any:
    attrs, x = node.attrs, operand(node, 0)
    unit, bits, gate = attrs["unit"], attrs["bits"], attrs["gate_bits"]
    v = i64(xs[0]) - const64(zero_of(x))
    m = tirx.max(v, const64(0))
    a, b = shift_exp(v - m, unit, bits), shift_exp(const64(0) - m, unit, bits)
    s = a + b
    top, bottom = (a << const64(gate + 1)) + s, s << const64(1)
    # a <= unit 2^bits and s <= 2 a: exact in float64 where that leaves room, by an integer division elsewhere
    fits = (unit << (bits + gate + 3)) < 1 << 53
    g = quotient(top, bottom) if fits else tirx.truncdiv(top, bottom)
    forms = {"sigmoid": g, "tanh": g + g - const64(1 << gate), "gated": v * g}
    return forms[attrs["form"]].astype("int32")


def _where(builder: KernelBuilder, node: Node, point: Point, xs: list[Any]) -> Any:
    return tirx.Select(xs[0].astype("bool"), _expr(xs[1]), _expr(xs[2]))


def _expr(x: Any) -> Any:
    """A tensor element as an expression."""
    return x.asobject() if hasattr(x, "asobject") else x


QUANTIZED: dict[str, Body] = {
    "requantize": _requantize,
    "requantize_sum": _requantize_sum,
    "quantize": _quantize,
    "dequantize": _dequantize,
    "lookup": _lookup,
    "lookup_interpolated": _lookup_interpolated,
    "integer_mul": _integer_mul,
    "shift_sigmoid": _shift_sigmoid,
    "where": _where,
}
