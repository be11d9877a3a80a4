"""Cases of kernels that slide a window or multiply matrices."""

from __future__ import annotations

from typing import Any

import numpy as np

from qcompiler.ir import DType, GraphBuilder, QuantParams, Value
from qcompiler.kernels.mcu import layouts, overlap, pack, scratch
from qcompiler.kernels.mcu.geometry import Window

from . import draw
from .case import Call, Case, code_quant, int8_quant, reference, split_int64

INT32_MAX = (1 << 31) - 1
UNTOUCHED = 0x5A
"""Byte that the harness fills memory with before a call."""


def _size(rng: draw.Rng, in_size: int, pads: tuple[int, int], kernel: int, stride: int, dilation: int) -> int:
    return (in_size + sum(pads) - dilation * (kernel - 1) - 1) // stride + 1


def _window(rng: draw.Rng, channels: tuple[int, int]) -> tuple[Window, tuple[int, int, int, int]]:
    """A window with its pads (top, left, bottom, right)."""
    while True:
        kernel = [int(v) for v in rng.choice([1, 1, 2, 3, 3, 3, 5, 4], 2)]
        if rng.random() < 0.6:
            kernel[1] = kernel[0]
        stride = [int(v) for v in rng.choice([1, 1, 1, 2, 2, 3], 2)]
        dilation = [int(v) for v in rng.choice([1, 1, 1, 1, 2, 3], 2)]
        size = [int(v) for v in rng.integers(1, 13, 2)]
        reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        pads = [int(rng.integers(0, r + 1)) for r in (*reach, *reach)]
        if rng.random() < 0.3:
            pads = [0, 0, 0, 0]
        out = [_size(rng, size[i], (pads[i], pads[2 + i]), kernel[i], stride[i], dilation[i]) for i in range(2)]
        if min(out) >= 1:
            window = Window(
                size[0], size[1], channels[0], out[0], out[1], channels[1], kernel[0], kernel[1],
                stride[0], stride[1], pads[0], pads[1], dilation[0], dilation[1],
            )  # fmt: skip
            return window, (pads[0], pads[1], pads[2], pads[3])


def _weights(rng: draw.Rng, shape: tuple[int, ...], bits: int = 8) -> tuple[np.ndarray, QuantParams]:
    dtype = DType.int8 if bits == 8 else DType.int4
    return draw.codes(rng, shape, bits), QuantParams(dtype, np.full(shape[0], 0.01, np.float32), axis=0)


def _layer(
    rng: draw.Rng, weights: np.ndarray, zero: int, profile: str, per_channel: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bias int32 [C], multiplier and shift [C] or [] of a layer with weights [C, K]."""
    reach = 255 * np.abs(weights.astype(np.int64)).sum(1)
    values = draw.bias(rng, np.maximum(INT32_MAX - reach - 1, 0))
    typical = 100 / (1 + float(np.sqrt(weights.shape[1])) * 74 * 74)
    m, s = draw.factors(rng, profile, typical, weights.shape[0] if per_channel else None)
    return values, m, s


def _rescale(layer: pack.Rescale, zero: int, low: int, high: int) -> tuple[tuple[int, ...], tuple[np.ndarray, ...]]:
    multiplier = np.zeros(0, np.int32) if layer.multiplier is None else layer.multiplier
    return (zero, low, high, layer.flags), (layer.bias, multiplier, layer.shift)


def _product(
    op: str, x: np.ndarray, zero: int, w: np.ndarray, wq: QuantParams, layer: tuple[np.ndarray, np.ndarray, np.ndarray],
    out: dict[str, Any], **attrs: Any,
) -> np.ndarray:  # fmt: skip
    """The reference's codes of a product and its requantize."""

    def build(b: GraphBuilder, values: list[Value]) -> Value:
        acc = b.op(op, values[0], b.const(w, quant=wq), b.const(layer[0]), **attrs)
        return b.op("requantize", acc, b.const(layer[1]), b.const(layer[2]), **out)

    return reference(build, [(x, int8_quant(zero))])


def _nhwc(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(x, 1, -1))


def conv2d(rng: draw.Rng, profile: str, with_add: bool = False) -> Case:
    """Convolution: any window, groups, 8 and 4 bits, blocks of columns, output over input."""
    groups = int(rng.choice([1, 1, 1, 1, 2, 3]))
    ins, outs = (int(v) * groups for v in rng.choice([1, 2, 3, 4, 5, 8, 12, 16, 20], 2))
    window, pads = _window(rng, (ins, outs))
    bits = int(rng.choice([8, 8, 8, 4]))
    w, wq = _weights(rng, (outs, ins // groups, window.kernel_height, window.kernel_width), bits)
    ohwi = np.moveaxis(w, 1, -1).reshape(outs, -1)
    zero, y_zero = draw.zero_point(rng), draw.zero_point(rng)
    low, high = draw.limits(rng, y_zero)
    layer = _layer(rng, ohwi, zero, profile, bool(rng.random() < 0.8))
    x = draw.codes(rng, (1, ins, window.in_height, window.in_width))
    out = {"quant": int8_quant(y_zero), "rounding": profile, "qmin": low, "qmax": high}
    y = _product(
        "conv", x, zero, w, wq, layer, out, strides=(window.stride_height, window.stride_width), pads=pads,
        dilations=(window.dilation_height, window.dilation_width), groups=groups,
    )  # fmt: skip
    columns = int(rng.choice([1, 2, 3, 4, 6, 7]))
    residual = draw.codes(rng, y.shape) if with_add else None
    add = _add_parameters(rng, profile, y_zero) if with_add else None
    expected = y if add is None or residual is None else _added(y, y_zero, residual, add, profile)
    distance = overlap.conv2d_distance(window, groups, columns)
    over = distance is not None and bool(rng.random() < 0.4) and not with_add
    in_place = bool(rng.random() < 0.5)

    def call(isa: str) -> Call:
        folded = pack.fold_zero_point(layer[0], ohwi, zero)
        numbers, arrays = _rescale(pack.pack_rescale(folded, layer[1], layer[2], profile, low, high), y_zero, low, high)
        packed = layouts.pack_weights(ohwi, isa, groups, bits)
        scalars = (*window.fields(), *numbers, groups, zero, columns, bits)
        blobs: tuple[np.ndarray, ...] = (_nhwc(x), packed, *arrays)
        if add is not None and residual is not None:
            scalars += (*_add_scalars(add, profile, y_zero), int(in_place))
            blobs += (_nhwc(residual),)
        need = scratch.conv2d_s8(window, groups, columns, isa, with_add)
        return Call(scalars, blobs, need, distance if over and distance is not None else -1)

    about = {"window": window, "groups": groups, "bits": bits, "columns": columns, "limits": (low, high), "over": over}
    return Case("conv2d_add_s8" if with_add else "conv2d_s8", profile, _nhwc(expected), call, about)


def conv2d_add(rng: draw.Rng, profile: str) -> Case:
    """Convolution and add in one call."""
    return conv2d(rng, profile, with_add=True)


AddParameters = tuple[tuple[int, int], int, int, int, int, int]


def _add_parameters(rng: draw.Rng, profile: str, a_zero: int) -> AddParameters:
    """Multipliers, shift, zero point of b, of y, qmin, qmax."""
    zero, y_zero = draw.zero_point(rng), draw.zero_point(rng)
    low, high = draw.limits(rng, y_zero)
    if profile == "dyadic":
        shift = int(rng.integers(1, 63)) if rng.random() < 0.3 else int(rng.integers(24, 33))
        reach = min(31, shift + 1) if rng.random() < 0.7 else 31
        m = [int(rng.integers(1, 1 << reach)) * int(rng.choice([1, 1, 1, -1])) for _ in range(2)]
    else:
        shift = int(rng.integers(-31, 63)) if rng.random() < 0.3 else int(rng.integers(0, 6))
        m = [1 << int(rng.integers(0, 6)) for _ in range(2)]
    return (m[0], m[1]), shift, zero, y_zero, low, high


def _added(a: np.ndarray, a_zero: int, b: np.ndarray, add: AddParameters, profile: str) -> np.ndarray:
    multipliers, shift, b_zero, y_zero, low, high = add

    def build(g: GraphBuilder, values: list[Value]) -> Value:
        return g.op(
            "requantize_sum", *values, quant=int8_quant(y_zero), rounding=profile, qmin=low, qmax=high,
            multipliers=multipliers, shift=shift,
        )  # fmt: skip

    return reference(build, [(a, int8_quant(a_zero)), (b, int8_quant(b_zero))])


def _add_scalars(add: AddParameters, profile: str, a_zero: int) -> tuple[int, ...]:
    multipliers, shift, b_zero, y_zero, low, high = add
    packed = pack.pack_add(multipliers, shift, (a_zero, b_zero), profile)
    return (*split_int64(packed.offset), *packed.multipliers, packed.shift, y_zero, low, high)


def add(rng: draw.Rng, profile: str) -> Case:
    """Two operands, the second sometimes repeated; in place sometimes."""
    period = int(rng.integers(1, 40))
    count = period * int(rng.choice([1, 1, 2, 5]))
    a, b = draw.codes(rng, (count // period, period)), draw.codes(rng, (1, period))
    if count == period:
        a, b = a[0], b[0]
    a_zero = draw.zero_point(rng)
    parameters = _add_parameters(rng, profile, a_zero)
    offset = int(rng.choice([-1, 0]))
    scalars = (count, period, *_add_scalars(parameters, profile, a_zero))
    expected = _added(a, a_zero, b, parameters, profile)
    return Case("add_s8", profile, expected, lambda isa: Call(scalars, (a, b), 0, offset), {"parameters": parameters})


def depthwise_conv2d(rng: draw.Rng, profile: str) -> Case:
    """Depthwise convolution: any window, in place where allowed."""
    channels = int(rng.choice([1, 2, 3, 4, 5, 8, 15, 16, 17, 32]))
    window, pads = _window(rng, (channels, channels))
    w, wq = _weights(rng, (channels, 1, window.kernel_height, window.kernel_width))
    if rng.random() < 0.5:
        w = np.maximum(w, -127)
    zero, y_zero = draw.zero_point(rng), draw.zero_point(rng)
    low, high = draw.limits(rng, y_zero)
    flat = w.reshape(channels, -1)
    layer = _layer(rng, flat, zero, profile, bool(rng.random() < 0.8))
    x = draw.codes(rng, (1, channels, window.in_height, window.in_width))
    out = {"quant": int8_quant(y_zero), "rounding": profile, "qmin": low, "qmax": high}
    y = _product(
        "conv", x, zero, w, wq, layer, out, strides=(window.stride_height, window.stride_width), pads=pads,
        dilations=(window.dilation_height, window.dilation_width), groups=channels,
    )  # fmt: skip
    block, rows = int(rng.choice([1, 2, 4, 4, 8, 16, 64])), int(rng.choice([0, 1, 2, 3, 50]))
    offset = 0 if overlap.depthwise_in_place(window) and rng.random() < 0.5 else -1

    def call(isa: str) -> Call:
        folded = pack.fold_zero_point(layer[0], flat, zero)
        packed = pack.pack_rescale(folded, layer[1], layer[2], profile, low, high, flat)
        numbers, arrays = _rescale(packed, y_zero, low, high)
        scalars = (*window.fields(), *numbers, zero, block, rows)
        need = scratch.depthwise_conv2d_s8(window, block, isa, rows)
        return Call(scalars, (_nhwc(x), np.ascontiguousarray(flat.T), *arrays), need, offset)

    about = {"window": window, "block": (block, rows), "limits": (low, high), "in place": offset == 0}
    return Case("depthwise_conv2d_s8", profile, _nhwc(y), call, about)


def scale_channels(rng: draw.Rng, profile: str) -> Case:
    """A depthwise convolution whose window is one pixel, in place or not."""
    channels, rows = int(rng.choice([1, 2, 3, 4, 5, 8, 15, 17])), int(rng.integers(1, 13))
    w, wq = _weights(rng, (channels, 1, 1))
    zero, y_zero = draw.zero_point(rng), draw.zero_point(rng)
    low, high = draw.limits(rng, y_zero)
    flat = w.reshape(channels, 1)
    layer = _layer(rng, flat, zero, profile, bool(rng.random() < 0.8))
    x = draw.codes(rng, (1, channels, rows))
    out = {"quant": int8_quant(y_zero), "rounding": profile, "qmin": low, "qmax": high}
    y = _product("conv", x, zero, w, wq, layer, out, strides=(1,), pads=(0, 0), dilations=(1,), groups=channels)
    packed = pack.pack_rescale(pack.fold_zero_point(layer[0], flat, zero), layer[1], layer[2], profile, low, high, flat)
    numbers, arrays = _rescale(packed, y_zero, low, high)
    offset = 0 if rng.random() < 0.5 else -1
    call = Call((rows, channels, *numbers), (_nhwc(x), flat.reshape(-1), *arrays), 0, offset)
    return Case("scale_channels_s8", profile, _nhwc(y), lambda isa: call, {"rows": rows, "channels": channels, "in place": offset == 0})


def fully_connected(rng: draw.Rng, profile: str) -> Case:
    """Fully connected layers of one or more rows, 8 and 4 bits, 8- and 16-bit results."""
    rows = int(rng.choice([1, 1, 2, 3, 4, 5, 8]))
    ins, outs = (int(v) for v in rng.integers(1, 71, 2))
    bits = int(rng.choice([8, 8, 8, 4]))
    y_bits = int(rng.choice([8, 8, 16])) if bits == 8 else 8
    w, wq = _weights(rng, (outs, ins), bits)
    zero = draw.zero_point(rng)
    quant, low, high = _result(rng, y_bits)
    layer = _layer(rng, w, zero, profile, bool(rng.random() < 0.8))
    x = draw.codes(rng, (rows, ins))
    y = _product("linear", x, zero, w, wq, layer, {"quant": quant, "rounding": profile, "qmin": low, "qmax": high})
    columns = int(rng.choice([1, 2, 3, 4, 6, 7]))
    over = bool(rng.random() < 0.4)

    def call(isa: str) -> Call:
        folded = pack.fold_zero_point(layer[0], w, zero)
        packed = pack.pack_rescale(folded, layer[1], layer[2], profile, low, high)
        numbers, arrays = _rescale(packed, int(quant.zero_point), low, high)
        scalars = (rows, ins, outs, *numbers, columns, bits, y_bits)
        distance = overlap.fully_connected_distance(rows, ins, outs * y_bits // 8, columns if y_bits == 8 else 1)
        offset = distance if over else -1
        need = scratch.fully_connected_s8(rows, ins, columns, isa)
        return Call(scalars, (x, layouts.pack_weights(w, isa, 1, bits), *arrays), need, offset)

    about = {"rows": rows, "in": ins, "out": outs, "bits": (bits, y_bits), "columns": columns, "over": over}
    return Case("fully_connected_s8", profile, y, call, about)


def _result(rng: draw.Rng, bits: int) -> tuple[QuantParams, int, int]:
    """Parameters and limits of results of 8 or 16 bits."""
    if bits == 8:
        zero = draw.zero_point(rng)
        return int8_quant(zero), *draw.limits(rng, zero)
    zero = int(rng.choice([0, 0, rng.integers(-32768, 32768)]))
    return code_quant(16, zero), -32768, 32767 if rng.random() < 0.7 else int(rng.integers(-32768, 32768))


def matmul(rng: draw.Rng, profile: str) -> Case:
    """Products of two activations: rows that lie apart, the second operand stored either way."""
    m, k, n = (int(v) for v in rng.integers(1, 40, 3))
    zeros = draw.zero_point(rng), draw.zero_point(rng)
    y_bits = int(rng.choice([8, 8, 16]))
    quant, low, high = _result(rng, y_bits)
    a, b = draw.codes(rng, (m, k)), draw.codes(rng, (k, n))
    factor, shift = draw.factors(rng, profile, 100 / (1 + float(np.sqrt(k)) * 74 * 74), None)

    def build(g: GraphBuilder, values: list[Value]) -> Value:
        acc = g.op("matmul", *values)
        return g.op(
            "requantize", acc, g.const(factor), g.const(shift), quant=quant, rounding=profile, qmin=low, qmax=high
        )

    expected = reference(build, [(a, int8_quant(zeros[0])), (b, int8_quant(zeros[1]))])
    transposed = bool(rng.random() < 0.5)
    mult, packed = pack.pack_factor(int(factor), int(shift), profile)
    first, second, result = _apart(rng, a), _apart(rng, b.T if transposed else b), _apart(rng, expected)
    far = second.shape[1]
    strides = (first.shape[1], *((1, far) if transposed else (far, 1)), result.shape[1])
    scalars = (m, k, n, mult, packed, *zeros, int(quant.zero_point), low, high, y_bits, *strides)
    about = {"m": m, "k": k, "n": n, "zeros": zeros, "strides": strides, "bits": y_bits}
    return Case(
        "matmul_s8", profile, result, lambda isa: Call(scalars, (first, second), scratch.matmul_s8(m, k, n, isa)), about
    )


def _apart(rng: draw.Rng, x: np.ndarray) -> np.ndarray:
    """Rows with a gap between them, of the bytes that the harness fills results with."""
    gap = int(rng.choice([0, 0, 5, 12]))
    wide = np.full((x.shape[0], x.shape[1] + gap), UNTOUCHED if x.itemsize == 1 else 257 * UNTOUCHED, x.dtype)
    wide[:, : x.shape[1]] = x
    return wide
