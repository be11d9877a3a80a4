"""Ranges of the functions of level INTEGER, step by step as their reference bodies define them."""

from __future__ import annotations

from math import isqrt

import numpy as np

from qcompiler.ir import Node
from qcompiler.ir.dims import is_symbolic, product
from qcompiler.ir.ops.integer import PROBABILITY_BITS
from qcompiler.ir.ops.integer_norm import NORMAL_BITS, RECIPROCAL_BITS
from qcompiler.passes.integer.intervals import INT64, Analysis, Bounds, Rule, clipped, scalar

# Elements that an axis of unknown length is taken to have at most: no model of this kind has longer ones.
LONGEST_AXIS = 1 << 15


def length(dims: object) -> int:
    """Most elements along axes; unknown lengths count as `LONGEST_AXIS`."""
    count = product(dims)  # type: ignore[arg-type]
    return LONGEST_AXIS if is_symbolic(count) else int(count)


def corners(x: Bounds, y: Bounds) -> tuple[int, int]:
    """Least and largest product of two ranges."""
    ends = [p * q for p in x.whole for q in y.whole]
    return min(ends), max(ends)


def _lookup(a: Analysis, node: Node) -> Bounds:
    x, table = node.operands
    assert table.data is not None
    low, high = (end - x.dtype.min for end in a.of(x).whole)
    reached = table.data[low : high + 1].astype(np.int64)
    return scalar(int(reached.min()), int(reached.max()))


def _lookup_interpolated(a: Analysis, node: Node) -> Bounds:
    x, table = node.operands
    assert table.data is not None
    low, high = ((end + (1 << 15)) >> 8 for end in a.of(x).whole)
    knots = table.data[low : high + 2].astype(np.int64)
    least, most = int(knots.min()), int(knots.max())
    slope = int(np.abs(np.diff(knots)).max()) * 255
    shift = node.attrs["shift"]
    half = 1 << (shift - 1)
    a.step(node, "interpolation", min(256 * least, -slope), max(256 * most, slope) + half, 32)
    quant = node.attrs["quant"]
    return clipped((256 * least + half) >> shift, (256 * most + half) >> shift, quant, (None, None))


def _integer_mul(a: Analysis, node: Node) -> Bounds:
    low, high = corners(*(a.centred(v) for v in node.operands))
    a.step(node, "accumulator", low, high, 32)
    return scalar(low, high)


def _row_length(node: Node) -> int:
    return length(node.operands[0].shape[-1:])


def _divided(a: Analysis, node: Node, largest: int, bits: int = PROBABILITY_BITS) -> None:
    """The steps of e 2^(bits+1) + sum over 2 sum."""
    total = _row_length(node) * largest
    a.step(node, "sum of exponentials", 0, 2 * total, INT64)
    a.step(node, "quotient", 0, (largest << (bits + 1)) + total, INT64)


def _probabilities(a: Analysis, node: Node) -> Bounds:
    a.row_sums[node.output] = (1 << PROBABILITY_BITS) + (_row_length(node) + 1) // 2
    return clipped(0, 1 << PROBABILITY_BITS, node.attrs["quant"], (None, None))


def _softmax_lookup(a: Analysis, node: Node) -> Bounds:
    table = node.inputs[1]
    assert table is not None and table.data is not None
    _divided(a, node, max(int(table.data.max()), 1))
    return _probabilities(a, node)


def _log2_softmax(a: Analysis, node: Node) -> Bounds:
    table = node.inputs[1]
    assert table is not None and table.data is not None
    _divided(a, node, max(int(table.data.max()), 1), 15)
    # A power of two is at most sqrt(2) of the probability it stands for, which rounding made larger by half a step.
    a.row_sums[node.output] = ((1 << 15) + (_row_length(node) + 1) // 2) * 70711 // 100000 + 1
    return scalar(0, 1 << 14)


def _shiftmax(a: Analysis, node: Node) -> Bounds:
    unit, bits = node.attrs["unit"], node.attrs["bits"]
    largest = unit << bits
    a.step(node, "exponential", 0, 2 * largest, INT64)
    if node.attrs["division"] == "round":
        _divided(a, node, largest)
        return _probabilities(a, node)
    top = (1 << 31) - 1
    a.step(node, "quotient", 0, largest * top, INT64)
    return clipped(0, (largest * top) >> 24, node.attrs["quant"], (None, None))


def _shift_sigmoid(a: Analysis, node: Node) -> Bounds:
    attrs, x = node.attrs, a.centred(node.inputs[0])
    largest, one = attrs["unit"] << attrs["bits"], 1 << attrs["gate_bits"]
    a.step(node, "exponential", 0, 2 * largest, INT64)
    a.step(node, "quotient", 0, (largest << (attrs["gate_bits"] + 1)) + 2 * largest, INT64)
    if attrs["form"] == "gated":
        low, high = corners(x, scalar(0, one))
        a.step(node, "accumulator", low, high, 32)
        return scalar(low, high)
    return scalar(-one, one) if attrs["form"] == "tanh" else scalar(0, one)


def _norm(a: Analysis, node: Node) -> Bounds:
    x, weight, *bias = node.inputs
    assert x is not None and weight is not None and weight.data is not None
    attrs, count = node.attrs, int(x.shape[-1])
    low, high = a.centred(x).whole
    largest = max(abs(low), abs(high)) << attrs["fraction"]
    if node.op == "integer_layer_norm":
        a.step(node, "sum", -(2 * largest + 1) * count, (2 * largest + 1) * count, INT64)
        largest = 2 * largest + 1
    squares = count * largest * largest + attrs["eps"]
    a.step(node, "sum of squares", 0, squares, 63)
    # |y| <= sqrt(v) < k + 1, so y / k is at most (k + 1) / k, and k is at least the root of eps.
    least = isqrt(attrs["eps"])
    normal = ((1 << RECIPROCAL_BITS) * (least + 1)) // least + 1
    a.step(node, "normalized product", -normal, normal, INT64)
    top = normal >> (RECIPROCAL_BITS - NORMAL_BITS)
    offset = 0 if not bias or bias[0] is None or bias[0].data is None else int(np.abs(bias[0].data).max())
    total = (top + 1) * int(np.abs(weight.data.astype(np.int64)).max()) + offset + (1 << (attrs["shift"] - 1))
    a.step(node, "affine sum", -total, total, 63)
    return clipped(-total >> attrs["shift"], total >> attrs["shift"], attrs["quant"], (None, None))


RULES: dict[str, Rule] = {
    "lookup": _lookup,
    "lookup_interpolated": _lookup_interpolated,
    "integer_mul": _integer_mul,
    "softmax_lookup": _softmax_lookup,
    "log2_softmax": _log2_softmax,
    "shiftmax": _shiftmax,
    "shift_sigmoid": _shift_sigmoid,
    "integer_layer_norm": _norm,
    "integer_rms_norm": _norm,
}
