"""What each op makes of the ranges of its operands."""

from __future__ import annotations

from typing import Any

import numpy as np

from qcompiler.ir import Node
from qcompiler.ir.fixed_point import rescale
from qcompiler.ir.ops.spec import centred
from qcompiler.passes.integer.interval_functions import RULES as FUNCTIONS
from qcompiler.passes.integer.interval_functions import corners, length
from qcompiler.passes.integer.intervals import INT64, Analysis, Bounds, Rule, clipped, scalar, type_bounds
from qcompiler.passes.integer.lowering import MOVEMENT


def by_type(a: Analysis, node: Node) -> tuple[Bounds, ...]:
    """Ops without a rule of their own give anything that their result type holds."""
    return tuple(type_bounds(v.dtype) for v in node.outputs)


def _weighted(a: Analysis, node: Node) -> Bounds:
    """conv and linear with constant weights: bounds per output channel from the channel's own weights."""
    x, w, bias = a.centred(node.inputs[0]), node.inputs[1], node.inputs[2]
    assert w is not None
    low, high = x.whole
    low, high = min(low, 0), max(high, 0)  # padding reads 0, and a partial sum may lack any term
    if w.data is None:
        return _product_of_activations(a, node)
    weights = centred(w.data, w.quant).reshape(w.data.shape[0], -1)
    positive, negative = np.maximum(weights, 0).sum(1), np.minimum(weights, 0).sum(1)
    least, most = positive * low + negative * high, positive * high + negative * low
    offset = _bias(a, bias, len(least))
    a.step(node, "accumulator", int((least + np.minimum(offset[0], 0)).min()), int((most + np.maximum(offset[1], 0)).max()), 32)
    axis = 1 if node.op == "conv" else len(node.output.shape) - 1
    return Bounds((least + offset[0]).astype(object), (most + offset[1]).astype(object), axis)


def _bias(a: Analysis, bias: Any, channels: int) -> tuple[np.ndarray, np.ndarray]:
    if bias is None:
        zero = np.zeros(channels, np.int64)
        return zero, zero
    if bias.data is not None:
        data = bias.data.astype(np.int64)
        return data, data
    low, high = a.of(bias).whole
    return np.full(channels, low), np.full(channels, high)


def _product_of_activations(a: Analysis, node: Node) -> Bounds:
    """matmul: the reduced length times the extreme products."""
    x, y = a.centred(node.inputs[0]), a.centred(node.inputs[1])
    low, high = corners(x, y)
    x_value = node.inputs[0]
    assert x_value is not None
    terms = length(x_value.shape[-1:])
    low, high = terms * min(low, 0), terms * max(high, 0)
    if x_value in a.row_sums:  # probabilities: their sum is bounded, not only each of them
        least, most = y.whole
        low, high = max(low, a.row_sums[x_value] * min(least, 0)), min(high, a.row_sums[x_value] * max(most, 0))
    a.step(node, "accumulator", low, high, 32)
    return scalar(low, high)


def _reduced(a: Analysis, node: Node) -> Bounds:
    """reduce_sum and reduce_mean of codes: int32 sums."""
    value = node.inputs[0]
    assert value is not None
    if value.quant is None:
        return by_type(a, node)[0]
    axes = node.attrs["axes"] or range(len(value.shape))
    terms = length([value.shape[i % len(value.shape)] for i in axes])
    low, high = a.centred(value).whole
    a.step(node, "accumulator", terms * min(low, 0), terms * max(high, 0), 32)
    return scalar(terms * low, terms * high)


def _requantize(a: Analysis, node: Node) -> Bounds:
    """Rescaling grows with the accumulator, so its ends bound the result."""
    acc, multiplier, shift = node.inputs
    x, attrs = a.centred(acc), node.attrs
    rounding = attrs["rounding"]
    assert acc is not None and multiplier is not None and shift is not None
    if multiplier.data is None or shift.data is None:
        return clipped(attrs["quant"].dtype.min, attrs["quant"].dtype.max, attrs["quant"], (attrs["qmin"], attrs["qmax"]))
    m, s = multiplier.data.astype(object), shift.data.astype(object)
    if rounding == "shift_half_even":
        left = 2 ** np.maximum(-s, 0)
        twice = 2 ** (np.maximum(s, 0) + 1)
        a.step(node, "product", int(np.min(x.low * left)), int(np.max(x.high * left)), INT64)
        a.step(node, "remainder", 0, int(np.max(twice)), INT64)
    elif rounding == "dyadic":
        half = 2 ** (s - 1)
        ends = [x.low * m + half, x.high * m + half]
        a.step(node, "product", int(min(np.min(e) for e in ends)), int(max(np.max(e) for e in ends)), INT64)
    else:  # dyadic_double saturates to int32 before its 64-bit product
        a.step(node, "product", -(1 << 62), (1 << 62) + (1 << 30), INT64)
    ends = [rescale(e.astype(np.int64), rounding, multiplier.data, shift.data) for e in (x.low, x.high)]
    low, high = int(ends[0].min()), int(ends[1].max())
    return clipped(low, high, attrs["quant"], (attrs["qmin"], attrs["qmax"]))


def _requantize_sum(a: Analysis, node: Node) -> Bounds:
    attrs = node.attrs
    low = high = 0
    for value, m in zip(node.operands, attrs["multipliers"], strict=True):
        ends = [int(e) * m for e in a.centred(value).whole]
        low, high = low + min(ends), high + max(ends)
    half = (1 << attrs["shift"]) >> 1
    a.step(node, "weighted sum", low, high + half, 63)
    ends = [_shifted(e, attrs["shift"], attrs["rounding"]) for e in (low, high)]
    return clipped(min(ends), max(ends), attrs["quant"], (attrs["qmin"], attrs["qmax"]))


def _shifted(total: int, shift: int, rounding: str) -> int:
    one = np.asarray(1, np.int64)
    if rounding == "dyadic":
        return (total + (1 << (shift - 1))) >> shift
    return int(rescale(np.asarray(total, np.int64), rounding, one, np.asarray(shift, np.int64)))


def _same(a: Analysis, node: Node) -> Bounds:
    """Movement and extrema: elements of the first operand, and the zero point where there is padding."""
    value = node.inputs[0]
    low, high = a.of(value).whole
    if node.op == "pad" and node.attrs["mode"] == "constant":
        zero = 0 if value is None or value.quant is None else int(value.quant.zero_point)
        low, high = min(low, zero), max(high, zero)
    return scalar(low, high)


def _joined(a: Analysis, node: Node) -> Bounds:
    ends = [a.of(v).whole for v in node.operands]
    return scalar(min(e[0] for e in ends), max(e[1] for e in ends))


def _chosen(a: Analysis, node: Node) -> Bounds:
    ends = [a.of(v).whole for v in node.inputs[1:]]
    return scalar(min(e[0] for e in ends), max(e[1] for e in ends))


RULES: dict[str, Rule] = {
    "conv": _weighted,
    "linear": _weighted,
    "matmul": _product_of_activations,
    "reduce_sum": _reduced,
    "reduce_mean": _reduced,
    "requantize": _requantize,
    "requantize_sum": _requantize_sum,
    "concat": _joined,
    "where": _chosen,
    **dict.fromkeys(MOVEMENT, _same),
    **FUNCTIONS,
}
