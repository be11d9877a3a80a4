"""Converters of QONNX: `Quant` nodes round real numbers to codes and back (Pappalardo et al. 2022; Brevitas exports).

`(clip(round(x / scale + zero_point)) - zero_point) * scale`. Here the zero point is added after rounding, as in ONNX:
exact halves at an odd zero point go to the other neighbour; codes of constants are those of the formula.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ....ir import DType, QuantParams, Value
from ...limits import clipped
from ..context import OnnxContext, Refusal

Converter = Callable[..., Any]
DOMAINS = ("qonnx.custom_op.general", "finn.custom_op.general", "onnx.brevitas")
HALF_EVEN = ("ROUND", "HALF_EVEN")


def quant(c: OnnxContext, x: Value, scale: Value, zero: Value, bits: Value) -> Value:
    """Rounded to codes and back."""
    rounding = c.text("rounding_mode", "ROUND").upper()
    if rounding not in HALF_EVEN:
        raise Refusal(f"rounding_mode {rounding}; the graph rounds half to even (ROUND)")
    signed, narrow = bool(c.number("signed", 1)), bool(c.number("narrow", 0))
    dtype = _codes_type(c.array_of(bits, "the bit width"), signed)
    low, high = dtype.min + (signed and narrow), dtype.max - (not signed and narrow)
    factors = np.asarray(c.array_of(scale, "a scale"), np.float32)
    zeros = np.asarray(c.array_of(zero, "a zero point"), np.float32)
    axis = _axis(x, factors.shape if factors.size >= zeros.size else zeros.shape)
    params = _params(dtype, factors, zeros, axis)
    if x.data is not None:  # by the formula: x / s + z is rounded, not x / s
        codes = np.rint(np.clip(x.data / factors + zeros, low, high))
        return c.op("dequantize", c.builder.const(codes.astype(dtype.numpy), dtype, params, x.name))
    try:
        real = clipped(c.op, c.cast(x, DType.float32), params, low, high)
    except ValueError as error:
        raise Refusal(str(error)) from None
    return c.op("dequantize", c.op("quantize", real, quant=params))


def _codes_type(bits: np.ndarray, signed: bool) -> DType:
    width = int(bits.reshape(-1)[0])
    if bits.size != 1 or width != bits.reshape(-1)[0]:
        raise Refusal(f"a bit width of {bits.tolist()}")
    name = f"{'' if signed else 'u'}int{width}"
    if name not in DType.__members__ or width > 32:
        raise Refusal(f"codes of {width} bits ({'signed' if signed else 'unsigned'}) have no type in the graph")
    return DType[name]


def _axis(x: Value, shape: tuple[int, ...]) -> int | None:
    """The axis along which scales differ; None for one scale."""
    long = [i - len(shape) for i, size in enumerate(shape) if size != 1]
    if len(long) > 1 or len(shape) > len(x.shape):
        raise Refusal(f"scales of shape {list(shape)} for a tensor of shape {list(x.shape)}")
    return long[0] % len(x.shape) if long else None


def _params(dtype: DType, scale: np.ndarray, zero: np.ndarray, axis: int | None) -> QuantParams:
    try:
        if axis is None:
            return QuantParams(dtype, scale.reshape(()), zero.reshape(()))
        size = max(scale.size, zero.size)
        zeros = np.zeros((), np.int64) if not zero.any() else np.broadcast_to(zero.reshape(-1), size)
        return QuantParams(dtype, np.broadcast_to(scale.reshape(-1), size), zeros, axis)
    except ValueError as error:
        raise Refusal(str(error)) from None


def bipolar(c: OnnxContext, x: Value, scale: Value) -> Value:
    """A constant's signs times a scale: codes -1 and 1."""
    if x.data is None:
        raise Refusal("BipolarQuant of activations: a sign is no code of the graph")
    factors = np.asarray(c.array_of(scale, "a scale"), np.float32)
    codes = np.where(x.data >= 0, 1, -1).astype(np.int8)
    params = _params(DType.int2, factors, np.zeros(()), _axis(x, factors.shape))
    return c.op("dequantize", c.builder.const(codes, DType.int2, params, x.name))


CONVERTERS: dict[str, Converter] = {
    f"{domain}.{name}": convert
    for domain in DOMAINS
    for name, convert in (("Quant", quant), ("IntQuant", quant), ("BipolarQuant", bipolar))
}
