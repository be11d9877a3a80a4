"""Requantize in the integer profiles, in standard integer ops; bit for bit what `qcompiler.ir.fixed_point` says."""

from __future__ import annotations

import numpy as np

from qcompiler.errors import UnsupportedError
from qcompiler.ir import Node, Value
from qcompiler.ir.fixed_point import INT32_MAX, INT32_MIN

from .emitter import Emitter
from .integer_arithmetic import centred, floor_shift, half_even_shift, number, saturate
from .quantized_common import output_limits, quant_of


def requantize(e: Emitter, node: Node) -> str:
    """One of the profiles dyadic, dyadic_double, shift_half_even."""
    acc, multiplier, shift = node.inputs
    assert acc is not None and multiplier is not None and shift is not None
    if multiplier.data is None or shift.data is None:
        raise UnsupportedError(f"{node.where()}: multiplier and shift must be constants")
    m, s = (_along_channels(acc, v.data) for v in (multiplier, shift))
    x = centred(e, acc)
    rounding = node.attrs["rounding"]
    if rounding == "dyadic":
        product = e.op("Add", e.op("Mul", x, number(e, m)), number(e, np.int64(1) << (s - 1)))
        x = floor_shift(e, product, s)
    elif rounding == "dyadic_double":
        x = _double_rounding(e, x, m, s)
    else:
        x = half_even_shift(e, x, s)
    e.row(node, f"integer ops ({rounding})", node.output.dtype.name)
    return saturate(e, x, node.attrs["quant"], output_limits(node))


def _along_channels(acc: Value, values: np.ndarray | None) -> np.ndarray:
    assert values is not None
    return quant_of(acc).broadcast(values.astype(np.int64), (1,) * len(acc.shape))


def _double_rounding(e: Emitter, x: str, m: np.ndarray, s: np.ndarray) -> str:
    """Saturating left shift, rounding doubling high multiply, rounding divide by a power of two."""
    exponent = 31 - s
    left, right = np.maximum(exponent, 0), np.minimum(np.maximum(-exponent, 0), 31)
    if left.any():
        x = e.op("Mul", x, number(e, np.int64(1) << left))
    x = e.op("Clip", x, number(e, INT32_MIN), number(e, INT32_MAX))
    product = e.op("Mul", x, number(e, m))
    negative = e.op("Less", product, number(e, 0))
    nudge = e.op("Where", negative, number(e, 1 - (1 << 30)), number(e, 1 << 30))
    high = e.op("Div", e.op("Add", product, nudge), number(e, 1 << 31))  # truncates, as the nudge expects
    if not right.any():
        return str(high)
    floor = floor_shift(e, high, right)
    rest = e.op("Sub", high, e.op("Mul", floor, number(e, np.int64(1) << right)))
    threshold = e.op("Add", number(e, ((np.int64(1) << right) - 1) >> 1), _flag(e, e.op("Less", high, number(e, 0))))
    return str(e.op("Add", floor, _flag(e, e.op("Greater", rest, threshold))))


def _flag(e: Emitter, truth: str) -> str:
    return str(e.op("Where", truth, number(e, 1), number(e, 0)))


def requantize_sum(e: Emitter, node: Node) -> str:
    """Weighted sum of centred codes, one shift, one rounding."""
    attrs = node.attrs
    terms = [
        e.op("Mul", centred(e, v), number(e, m)) for v, m in zip(node.operands, attrs["multipliers"], strict=True)
    ]
    total = terms[0]
    for term in terms[1:]:
        total = e.op("Add", total, term)
    if attrs["rounding"] == "dyadic":
        total = floor_shift(e, e.op("Add", total, number(e, 1 << (attrs["shift"] - 1))), attrs["shift"])
    else:
        total = half_even_shift(e, total, np.asarray(attrs["shift"], np.int64))
    e.row(node, f"integer ops ({attrs['rounding']})", node.output.dtype.name)
    return saturate(e, total, attrs["quant"], output_limits(node))
