"""Cases of pools, elementwise functions and movement."""

from __future__ import annotations

import numpy as np

from qcompiler.ir import DType, GraphBuilder, QuantParams, Value
from qcompiler.kernels.mcu import pack

from . import draw
from .case import Call, Case, code_quant, int8_quant, reference
from .layers import _nhwc, _rescale, _window


def max_pool(rng: draw.Rng, profile: str) -> Case:
    """Windows of any kind."""
    channels = int(rng.choice([1, 3, 4, 7, 16, 20]))
    window, pads = _window(rng, (channels, channels))
    bits = int(rng.choice([8, 16]))
    x = draw.wide_codes(rng, (1, channels, window.in_height, window.in_width), bits)

    def build(b: GraphBuilder, values: list[Value]) -> Value:
        return b.op(
            "max_pool", values[0], kernel=(window.kernel_height, window.kernel_width), pads=pads,
            strides=(window.stride_height, window.stride_width),
            dilations=(window.dilation_height, window.dilation_width),
        )  # fmt: skip

    y = reference(build, [(x, code_quant(bits))])
    return Case(f"max_pool_s{bits}", profile, _nhwc(y), lambda isa: Call(window.fields(), (_nhwc(x),)), {"window": window})


def avg_pool(rng: draw.Rng, profile: str) -> Case:
    """The whole image as one window: the reference's mean of codes."""
    channels = int(rng.choice([1, 3, 4, 7, 16, 20]))
    height, width = (int(v) for v in rng.integers(1, 12, 2))
    x = draw.codes(rng, (1, channels, height, width))
    zero, y_zero = draw.zero_point(rng), draw.zero_point(rng)
    low, high = draw.limits(rng, y_zero)
    m, s = draw.factors(rng, profile, 1 / (height * width), None)

    def build(b: GraphBuilder, values: list[Value]) -> Value:
        acc = b.op("reduce_mean", values[0], axes=(2, 3), keepdims=True)
        quant = int8_quant(y_zero)
        return b.op("requantize", acc, b.const(m), b.const(s), quant=quant, rounding=profile, qmin=low, qmax=high)

    y = reference(build, [(x, int8_quant(zero))])
    factor, shift = pack.pack_factor(int(m), int(s), profile)
    window = (height, width, channels, 1, 1, channels, height, width, 1, 1, 0, 0, 1, 1)
    scalars = (*window, factor, shift, zero, y_zero, low, high)
    return Case("avg_pool_s8", profile, _nhwc(y), lambda isa: Call(scalars, (_nhwc(x),)), {"window": window})


def requantize(rng: draw.Rng, profile: str) -> Case:
    """Codes to codes."""
    x = draw.codes(rng, (int(rng.integers(1, 60)),))
    zero, y_zero = draw.zero_point(rng), draw.zero_point(rng)
    low, high = draw.limits(rng, y_zero)
    m, s = draw.factors(rng, profile, 1.0, None)

    def build(b: GraphBuilder, values: list[Value]) -> Value:
        quant = int8_quant(y_zero)
        return b.op("requantize", values[0], b.const(m), b.const(s), quant=quant, rounding=profile, qmin=low, qmax=high)

    y = reference(build, [(x, int8_quant(zero))])
    factor, shift = pack.pack_factor(int(m), int(s), profile)
    scalars = (x.size, 0, factor, shift, zero, 0, y_zero, low, high)
    offset = int(rng.choice([-1, 0]))
    return Case("requantize_s8", profile, y, lambda isa: Call(scalars, (x,), 0, offset), {"m": int(m), "s": int(s)})


def requantize_s32(rng: draw.Rng, profile: str) -> Case:
    """Accumulators to codes, the largest included."""
    rows, channels = (int(v) for v in rng.integers(1, 20, 2))
    bound = (1 << int(rng.integers(1, 32))) - 1
    x = rng.integers(-bound - 1, bound, (rows, channels), endpoint=True).astype(np.int32)
    y_zero = draw.zero_point(rng)
    low, high = draw.limits(rng, y_zero)
    m, s = draw.factors(rng, profile, 100 / (bound + 1), channels)
    acc = QuantParams(DType.int32, np.full(channels, 0.01, np.float32), axis=1)

    def build(b: GraphBuilder, values: list[Value]) -> Value:
        quant = int8_quant(y_zero)
        return b.op("requantize", values[0], b.const(m), b.const(s), quant=quant, rounding=profile, qmin=low, qmax=high)

    y = reference(build, [(x, acc)])
    layer = pack.pack_rescale(np.zeros(channels, np.int64), m, s, profile, low, high)
    numbers, arrays = _rescale(layer, y_zero, low, high)
    return Case("requantize_s32_s8", profile, y, lambda isa: Call((rows, channels, *numbers), (x, *arrays)))


def pad(rng: draw.Rng, profile: str) -> Case:
    """An image and its frame."""
    height, width, channels = (int(v) for v in rng.integers(1, 9, 3))
    top, left, bottom, right = (int(v) for v in rng.integers(0, 4, 4))
    value = draw.zero_point(rng)
    x = draw.codes(rng, (height, width, channels))
    y = np.pad(x, ((top, bottom), (left, right), (0, 0)), constant_values=value)
    scalars = (height, width, channels, top, left, bottom, right, value)
    return Case("pad_s8", profile, y, lambda isa: Call(scalars, (x,)), {"scalars": scalars})


def copy(rng: draw.Rng, profile: str) -> Case:
    """Columns cut out of a matrix."""
    rows, columns = (int(v) for v in rng.integers(1, 40, 2))
    width = int(rng.integers(1, columns + 1))
    x = draw.codes(rng, (rows, columns))
    scalars = (rows, width, columns, width)
    return Case("copy", profile, np.ascontiguousarray(x[:, :width]), lambda isa: Call(scalars, (x,)))


def transpose(rng: draw.Rng, profile: str) -> Case:
    """Axes in any order, elements of 1, 2 and 4 bytes."""
    shape = tuple(int(v) for v in rng.integers(1, 8, 4))
    axes = tuple(int(v) for v in rng.permutation(4))
    dtype = [np.int8, np.int16, np.int32][int(rng.integers(3))]
    x = rng.integers(-128, 128, shape).astype(dtype)
    y = np.ascontiguousarray(x.transpose(axes))
    scalars = (*shape, *axes, x.itemsize)
    return Case("transpose", profile, y, lambda isa: Call(scalars, (x,)), {"shape": shape, "axes": axes})


def lookup(rng: draw.Rng, profile: str) -> Case:
    """Any table."""
    x, table = draw.codes(rng, (int(rng.integers(1, 80)),)), draw.codes(rng, (256,))
    offset = int(rng.choice([-1, 0]))
    return Case("lookup_s8", profile, table[x.astype(np.int64) + 128], lambda isa: Call((), (x, table), 0, offset))


def mul(rng: draw.Rng, profile: str) -> Case:
    """Two operands, the second sometimes repeated."""
    period = int(rng.integers(1, 40))
    rows = int(rng.choice([1, 1, 2, 5]))
    a, b = draw.codes(rng, (rows, period)), draw.codes(rng, (1, period))
    zeros, y_zero = (draw.zero_point(rng), draw.zero_point(rng)), draw.zero_point(rng)
    low, high = draw.limits(rng, y_zero)
    m, s = draw.factors(rng, profile, 1 / 74, None)
    product = (a.astype(np.int32) - zeros[0]) * (b.astype(np.int32) - zeros[1])

    def build(g: GraphBuilder, values: list[Value]) -> Value:
        quant = int8_quant(y_zero)
        return g.op("requantize", values[0], g.const(m), g.const(s), quant=quant, rounding=profile, qmin=low, qmax=high)

    y = reference(build, [(product.astype(np.int32), QuantParams(DType.int32, np.float32(0.01)))])
    factor, shift = pack.pack_factor(int(m), int(s), profile)
    scalars = (a.size, period, factor, shift, *zeros, y_zero, low, high)
    offset = int(rng.choice([-1, 0]))
    return Case("mul_s8", profile, y, lambda isa: Call(scalars, (a, b), 0, offset), {"zeros": zeros})
