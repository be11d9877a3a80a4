"""Converters of ONNX Runtime's ops on weights in blocks: MatMulNBits and its relatives (domain com.microsoft).

Codes of 2, 4 or 8 bits are packed into bytes, the first in the low bits; blocks of `block_size` along the input
channels share a scale and a zero point, which is 2^(bits-1) where none is given. That one is read as signed codes
without a zero point.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ....ir import DType, QuantParams, Value
from ..context import OnnxContext, Refusal

Converter = Callable[..., Any]
INT8_BLOCKS = 4
"""accuracy_level that rounds the operand to int8 by row and block; others compute with real operands."""


def unpacked(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
    """The first `count` codes of the last axis: bytes [..., n] to uint8 [..., count].

    Raises:
        Refusal: there are fewer.
    """
    per_byte = 8 // bits
    shifts = (np.arange(per_byte) * bits).astype(np.uint8)
    codes = (packed[..., None] >> shifts) & np.uint8((1 << bits) - 1)
    codes = codes.reshape(*packed.shape[:-1], -1)
    if codes.shape[-1] < count:
        raise Refusal(f"{packed.shape[-1]} bytes hold no {count} codes of {bits} bits")
    return np.asarray(codes[..., :count])


def _zeros(c: OnnxContext, zero: Value | None, bits: int, rows: int, blocks: int) -> np.ndarray:
    """Zero points [rows, blocks]: absent, packed along the blocks of a row, or whole numbers in the scale's type."""
    if zero is None:
        return np.full((rows, blocks), 1 << (bits - 1), np.int64)
    given = c.known(zero, "zero points")
    if zero.dtype.is_float:
        found = given.astype(np.float64).reshape(rows, blocks)
        if (found != np.rint(found)).any():
            raise Refusal("zero points that are no whole numbers")
        return found.astype(np.int64)
    return unpacked(given.reshape(rows, -1), bits, blocks).astype(np.int64)


def block_params(codes: np.ndarray, scale: np.ndarray, zeros: np.ndarray, bits: int, axis: int, size: int) -> tuple[np.ndarray, QuantParams]:
    """Codes and their parameters: signed ones without zero points where all of these are in the middle."""
    middle = 1 << (bits - 1)
    try:
        if (zeros == middle).all():
            signed = (codes.astype(np.int16) - middle).astype(np.int8)
            return signed, QuantParams(DType[f"int{bits}"], scale, np.zeros((), np.int32), axis, size)
        return codes, QuantParams(DType[f"uint{bits}"], scale, zeros, axis, size)
    except ValueError as error:
        raise Refusal(str(error)) from None


def matmul_nbits(
    c: OnnxContext, x: Value, packed: Value, scale: Value, zero: Value | None = None, order: Value | None = None,
    bias: Value | None = None,
) -> Value:  # fmt: skip
    """x [..., K] times a weight [N, K] in blocks."""
    bits, size = c.number("bits", 4), c.number("block_size")
    rows, channels = c.number("N"), c.number("K")
    if bits not in (2, 4, 8):
        raise Refusal(f"codes of {bits} bits; 2, 4 and 8 are read")
    if packed.data is None or c.number("weight_prepacked", 0):
        raise Refusal("a weight that is no constant in the documented layout")
    blocks = -(-channels // size)
    if order is not None and not np.array_equal(c.array_of(order, "g_idx").ravel()[:channels], np.arange(channels) // size):
        raise Refusal("g_idx that takes channels out of their order")
    key = (packed, (scale, zero))
    if key not in c.coded:
        codes = unpacked(packed.data.reshape(rows, -1), bits, blocks * size)[:, :channels]
        factors = c.known(scale, "scales").astype(np.float32).reshape(rows, blocks)
        codes, quant = block_params(codes, factors, _zeros(c, zero, bits, rows, blocks), bits, 1, size)
        c.coded[key] = c.builder.const(np.ascontiguousarray(codes), quant.dtype, quant, packed.name)
    weight = c.coded[key]
    if c.number("accuracy_level", 0) == INT8_BLOCKS:
        return c.op("dynamic_linear", x, weight, bias, granularity="group")
    return c.op("weight_only_linear", x, weight, bias)


def gather_blocks(c: OnnxContext, table: Value, index: Value, scale: Value, zero: Value | None = None) -> Value:
    """Rows of a table of codes in blocks, as real numbers."""
    if table.data is None:
        raise Refusal("a table that is no constant")
    bits, size = c.number("bits", 4), c.number("block_size", 128)
    rank = len(table.shape)
    axis, rows = c.axis(table, c.number("quantize_axis", 1)), c.axis(table, c.number("gather_axis", 0))
    if table.dtype is DType.uint8:  # packed along the last axis
        if axis != rank - 1:
            raise Refusal("packed codes with blocks along another axis than the last")
        factors = c.known(scale, "scales").astype(np.float32)
        codes = unpacked(table.data, bits, table.data.shape[-1] * 8 // bits)
        flat = factors.reshape(-1, factors.shape[-1])
        zeros = _zeros(c, zero, bits, *flat.shape).reshape(factors.shape)
        codes, quant = block_params(codes, factors, zeros, bits, axis, size)
    else:
        factors = c.known(scale, "scales").astype(np.float32)
        zeros = np.zeros((), np.int64) if zero is None else c.known(zero, "zero points").astype(np.int64)
        codes, quant = table.data, QuantParams(table.dtype, factors, zeros, axis, size)
    value = c.builder.const(codes, quant.dtype, quant, table.name)
    return c.cast(c.op("gather", c.op("dequantize", value), index, axis=rows), scale.dtype)


CONVERTERS: dict[str, Converter] = {
    "com.microsoft.MatMulNBits": matmul_nbits,
    "com.microsoft.GatherBlockQuantized": gather_blocks,
}
