"""Exact 64-bit integer arithmetic in standard ONNX ops.

ONNX has no arithmetic shift: BitShift takes unsigned types only, and Div truncates. A shift right of x in
(-2^62, 2^62) is done on x + 2^62, which is positive, and 2^62 >> s is taken off again.
"""

from __future__ import annotations

import numpy as np

from qcompiler.ir import DType, QuantParams, Value

from .emitter import Emitter
from .quantized_common import quant_of

OFFSET = 1 << 62


def wide(e: Emitter, value: str | Value) -> str:
    """As int64."""
    return e.cast(value, DType.int64)


def number(e: Emitter, values: int | np.ndarray) -> str:
    """An int64 constant."""
    return e.const(values, np.int64)


def centred(e: Emitter, value: Value) -> str:
    """Codes less their zero point, int64; computed once."""
    key = (value, "centred")
    if key not in e.cache:
        quant = quant_of(value)
        x = wide(e, value)
        if not quant.symmetric:
            zero = quant.broadcast(quant.zero_point, (1,) * len(value.shape))
            x = e.op("Sub", x, number(e, zero))
        e.cache[key] = x
    return e.cache[key]


def floor_shift(e: Emitter, x: str, shift: int | np.ndarray) -> str:
    """x >> shift for x in (-2^62, 2^62): the floor of x / 2^shift."""
    amounts = np.asarray(shift, np.uint64)
    moved = e.op("Cast", e.op("Add", x, number(e, OFFSET)), to=13)  # TensorProto.UINT64
    moved = e.op("BitShift", moved, e.const(amounts), direction="RIGHT")
    return str(e.op("Sub", wide(e, moved), number(e, np.asarray(OFFSET, np.int64) >> amounts.astype(np.int64))))


def shift_by(e: Emitter, x: str, amount: str, direction: str) -> str:
    """x >> amount or x << amount for x >= 0 and a computed amount (int64) in [0, 62]."""
    moved = e.op("BitShift", e.op("Cast", x, to=13), e.op("Cast", amount, to=13), direction=direction)
    return wide(e, moved)


def floor_divide(e: Emitter, x: str, divisor: int, largest: int) -> str:
    """The floor of x / divisor for |x| <= largest: Div truncates, so the dividend is made positive."""
    quotient = -(-largest // divisor)
    moved = e.op("Div", e.op("Add", x, number(e, quotient * divisor)), number(e, divisor))
    return str(e.op("Sub", moved, number(e, quotient)))


def saturate(e: Emitter, x: str, quant: QuantParams, limits: tuple[int | None, int | None] = (None, None)) -> str:
    """Zero point added, clipped, and cast to the type of the codes."""
    if int(quant.zero_point):
        x = e.op("Add", x, number(e, int(quant.zero_point)))
    low = quant.dtype.min if limits[0] is None else limits[0]
    high = quant.dtype.max if limits[1] is None else limits[1]
    return e.cast(e.op("Clip", x, number(e, low), number(e, high)), quant.dtype)


def half_even_shift(e: Emitter, x: str, shift: np.ndarray) -> str:
    """x / 2^shift rounded to nearest, ties to even; negative shifts multiply.

    (x + 2^(s-1) - 1 + (x >> s) mod 2) >> s: the last term decides ties.
    """
    right = np.maximum(shift, 0)
    if right.any():
        floor = floor_shift(e, x, right)
        odd = e.op("Sub", floor, e.op("Mul", floor_shift(e, floor, 1), number(e, 2)))
        half = np.where(right > 0, (np.int64(1) << np.maximum(right - 1, 0)) - 1, 0)
        if (right == 0).any():
            odd = e.op("Mul", odd, number(e, (right > 0).astype(np.int64)))
        x = floor_shift(e, e.op("Add", e.op("Add", x, number(e, half)), odd), right)
    left = np.maximum(-shift, 0)
    return str(e.op("Mul", x, number(e, np.int64(1) << left))) if left.any() else x


def unsigned(e: Emitter, value: Value) -> tuple[str, Value]:
    """uint8 form of codes of up to 8 bits, 128 higher where they are signed, and a value that describes it.

    ConvInteger takes no signed activations, and signed products may saturate in pairs on some instruction sets.
    """
    quant = quant_of(value)
    if not value.dtype.is_signed:
        return e.name(value), value
    offset = QuantParams(DType.uint8, quant.scale, quant.zero_point + 128, quant.axis)
    stand_in = Value(DType.uint8, value.shape, offset, value.name)
    key = (value, "unsigned")
    if key not in e.cache:
        moved = e.op("Add", e.cast(value, DType.int32), e.const(128, np.int32))
        e.cache[key] = e.cast(moved, DType.uint8)
    return e.cache[key], stand_in
