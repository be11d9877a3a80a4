"""Converters of dynamic quantization: codes made from a tensor's own range, and products of such codes.

Exporters spell one layer as DynamicQuantizeLinear -> MatMulInteger -> Cast -> Mul (by the product of both scales).
The values on this way are remembered, and where the last multiplication closes it, the whole is one
`dynamic_linear`. Read in any other way the ops are computed by their definitions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from ....ir import DType, Value
from ..context import OnnxContext, Refusal
from ..quant_params import read_params, with_params
from . import elementwise, linear
from .linear import kernel_of, window
from .quantized import product_of_codes

Converter = Callable[..., Any]

EXACT_FLOAT32 = 1 << 24
"""Integers below this bound are exact in float32, which more runtimes convolve in."""


@dataclass(frozen=True)
class _Codes:
    """Codes of x, or their scale."""

    x: Value


@dataclass(frozen=True)
class _Scales:
    """The scale of x's codes times a constant scale of a weight."""

    x: Value
    scale: Value


@dataclass(frozen=True)
class _Product:
    """Integer product of x's codes and constant codes."""

    x: Value
    weight: Value
    zero: Value | None


def dynamic_quantize(c: OnnxContext, x: Value) -> list[Value]:
    """uint8 codes, scale and zero point of a tensor, from its own range with 0 in it."""
    zero = c.scalar(0, x.dtype)
    axes = list(range(len(x.shape)))
    low = c.op("minimum", c.op("reduce_min", x, axes=axes), zero) if axes else c.op("minimum", x, zero)
    high = c.op("maximum", c.op("reduce_max", x, axes=axes), zero) if axes else c.op("maximum", x, zero)
    scale = c.op("div", c.op("sub", high, low), c.scalar(255, x.dtype))
    point = c.op("clip", c.op("round", c.op("div", c.op("neg", low), scale)), min=0.0, max=255.0)
    codes = c.op("clip", c.op("add", c.op("round", c.op("div", x, scale)), point), min=0.0, max=255.0)
    results = [c.cast(codes, DType.uint8), scale, c.cast(point, DType.uint8)]
    c.dynamic.update(dict.fromkeys(results[:2], _Codes(x)))
    return results


def _centred(c: OnnxContext, x: Value, zero: Value | None, axis: int, dtype: DType = DType.float64) -> Value:
    """Codes minus zero point as floats in which sums of their products are exact."""
    wide = c.cast(x, dtype)
    if zero is None:
        return wide
    point = c.cast(zero, dtype)
    if len(point.shape) == 1 and point.shape[0] != 1:
        point = c.reshape(point, [point.shape[0] if i == axis % len(x.shape) else 1 for i in range(len(x.shape))])
    return c.op("sub", wide, point)


def matmul_integer(c: OnnxContext, a: Value, b: Value, az: Value | None = None, bz: Value | None = None) -> Value:
    """int32 product of codes."""
    rows = -2 if len(a.shape) > 1 else -1
    total = linear.matmul(c, _centred(c, a, az, rows), _centred(c, b, bz, -1))
    acc = c.cast(total, DType.int32)
    found = c.dynamic.get(a)
    if isinstance(found, _Codes) and b.data is not None and len(b.shape) == 2:
        c.dynamic[acc] = _Product(found.x, b, bz)
    return acc


def conv_integer(c: OnnxContext, x: Value, w: Value, xz: Value | None = None, wz: Value | None = None) -> Value:
    """int32 convolution of codes; padding adds the zero point, which is 0 once centred."""
    terms = prod(kernel_of(c, w)) * int(w.shape[1])
    dtype = DType.float32 if terms * 255 * 255 < EXACT_FLOAT32 else DType.float64
    codes, weight = _centred(c, x, xz, 1, dtype), _centred(c, w, wz, 0, dtype)
    total = c.op("conv", codes, weight, None, groups=c.number("group", 1), **window(c, x, kernel_of(c, w)))
    return c.cast(total, DType.int32)


def cast(c: OnnxContext, x: Value) -> Value:
    """Cast, which the integer product passes on its way."""
    y = elementwise.cast(c, x)
    if x in c.dynamic and y.dtype is DType.float32 and isinstance(c.dynamic[x], _Product):
        c.dynamic[y] = c.dynamic[x]
    return y


def mul(c: OnnxContext, a: Value, b: Value) -> Value:
    """Mul; of an integer product and its scales, a dynamically quantized layer."""
    for left, right in ((a, b), (b, a)):
        found, other = c.dynamic.get(left), c.dynamic.get(right)
        if isinstance(found, _Codes) and right.data is not None and left.dtype is DType.float32:
            y = elementwise.binary("mul")(c, a, b)
            c.dynamic[y] = _Scales(found.x, right)
            return y
        if isinstance(found, _Product) and isinstance(other, _Scales) and found.x is other.x:
            return dynamic_linear(c, found.x, found.weight, other.scale, found.zero)
    return elementwise.binary("mul")(c, a, b)


def dynamic_linear(c: OnnxContext, x: Value, b: Value, scale: Value, zero: Value | None, bias: Value | None = None) -> Value:
    """Linear layer with a weight [K, N] of codes, per tensor or per column."""
    if b.data is None or len(b.shape) != 2:
        raise Refusal("a weight that is no constant matrix")
    quant = read_params(c, scale, zero, b.dtype, b.shape, 1)
    quant = quant if quant.axis is None else quant.with_axis(0)
    key = (b, quant)
    if key not in c.coded:
        c.coded[key] = c.builder.const(np.ascontiguousarray(b.data.T), b.dtype, quant, b.name)
    return c.op("dynamic_linear", x, c.coded[key], bias, granularity="tensor")


def dynamic_quantize_matmul(
    c: OnnxContext, a: Value, b: Value, scale: Value, zero: Value | None = None, bias: Value | None = None
) -> Value:
    """DynamicQuantizeLinear and the product in one op."""
    return dynamic_linear(c, a, b, scale, zero, bias)


def matmul_integer_to_float(
    c: OnnxContext, a: Value, b: Value, a_s: Value, bs: Value, az: Value | None = None, bz: Value | None = None,
    bias: Value | None = None,
) -> Value:  # fmt: skip
    """Integer product times both scales, plus a real bias."""
    found = c.dynamic.get(a)
    if isinstance(found, _Codes):
        return dynamic_linear(c, found.x, b, bs, bz, bias)
    left = with_params(c, a, read_params(c, a_s, az, a.dtype, a.shape, 0))
    right = with_params(c, b, read_params(c, bs, bz, b.dtype, b.shape, -1))
    y = c.op("dequantize", product_of_codes(c, left, right))
    return y if bias is None else c.op("add", y, bias)


CONVERTERS: dict[str, Converter] = {
    "DynamicQuantizeLinear": dynamic_quantize,
    "MatMulInteger": matmul_integer,
    "ConvInteger": conv_integer,
    "Cast": cast,
    "Mul": mul,
    "com.microsoft.DynamicQuantizeMatMul": dynamic_quantize_matmul,
    "com.microsoft.MatMulIntegerToFloat": matmul_integer_to_float,
}
