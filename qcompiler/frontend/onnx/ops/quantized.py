"""Converters of ops on codes: Q/DQ and QLinear*. Scales and zero points are taken as they are.

A model with one of them gives a graph at level QUANTIZED. Q/DQ around float ops stays as it is written here;
`qcompiler.passes.quantize.fuse_qdq` makes integer ops of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ....ir import DType, QuantParams, Value
from ..context import OnnxContext, Refusal
from ..quant_params import read_params, with_params
from . import pool
from .linear import kernel_of, window
from .microsoft import packed_attention

Converter = Callable[..., Any]
ROUNDING = "float32_half_even"


def quantize_linear(c: OnnxContext, x: Value, scale: Value, zero: Value | None = None) -> Value:
    """Codes of a real tensor; of a constant, constant codes."""
    dtype = c.dtype_attr("output_dtype") if c.number("output_dtype", 0) else DType.uint8
    dtype = dtype if zero is None else zero.dtype
    quant = read_params(c, scale, zero, dtype, x.shape, c.number("axis", 1), c.number("block_size", 0))
    if not dtype.is_integer:
        raise Refusal(f"codes of {dtype.name}")
    if x.data is not None:
        return c.builder.const(quant.quantize(x.data), dtype, quant, x.name)
    return c.op("quantize", c.cast(x, DType.float32), quant=quant)


def dequantize_linear(c: OnnxContext, x: Value, scale: Value, zero: Value | None = None) -> Value:
    """Real numbers of codes, in the scale's type."""
    quant = read_params(c, scale, zero, x.dtype, x.shape, c.number("axis", 1), c.number("block_size", 0))
    return c.cast(c.op("dequantize", with_params(c, x, quant)), scale.dtype)


def _codes(c: OnnxContext, x: Value, scale: Value, zero: Value | None, axis: int = 0) -> Value:
    return with_params(c, x, read_params(c, scale, zero, x.dtype, x.shape, axis))


def _result(c: OnnxContext, scale: Value, zero: Value | None, default: DType = DType.uint8) -> QuantParams:
    return read_params(c, scale, zero, default if zero is None else zero.dtype, (), 0)


def requantize(c: OnnxContext, acc: Value, quant: QuantParams) -> Value:
    """Accumulators (or codes) in other parameters, with the multiplier sx sw / sy in float32."""
    assert acc.quant is not None
    multiplier = c.builder.const((acc.quant.scale / quant.scale).astype(np.float32))
    return c.op("requantize", acc, multiplier, quant=quant, rounding=ROUNDING)


def _bias(c: OnnxContext, bias: Value | None) -> Value | None:
    if bias is not None and (bias.data is None or bias.dtype is not DType.int32):
        raise Refusal("a bias that is no int32 constant")
    return bias


def qlinear_conv(
    c: OnnxContext, x: Value, xs: Value, xz: Value, w: Value, ws: Value, wz: Value, ys: Value, yz: Value, bias: Value | None = None
) -> Value:
    """Convolution of codes."""
    if c.number("channels_last", 0):
        raise Refusal("channels_last")
    codes, weight = _codes(c, x, xs, xz), _codes(c, w, ws, wz)
    acc = c.op("conv", codes, weight, _bias(c, bias), groups=c.number("group", 1), **window(c, x, kernel_of(c, w)))
    return requantize(c, acc, _result(c, ys, yz))


def qlinear_matmul(
    c: OnnxContext, a: Value, a_s: Value, az: Value, b: Value, bs: Value, bz: Value, ys: Value, yz: Value
) -> Value:
    """Matrix product of codes; channels of b are its columns."""
    left, right = _codes(c, a, a_s, az), _codes(c, b, bs, bz, axis=-1)
    return requantize(c, product_of_codes(c, left, right), _result(c, ys, yz))


def product_of_codes(c: OnnxContext, a: Value, b: Value) -> Value:
    """Accumulators; a constant matrix becomes the weight of a linear layer."""
    if b.data is None or len(b.shape) != 2 or b.quant is None:
        return c.op("matmul", a, b)
    quant = b.quant if b.quant.axis is None else b.quant.with_axis(0)
    return c.op("linear", a, _transposed(c, b, quant))


def _transposed(c: OnnxContext, b: Value, quant: QuantParams) -> Value:
    key = (b, quant)
    if key not in c.coded:
        assert b.data is not None
        c.coded[key] = c.builder.const(np.ascontiguousarray(b.data.T), quant.dtype, quant, b.name)
    return c.coded[key]


def qgemm(
    c: OnnxContext, a: Value, a_s: Value, az: Value, b: Value, bs: Value, bz: Value, bias: Value | None = None,
    ys: Value | None = None, yz: Value | None = None,
) -> Value:  # fmt: skip
    """Linear layer on codes: codes where a result scale is given, else real numbers."""
    if c.number("transA", 0) or c.number("alpha", 1.0) != 1 or b.data is None:
        raise Refusal("QGemm with transA, alpha or a computed weight")
    weight = _codes(c, b, bs, bz, axis=0 if c.number("transB", 0) else 1)
    if not c.number("transB", 0):
        assert weight.quant is not None
        weight = _transposed(c, weight, weight.quant if weight.quant.axis is None else weight.quant.with_axis(0))
    acc = c.op("linear", _codes(c, a, a_s, az), weight, _bias(c, bias))
    return c.op("dequantize", acc) if ys is None else requantize(c, acc, _result(c, ys, yz))


def qlinear_add(
    c: OnnxContext, a: Value, a_s: Value, az: Value | None, b: Value, bs: Value, bz: Value | None, ys: Value, yz: Value | None = None
) -> Value:
    """Sum of codes."""
    parts, quant = [_codes(c, a, a_s, az), _codes(c, b, bs, bz)], _result(c, ys, yz, a.dtype)
    return requantize_sum(c, parts, quant)


def requantize_sum(c: OnnxContext, parts: list[Value], quant: QuantParams) -> Value:
    """Codes of a sum, with the multipliers sx / sy."""
    factors = [float(v.quant.scale / quant.scale) for v in parts if v.quant is not None]
    return c.op("requantize_sum", *parts, quant=quant, rounding=ROUNDING, real_multipliers=factors)


def qlinear_mean(c: OnnxContext, x: Value, xs: Value, xz: Value, ys: Value, yz: Value) -> Value:
    """Mean over all spatial axes of codes."""
    if c.number("channels_last", 0):
        raise Refusal("channels_last")
    acc = c.op("reduce_mean", _codes(c, x, xs, xz), axes=list(range(2, len(x.shape))), keepdims=True)
    return requantize(c, acc, _result(c, ys, yz, x.dtype))


def qlinear_concat(c: OnnxContext, ys: Value, yz: Value, *operands: Value) -> Value:
    """Joined codes, each brought to the result's parameters first."""
    quant = _result(c, ys, yz)
    parts = []
    for i in range(0, len(operands), 3):
        part = _codes(c, *operands[i : i + 3])
        parts.append(part if part.quant == quant else requantize(c, part, quant))
    return c.op("concat", *parts, axis=c.axis(parts[0], c.number("axis")))


def on_reals(fn: Callable[[OnnxContext, Value], Value]) -> Converter:
    """A QLinear op whose function is computed on real numbers: (x, scale, zero, scale of y, zero of y)."""

    def convert(c: OnnxContext, x: Value, xs: Value, xz: Value | None, ys: Value, yz: Value | None = None) -> Value:
        y = fn(c, c.op("dequantize", _codes(c, x, xs, xz)))
        return c.op("quantize", y, quant=_result(c, ys, yz, x.dtype))

    return convert


def qlinear_mul(
    c: OnnxContext, a: Value, a_s: Value, az: Value | None, b: Value, bs: Value, bz: Value | None, ys: Value, yz: Value | None = None
) -> Value:
    """Product of codes, computed on real numbers."""
    real = [c.op("dequantize", v) for v in (_codes(c, a, a_s, az), _codes(c, b, bs, bz))]
    return c.op("quantize", c.op("mul", *real), quant=_result(c, ys, yz, a.dtype))


def _softmax(c: OnnxContext, x: Value) -> Value:
    return c.op("softmax", x, axis=c.axis(x, c.number("axis", -1)))


def q_attention(
    c: OnnxContext, x: Value, w: Value, bias: Value | None, xs: Value, ws: Value, mask: Value | None = None,
    xz: Value | None = None, wz: Value | None = None, past: Value | None = None,
) -> Value:  # fmt: skip
    """Self-attention whose packed projection [C, 3 H D] is a product of codes; the attention itself is real."""
    if past is not None or c.number("do_rotary", 0) or c.outputs > 1:
        raise Refusal("QAttention with a cache or rotary embedding")
    total = c.op("dequantize", product_of_codes(c, _codes(c, x, xs, xz), _codes(c, w, ws, wz, axis=1)))
    total = total if bias is None else c.op("add", total, bias)
    return packed_attention(c, total, (w.shape[1] // 3,) * 3, mask, None)


def qlinear_average(c: OnnxContext, x: Value) -> Value:
    """Average pooling of the real numbers."""
    if c.number("channels_last", 0):
        raise Refusal("channels_last")
    return pool.avg_pool(c, x)


def _reduced(c: OnnxContext, x: Value) -> Value:
    return c.op("reduce_mean", x, axes=[c.axis(x, a) for a in c.integers("axes")], keepdims=bool(c.number("keepdims", 1)))


_MICROSOFT: dict[str, Converter] = {
    "QAttention": q_attention, "QLinearAveragePool": on_reals(qlinear_average), "QLinearReduceMean": on_reals(_reduced),
    "QGemm": qgemm, "QLinearAdd": qlinear_add, "QLinearMul": qlinear_mul, "QLinearConv": qlinear_conv,
    "QLinearGlobalAveragePool": qlinear_mean, "QLinearConcat": qlinear_concat,
    "QuantizeLinear": quantize_linear, "DequantizeLinear": dequantize_linear,
    "QLinearSigmoid": on_reals(lambda c, x: c.op("sigmoid", x)),
    "QLinearLeakyRelu": on_reals(lambda c, x: c.op("leaky_relu", x, slope=c.number("alpha", 0.01))),
    "QLinearSoftmax": on_reals(_softmax),
}  # fmt: skip

CONVERTERS: dict[str, Converter] = {
    "QuantizeLinear": quantize_linear,
    "DequantizeLinear": dequantize_linear,
    "QLinearConv": qlinear_conv,
    "QLinearMatMul": qlinear_matmul,
    **{f"com.microsoft.{name}": convert for name, convert in _MICROSOFT.items()},
}
