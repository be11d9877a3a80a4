"""Converters of quantized programs: PT2E's quantize and dequantize ops, and fake quantization left by training.

Scales and zero points are taken as they are. The graph is then at level QUANTIZED, where
`qcompiler.passes.quantize.fuse_qdq` makes integer ops of what is written here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...ir import DType, QuantParams, Value
from ..context import Context, Refusal
from ..limits import limited_codes

Converter = Callable[..., Any]

# Narrowest type that holds [qmin, qmax]; [-127, 127] of int8 and the like is a limit within the type.
_TYPES = sorted((d for d in DType if d.is_integer and d.bits <= 32 and d not in (DType.uint32,)), key=lambda d: d.bits)


def _params(scale: Any, zero: Any, low: int, high: int, axis: int | None) -> QuantParams:
    dtype = next((d for d in _TYPES if d.min <= low and high <= d.max), None)
    if dtype is None:
        raise Refusal(f"codes from {low} to {high} have no type in the graph")
    if dtype.bits not in (2, 4, 8, 16, 32):
        dtype = DType.int8 if dtype.is_signed else DType.uint8
    factors, zeros = _numbers(scale, "a scale"), _numbers(zero, "a zero point")
    try:
        if axis is None:
            return QuantParams(dtype, factors.reshape(()), zeros.reshape(()))
        return QuantParams(dtype, factors.reshape(-1), np.zeros((), np.int64) if not zeros.any() else zeros.reshape(-1), axis)
    except ValueError as error:
        raise Refusal(str(error)) from None


def _numbers(value: Any, what: str) -> np.ndarray:
    if isinstance(value, Value):
        if value.data is None:
            raise Refusal(f"{what} is computed from data; export the model in evaluation mode with its observers off")
        return value.data
    return np.asarray(value)


def codes_of(c: Context, x: Value, quant: QuantParams, low: int, high: int) -> Value:
    """Codes within [low, high]: constant ones of a constant, else a quantize whose operand is clipped where need be."""
    if x.data is not None:
        codes = np.clip(quant.quantize(x.data).astype(np.int64), low, high)
        return c.builder.const(codes.astype(quant.dtype.numpy), quant.dtype, quant, x.name)
    return limited_codes(c, x, quant, low, high)


def quantize(c: Context, x: Value, scale: Any, zero: Any, low: int, high: int, *_: Any, **__: Any) -> Value:
    """Per tensor."""
    return codes_of(c, x, _params(scale, zero, low, high, None), low, high)


def quantize_channels(
    c: Context, x: Value, scale: Any, zero: Any, axis: int, low: int, high: int, *_: Any, **__: Any
) -> Value:
    """One scale per channel."""
    return codes_of(c, x, _params(scale, zero, low, high, axis % len(x.shape)), low, high)


def _real(c: Context, x: Value, quant: QuantParams) -> Value:
    if x.quant is None and x.data is not None:
        x = c.builder.const(x.data, quant.dtype, quant, x.name)
    if x.quant != quant:
        raise Refusal("codes are read with another scale or zero point than they were made with")
    return c.op("dequantize", x)


def dequantize(c: Context, x: Value, scale: Any, zero: Any, low: int, high: int, *_: Any, **__: Any) -> Value:
    """Per tensor."""
    return _real(c, x, _params(scale, zero, low, high, None))


def dequantize_channels(
    c: Context, x: Value, scale: Any, zero: Any, axis: int, low: int, high: int, *_: Any, **__: Any
) -> Value:
    """One scale per channel; an absent zero point is 0."""
    return _real(c, x, _params(scale, 0 if zero is None else zero, low, high, axis % len(x.shape)))


def fake(quantizer: Converter) -> Converter:
    """Rounded to codes and back, as training sees it."""
    return lambda c, x, *args, **kwargs: c.op("dequantize", quantizer(c, x, *args, **kwargs))


def switched(quantizer: Converter) -> Converter:
    """torch.ao's form with a switch: (x, scale, zero, enabled, low, high)."""

    def convert(c: Context, x: Value, scale: Any, zero: Any, enabled: Any, low: int, high: int) -> list[Value | None]:
        if not _numbers(enabled, "the switch of a fake quantizer").all():
            return [x, None]
        return [fake(quantizer)(c, x, scale, zero, low, high), None]

    return convert


CONVERTERS: dict[str, Converter] = {
    **{f"quantized_decomposed.quantize_per_tensor.{o}": quantize for o in ("default", "tensor")},
    **{f"quantized_decomposed.dequantize_per_tensor.{o}": dequantize for o in ("default", "tensor")},
    "quantized_decomposed.quantize_per_channel.default": quantize_channels,
    "quantized_decomposed.dequantize_per_channel.default": dequantize_channels,
    **{f"aten.fake_quantize_per_tensor_affine.{o}": fake(quantize) for o in ("default", "tensor_qparams")},
    "aten.fake_quantize_per_channel_affine.default": fake(quantize_channels),
    "aten._fake_quantize_per_tensor_affine_cachemask_tensor_qparams.default": switched(quantize),
}
