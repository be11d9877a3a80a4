"""Converters of quantized programs: PT2E's quantize and dequantize ops, and fake quantization left by training.

Scales and zero points are taken as they are. The graph is then at level QUANTIZED, where
`qcompiler.passes.quantize.fuse_qdq` makes integer ops of what is written here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...ir import QuantParams, Value
from ..context import Context, Refusal, to_dtype
from ..limits import clipped, narrowest

Converter = Callable[..., Any]


def _params(scale: Any, zero: Any, low: int, high: int, axis: int | None) -> QuantParams:
    dtype = narrowest(low, high)
    if dtype is None:
        raise Refusal(f"codes from {low} to {high} have no type in the graph")
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
    try:
        return c.op("quantize", clipped(c.op, x, quant, low, high), quant=quant)
    except ValueError as error:
        raise Refusal(str(error)) from None


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


def _blocks(x: Value, block: Any, scale: Any, zero: Any, dtype: Any, low: Any, high: Any) -> tuple[QuantParams, int, int]:
    """Parameters and limits of torchao's ops: elements of a block share a scale, whatever the scale's own shape."""
    codes = to_dtype(dtype)
    low, high = (end if given is None else int(given) for given, end in ((low, codes.min), (high, codes.max)))
    sizes = [int(d) for d in x.shape] if all(isinstance(d, int) for d in x.shape) else None
    if sizes is None or len(block) != len(sizes):
        raise Refusal(f"blocks {list(block)} of a tensor of shape {list(x.shape)}")
    counts = [size // int(b) for size, b in zip(sizes, block, strict=True)]
    whole = _params(np.float32(1), 0, low, high, None).dtype
    factors = np.asarray(_numbers(scale, "a scale"), np.float32).reshape(counts)
    zeros = np.zeros(counts, np.int64) if zero is None else _numbers(zero, "a zero point").reshape(counts)
    parted = [axis for axis, (b, size) in enumerate(zip(block, sizes, strict=True)) if int(b) != size]
    grouped = [axis for axis in parted if int(block[axis]) != 1]
    try:
        if not parted:
            return QuantParams(whole, factors.reshape(()), zeros.reshape(())), low, high
        if grouped:
            others = all(int(b) == 1 for axis, b in enumerate(block) if axis != grouped[0])
            if len(grouped) > 1 or not others:
                raise Refusal(f"blocks {list(block)} of a tensor of shape {sizes}")
            return QuantParams(whole, factors, zeros, grouped[0], int(block[grouped[0]])), low, high
        if len(parted) > 1:
            if int(block[-1]) != sizes[-1] or len(parted) != len(sizes) - 1 or sizes[-1] == 1:
                raise Refusal(f"blocks {list(block)} of a tensor of shape {sizes}")
            return QuantParams(whole, factors, zeros, len(sizes) - 1, sizes[-1]), low, high
        return QuantParams(whole, factors.reshape(-1), zeros.reshape(-1), parted[0]), low, high
    except ValueError as error:
        raise Refusal(str(error)) from None


def quantize_blocks(
    c: Context, x: Value, block: Any, scale: Any, zero: Any, dtype: Any, low: Any = None, high: Any = None
) -> Value:
    """torchao's general form: per tensor, channel, row or group."""
    return codes_of(c, x, *_blocks(x, block, scale, zero, dtype, low, high))


def dequantize_blocks(
    c: Context, x: Value, block: Any, scale: Any, zero: Any, dtype: Any, low: Any = None, high: Any = None, **_: Any
) -> Value:
    """See `quantize_blocks`."""
    return _real(c, x, _blocks(x, block, scale, zero, dtype, low, high)[0])


def dequantize_groups(
    c: Context, x: Value, scale: Any, zero: Any, low: int, high: int, dtype: Any, group: int = 128, *_: Any
) -> Value:
    """A matrix with a scale for every `group` elements of a row."""
    return _real(c, x, _blocks(x, (1, min(group, x.shape[1])), scale, zero, dtype, low, high)[0])


def learnable(quantizer: Converter) -> Converter:
    """Learned scale and zero point, which is rounded where it is used: (x, scale, zero, [axis,] low, high, factor)."""

    def convert(c: Context, x: Value, scale: Any, zero: Any, *rest: Any) -> Value:
        *axis, low, high, _ = rest
        point = np.clip(np.rint(_numbers(zero, "a zero point")), low, high)
        return fake(quantizer)(c, x, scale, point, *axis, low, high)

    return convert


CONVERTERS: dict[str, Converter] = {
    **{f"quantized_decomposed.quantize_per_tensor.{o}": quantize for o in ("default", "tensor")},
    **{f"quantized_decomposed.dequantize_per_tensor.{o}": dequantize for o in ("default", "tensor")},
    "quantized_decomposed.quantize_per_channel.default": quantize_channels,
    "quantized_decomposed.dequantize_per_channel.default": dequantize_channels,
    "quantized_decomposed.dequantize_per_channel_group.default": dequantize_groups,
    **{f"aten.fake_quantize_per_tensor_affine.{o}": fake(quantize) for o in ("default", "tensor_qparams")},
    "aten.fake_quantize_per_channel_affine.default": fake(quantize_channels),
    "aten._fake_quantize_per_tensor_affine_cachemask_tensor_qparams.default": switched(quantize),
    "aten._fake_quantize_learnable_per_tensor_affine.default": learnable(quantize),
    "aten._fake_quantize_learnable_per_channel_affine.default": learnable(quantize_channels),
    "torchao.quantize_affine.default": quantize_blocks,
    "torchao.dequantize_affine.default": dequantize_blocks,
}
