"""The functions of level INTEGER in standard integer ops, step by step as their reference bodies define them."""

from __future__ import annotations

import numpy as np

from qcompiler.ir import DType, Node, Value
from qcompiler.ir.ops.integer import PROBABILITY_BITS
from qcompiler.ir.ops.integer_norm import NORMAL_BITS, RECIPROCAL_BITS

from .emit_elementwise import Rule
from .emitter import Emitter
from .integer_arithmetic import centred, floor_divide, floor_shift, number, saturate, shift_by, wide
from .quantized_common import quant_of

LOWEST = -(1 << 40)


def _operand(node: Node, index: int) -> Value:
    value = node.inputs[index]
    assert value is not None
    return value


def _row(e: Emitter, node: Node, kernel: str) -> None:
    e.row(node, f"integer ops ({kernel})", f"{node.operands[0].dtype.name} -> {node.output.dtype.name}")


def _lookup(e: Emitter, node: Node) -> str:
    x, table = node.operands
    index = wide(e, x)
    if x.dtype.min:
        index = e.op("Sub", index, number(e, x.dtype.min))
    _row(e, node, "Gather")
    return str(e.op("Gather", table, index))


def _lookup_interpolated(e: Emitter, node: Node) -> str:
    x, table = node.operands
    u = e.op("Add", wide(e, x), number(e, 1 << 15))
    i = e.op("Div", u, number(e, 256))
    f = e.op("Sub", u, e.op("Mul", i, number(e, 256)))
    assert table.data is not None
    knots = table.data.astype(np.int64)
    low = e.op("Gather", number(e, knots[:-1]), i)
    slope = e.op("Gather", number(e, np.diff(knots)), i)
    t = e.op("Add", e.op("Mul", low, number(e, 256)), e.op("Mul", slope, f))
    shift = node.attrs["shift"]
    _row(e, node, "Gather")
    return saturate(e, floor_shift(e, e.op("Add", t, number(e, 1 << (shift - 1))), shift), node.attrs["quant"])


def _integer_mul(e: Emitter, node: Node) -> str:
    a, b = node.operands
    _row(e, node, "Mul")
    return e.cast(e.op("Mul", centred(e, a), centred(e, b)), DType.int32)


# -- softmax


def _distance(e: Emitter, x: Value, mask: Value | None) -> str:
    """Max of the row less x, over what the mask keeps; 0 elsewhere."""
    codes = wide(e, x)
    axes = e.ints([-1])
    if mask is None:
        return str(e.op("Sub", e.op("ReduceMax", codes, axes, keepdims=1), codes))
    top = e.op("ReduceMax", e.op("Where", mask, codes, number(e, LOWEST)), axes, keepdims=1)
    return str(e.op("Where", mask, e.op("Sub", top, codes), number(e, 0)))


def _kept(e: Emitter, values: str, mask: Value | None) -> str:
    return values if mask is None else str(e.op("Where", mask, values, number(e, 0)))


def _table_exponentials(e: Emitter, node: Node) -> str:
    x, table, mask = node.inputs
    assert x is not None and table is not None and table.data is not None
    # One entry of 0 behind the table stands for every larger distance.
    entries = number(e, np.append(table.data.astype(np.int64), 0))
    index = e.op("Min", _distance(e, x, mask), number(e, len(table.data)))
    return _kept(e, e.op("Gather", entries, index), mask)


def _probabilities(e: Emitter, exponentials: str, bits: int = PROBABILITY_BITS) -> str:
    total = e.op("ReduceSum", exponentials, e.ints([-1]), keepdims=1)
    numerator = e.op("Add", e.op("Mul", exponentials, number(e, 1 << (bits + 1))), total)
    return str(e.op("Div", numerator, e.op("Max", e.op("Mul", total, number(e, 2)), number(e, 1))))


def _softmax_lookup(e: Emitter, node: Node) -> str:
    _row(e, node, "table softmax")
    return saturate(e, _probabilities(e, _table_exponentials(e, node)), node.attrs["quant"])


def _log2_softmax(e: Emitter, node: Node) -> str:
    """2^(k-1) of the exponent k nearest in the logarithm, from thresholds on p."""
    p = _probabilities(e, _table_exponentials(e, node), 15)
    # p p >= 2^(2k+1) is p >= ceil(2^(k + 1/2)), so each power has one threshold.
    thresholds = [2, *(_ceil_sqrt(1 << (2 * k + 1)) for k in range(1, 16))]
    result = number(e, 0)
    for k, threshold in enumerate(thresholds[:15]):
        result = e.op("Where", e.op("GreaterOrEqual", p, number(e, threshold)), number(e, 1 << k), result)
    _row(e, node, "log2 softmax")
    return e.cast(result, DType.int16)


def _ceil_sqrt(v: int) -> int:
    from math import isqrt

    return isqrt(v - 1) + 1


def _shift_exp(e: Emitter, p: str, unit: int, bits: int) -> str:
    """See `qcompiler.ir.ops.integer.shift_exp`."""
    p = e.op("Sub", e.op("Add", p, floor_shift(e, p, 1)), floor_shift(e, p, 4))
    p = e.op("Max", p, number(e, -bits * unit))
    distance = e.op("Sub", number(e, 0), p)
    q = e.op("Div", distance, number(e, unit))
    r = e.op("Sub", distance, e.op("Mul", q, number(e, unit)))
    scaled = shift_by(e, e.op("Sub", number(e, 2 * unit), r), e.op("Sub", number(e, bits), q), "LEFT")
    return str(e.op("Div", scaled, number(e, 2)))


def _shiftmax(e: Emitter, node: Node) -> str:
    x, mask = node.inputs
    assert x is not None
    attrs = node.attrs
    distance = e.op("Sub", number(e, 0), _distance(e, x, mask))
    exponentials = _kept(e, _shift_exp(e, distance, attrs["unit"], attrs["bits"]), mask)
    _row(e, node, "Shiftmax")
    if attrs["division"] == "round":
        return saturate(e, _probabilities(e, exponentials), attrs["quant"])
    top = number(e, (1 << 31) - 1)
    total = e.op("Clip", e.op("ReduceSum", exponentials, e.ints([-1]), keepdims=1), number(e, 1), top)
    p = e.op("Div", e.op("Mul", exponentials, e.op("Div", top, total)), number(e, 1 << 24))
    return saturate(e, p, attrs["quant"])


def _shift_sigmoid(e: Emitter, node: Node) -> str:
    x, attrs = _operand(node, 0), node.attrs
    v = centred(e, x)
    m = e.op("Max", v, number(e, 0))
    a = _shift_exp(e, e.op("Sub", v, m), attrs["unit"], attrs["bits"])
    b = _shift_exp(e, e.op("Sub", number(e, 0), m), attrs["unit"], attrs["bits"])
    s = e.op("Add", a, b)
    numerator = e.op("Add", e.op("Mul", a, number(e, 1 << (attrs["gate_bits"] + 1))), s)
    g = e.op("Div", numerator, e.op("Mul", s, number(e, 2)))
    if attrs["form"] == "tanh":
        g = e.op("Sub", e.op("Mul", g, number(e, 2)), number(e, 1 << attrs["gate_bits"]))
    elif attrs["form"] == "gated":
        g = e.op("Mul", v, g)
    _row(e, node, f"shift {attrs['form']}")
    return e.cast(g, DType.int32)


# -- normalizations


def _floor_sqrt(e: Emitter, v: str, largest: int, least: int) -> str:
    """Exact floor square root of v in [least, largest], least >= 1: Newton's steps, kept only while they fall.

    A step at least halves the distance in bits to the root and then converges quadratically, so the number of
    steps follows from the range.
    """
    start = (largest.bit_length() + 1) // 2
    steps = start - (least.bit_length() - 1) // 2 + 7
    k = number(e, 1 << start)
    for _ in range(steps):
        following = e.op("Div", e.op("Add", k, e.op("Div", v, k)), number(e, 2))
        k = e.op("Min", k, following)
    return k


def _norm(e: Emitter, node: Node) -> str:
    x, weight, *bias = node.inputs
    assert x is not None and weight is not None and weight.data is not None
    attrs, count = node.attrs, int(x.shape[-1])
    quant, axes = quant_of(x), e.ints([-1])
    peak = max(x.dtype.max - int(quant.zero_point), int(quant.zero_point) - x.dtype.min) << attrs["fraction"]
    y = centred(e, x)
    if attrs["fraction"]:
        y = e.op("Mul", y, number(e, 1 << attrs["fraction"]))
    if node.op == "integer_layer_norm":
        doubled = e.op("Mul", e.op("ReduceSum", y, axes, keepdims=1), number(e, 2))
        mean = floor_divide(e, e.op("Add", doubled, number(e, count)), 2 * count, (2 * peak + 1) * count)
        y = e.op("Sub", y, mean)
    v = e.op("Add", e.op("ReduceSum", e.op("Mul", y, y), axes, keepdims=1), number(e, attrs["eps"]))
    k = _floor_sqrt(e, v, count * (2 * peak + 1) ** 2 + attrs["eps"], attrs["eps"])
    reciprocal = e.op("Div", number(e, 1 << RECIPROCAL_BITS), k)
    t = floor_shift(e, e.op("Mul", y, reciprocal), RECIPROCAL_BITS - NORMAL_BITS)
    total = e.op("Mul", t, number(e, weight.data.astype(np.int64)))
    offset = np.int64(1) << (attrs["shift"] - 1)
    if bias and bias[0] is not None:
        assert bias[0].data is not None
        offset = bias[0].data + offset
    _row(e, node, "exact square root")
    return saturate(e, floor_shift(e, e.op("Add", total, number(e, offset)), attrs["shift"]), attrs["quant"])


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
