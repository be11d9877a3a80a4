"""Random programs of one op (and its rescale), for every family of kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from qcompiler.ir import DType, Graph, GraphBuilder, Level, QuantParams, Value

PROBABILITIES = QuantParams(DType.int8, 2.0**-8, -128)
POWERS = QuantParams(DType.int16, 2.0**-14, 0)


class Draw(GraphBuilder):
    """A builder that draws from a generator."""

    def __init__(self, name: str, rng: np.random.Generator) -> None:
        super().__init__(name, Level.INTEGER)
        self.rng = rng

    def number(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        return int(self.rng.integers(low, high, endpoint=True))

    def size(self, most: int) -> int:
        """A size: often a multiple of 16 or 4, else anything."""
        step = self.choose(16, 4, 1)
        return max(1, self.number(1, most) // step * step)

    def choose(self, *options: Any) -> Any:
        """One of the options."""
        return options[self.number(0, len(options) - 1)]

    def quant(self, dtype: DType = DType.int8) -> QuantParams:
        """Per-tensor parameters; int16 codes are symmetric but for some."""
        return QuantParams(dtype, 0.02, self.number(dtype.min, dtype.max) if dtype.bits == 8 else self.choose(0, 0, 0, self.number(-999, 999)))

    def operand(self) -> DType:
        """Of a product: codes of 8 bits, now and then of 16."""
        return self.choose(DType.int8, DType.int8, DType.int8, DType.uint8, DType.int16)

    def codes(self, *shape: int, dtype: DType = DType.int8) -> Value:
        """An input."""
        return self.input(f"{self.name}.x{len(self.inputs)}", dtype, shape, self.quant(dtype))

    def weights(self, *shape: int) -> Value:
        """Codes per channel or per tensor, some with zero points."""
        dtype = self.choose(DType.int8, DType.int8, DType.int4, DType.uint8)
        scale = self.rng.uniform(0.001, 0.01, shape[0] if self.number(0, 3) else ()).astype(np.float32)
        zero = np.zeros(scale.shape, np.int32)
        if not dtype.is_signed or self.number(0, 4) == 0:
            zero = self.rng.integers(dtype.min, dtype.max + 1, scale.shape).astype(np.int32)
        quant = QuantParams(dtype, scale, zero, 0 if scale.ndim else None)
        return self.const(self.rng.integers(max(dtype.min, -dtype.max), dtype.max + 1, shape), quant=quant, name="w")

    def bias(self, channels: int) -> Value | None:
        """int32, or none."""
        return self.const(self.rng.integers(-3000, 3000, channels).astype(np.int32)) if self.number(0, 3) else None

    def rescale(self, acc: Value, terms: int, spread: float = 90 * 70) -> Value:
        """A requantize in any profile, factors so that results fill their type and saturate now and then; or sums as they are."""
        assert acc.quant is not None
        if acc.dtype is DType.int32 and self.number(0, 9) == 0:
            return acc
        dtype = self.choose(DType.int8, DType.int8, DType.int16)
        rounding = self.choose("dyadic", "dyadic", "dyadic_double", "shift_half_even")
        channels = () if acc.quant.axis is None else (acc.shape[acc.quant.axis],)
        factor = 0.5 * dtype.max / (spread * terms**0.5)
        exponent = int(np.floor(-np.log2(factor)))
        if rounding == "shift_half_even":
            m, s = np.ones(channels, np.int64), max(exponent, 0) + self.rng.integers(0, 2, channels)
        else:
            m = self.rng.integers(1 << 30, (1 << 31) - 1, channels)
            s = 31 + exponent + self.rng.integers(0, 2, channels)
        low = self.choose(None, None, dtype.min // 2)
        return self.op(
            "requantize", acc, self.const(np.asarray(m, np.int64)), self.const(np.asarray(s, np.int64)),
            quant=self.quant(dtype), rounding=rounding, qmin=low,
        )  # fmt: skip


def followed(b: Draw, y: Value) -> Value:
    """What products compute in the same launch: a table, or the sum with a residual."""
    if y.dtype is DType.int32:
        return y
    form, out = b.choose("nothing", "lookup", "sum"), b.choose(DType.int8, DType.int16)
    if form == "lookup" and y.dtype is DType.int8:
        return b.op("lookup", y, b.const(b.rng.integers(out.min, out.max + 1, 256).astype(out.numpy), out), quant=b.quant(out))
    if form == "sum":
        xs = (b.codes(*y.shape, dtype=b.choose(DType.int8, DType.int16)), y)
        if b.number(0, 1):
            return b.op("requantize_sum", *xs, quant=b.quant(out), rounding="dyadic", multipliers=(3 << 18, -(1 << 20)), shift=21)
        return b.op("requantize_sum", *xs, quant=b.quant(out), rounding="shift_half_even", multipliers=(1, 2), shift=b.number(0, 3))
    return y


def linear(b: Draw) -> Value:
    """Few rows (dp4a) and many (tensor cores), in every width of loads."""
    rows = (b.number(1, 8),) if b.number(0, 3) == 0 else b.choose((b.size(200),), (b.number(1, 3), b.size(70)))
    n, k = b.size(200), b.size(300)
    x = b.codes(*rows, k, dtype=b.operand())
    return followed(b, b.rescale(b.op("linear", x, b.weights(n, k), b.bias(n)), k, spread(x)))


def spread(x: Value, other: float = 70) -> float:
    """How large products of two codes are; accumulators stay within int32 but for the largest ones, which wrap around."""
    return (90 if x.dtype.bits == 8 else 19000) * other


def conv(b: Draw) -> Value:
    """Groups, strides, pads, dilations over one to three axes."""
    rank = b.choose(1, 2, 2, 3)
    groups = b.choose(1, 1, 1, 2, 3)
    inner, out = b.size(40 if rank < 3 else 12), b.size(50 if rank < 3 else 12)
    kernel = tuple(b.number(1, 4) for _ in range(rank))
    dilations = tuple(b.number(1, 2) for _ in range(rank))
    size = tuple(b.number(k * d, 14 if rank < 3 else 8) for k, d in zip(kernel, dilations))
    x = b.codes(b.number(1, 2), inner * groups, *size, dtype=b.operand())
    pads = tuple(b.number(0, 2) for _ in range(2 * rank))
    acc = b.op(
        "conv", x, b.weights(out * groups, inner, *kernel), b.bias(out * groups),
        strides=tuple(b.number(1, 3) for _ in range(rank)), pads=pads, dilations=dilations, groups=groups,
    )  # fmt: skip
    return followed(b, b.rescale(acc, inner * int(np.prod(kernel)), spread(x)))


def depthwise(b: Draw) -> Value:
    """One filter per channel."""
    channels = b.size(50) + 1
    x = b.codes(b.number(1, 2), channels, b.number(3, 12), b.number(3, 12), dtype=b.operand())
    acc = b.op(
        "conv", x, b.weights(channels, 1, b.number(1, 3), b.number(1, 3)), b.bias(channels), strides=(b.number(1, 2),) * 2,
        pads=tuple(b.number(0, 2) for _ in range(4)), dilations=(1, 1), groups=channels,
    )  # fmt: skip
    return b.rescale(acc, 4, spread(x))


def matmul(b: Draw) -> Value:
    """Products of activations: batches, transposed operands, results in another order."""
    heads, m, k, n = b.number(1, 4), b.size(60), b.size(100), b.size(60)
    left, right = b.operand(), b.operand()
    if b.number(0, 1):
        x = b.op("transpose", b.codes(b.number(1, 2), m, heads, k, dtype=left), perm=(0, 2, 1, 3))
    else:
        x = b.codes(b.number(1, 2), heads, m, k, dtype=left)
    batch = int(x.shape[0])
    y = b.choose(
        lambda: b.codes(batch, heads, k, n, dtype=right),
        lambda: b.op("transpose", b.codes(batch, heads, n, k, dtype=right), perm=(0, 1, 3, 2)),
        lambda: b.codes(1, 1, k, n, dtype=right),
    )()
    result = b.rescale(b.op("matmul", x, y), k, spread(x, spread(y, 1)))
    return b.op("transpose", result, perm=(0, 2, 1, 3)) if b.number(0, 1) else result


def softmax(b: Draw) -> Value:
    """Three forms, with and without a mask."""
    dtype = b.choose(DType.int8, DType.int16)
    shape = (b.number(1, 3), b.number(1, 5), b.number(1, 70))
    x = b.codes(*shape, dtype=dtype)
    mask = b.input(f"{b.name}.mask", DType.bool, (shape[0], 1, shape[2])) if b.number(0, 1) else None
    table = b.const(np.array([round(32767 * float(np.exp(-i / 16))) for i in range(b.number(2, 178))], np.int16))
    form = b.choose("softmax_lookup", "log2_softmax", "shiftmax", "shiftmax")
    if form == "shiftmax":
        division = b.choose("round", "reciprocal")
        quant = PROBABILITIES if division == "round" else QuantParams(DType.int8, 1 / 128, 0)
        return b.op("shiftmax", x, mask, quant=quant, unit=b.number(1, 300), bits=b.number(8, 15), division=division)
    return b.op(form, x, table, mask, quant=POWERS if form == "log2_softmax" else PROBABILITIES)


def normalization(b: Draw) -> Value:
    """Layer and RMS normalization."""
    dtype, length = b.choose(DType.int8, DType.int16), b.number(2, 130)
    x = b.codes(b.number(1, 6), b.number(1, 3), length, dtype=dtype)
    weight = b.const(b.rng.integers(-(1 << 29), 1 << 29, length).astype(np.int32))
    attrs = {"quant": b.quant(b.choose(DType.int8, DType.int16)), "eps": b.number(1, 50), "fraction": b.choose(0, 4), "shift": 54}
    if b.number(0, 1):
        return b.op("integer_rms_norm", x, weight, **attrs)
    bias = b.const(b.rng.integers(-(1 << 50), 1 << 50, length)) if b.number(0, 1) else None
    return b.op("integer_layer_norm", x, weight, bias, **attrs)


def table(b: Draw) -> Value:
    """Tables of 256 entries and interpolated ones."""
    shape = (b.number(1, 5), b.number(1, 90))
    out = b.choose(DType.int8, DType.int16)
    if b.number(0, 1):
        entries = b.rng.integers(out.min, out.max + 1, 256).astype(out.numpy)
        return b.op("lookup", b.codes(*shape), b.const(entries, out), quant=b.quant(out))
    knots = b.const(b.rng.integers(-(1 << 15), 1 << 15, 257).astype(np.int16))
    shift = b.number(8, 11) if out is DType.int16 else b.number(12, 16)
    return b.op("lookup_interpolated", b.codes(*shape, dtype=DType.int16), knots, quant=b.quant(out), shift=shift)


def elementwise(b: Draw) -> Value:
    """Sums, products and rescales of codes, broadcast and in other orders of axes."""
    shape = (b.number(1, 3), b.number(1, 9), b.number(1, 40))
    x = b.codes(*shape, dtype=b.choose(DType.int8, DType.int16))
    if b.number(0, 1):
        x = b.op("transpose", x, perm=(0, 2, 1))
    form = b.choose("sum", "sum", "mul", "requantize", "sigmoid")
    if form == "requantize":
        return b.rescale(x, 1, 70 if x.dtype is DType.int8 else 20000)
    if form == "sigmoid":
        gate, kind = b.number(6, 10), b.choose("sigmoid", "tanh", "gated")
        acc = b.op("shift_sigmoid", x, unit=b.number(1, 200), bits=b.number(8, 15), gate_bits=gate, form=kind)
        return b.rescale(acc, 1, float(1 << (gate + (6 if kind == "gated" else 0))))
    other = tuple(int(d) if b.number(0, 2) else 1 for d in x.shape)
    y = b.codes(*other, dtype=x.dtype)
    if form == "mul":
        return b.rescale(b.op("integer_mul", x, y), 1, 90 * 90 if x.dtype is DType.int8 else 2.0**28)
    xs = [x, y] + ([b.codes(*x.shape)] if b.number(0, 1) else [])
    shift = 20 if x.dtype is DType.int8 else 28
    if b.number(0, 1):
        factors = tuple(b.choose(-1, 1) * b.number(1 << 17, 1 << 20) for _ in xs)
        return b.op("requantize_sum", *xs, quant=b.quant(), rounding="dyadic", multipliers=factors, shift=shift)
    return b.op("requantize_sum", *xs, quant=b.quant(), rounding="shift_half_even", multipliers=(1, 2, 1)[: len(xs)], shift=b.number(0, 4))


def movement(b: Draw) -> Value:
    """Chains of what only moves data, then pools and sums over axes."""
    x = b.codes(b.number(1, 2), b.number(2, 12), b.number(4, 9), b.number(4, 9))
    for _ in range(b.number(1, 3)):
        step = b.choose("transpose", "slice", "pad", "border", "concat", "flip", "resize")
        if step == "transpose":
            x = b.op("transpose", x, perm=b.choose((0, 1, 3, 2), (0, 2, 3, 1), (0, 3, 1, 2)))
        elif step == "slice":
            axis = b.number(1, 3)
            x = b.op("slice", x, axis=axis, start=b.number(0, 1), stop=max(2, int(x.shape[axis]) - b.number(0, 1)), step=b.number(1, 2))
        elif step == "pad":
            x = b.op("pad", x, pads=(0, 0, b.number(0, 2), b.number(0, 2), 0, 0, b.number(0, 2), b.number(-1, 2)), value=0.0)
        elif step == "border":
            pads = (0, 0, b.number(-1, 2), b.number(0, 2), 0, 0, b.number(0, 1), b.number(0, 2))
            mode = b.choose("edge", "reflect")
            near = all(max(pads[i], pads[4 + i]) < int(x.shape[i]) + min(0, pads[i]) for i in (2, 3))
            x = b.op("pad", x, pads=pads, mode=mode if near else "edge")
        elif step == "concat":
            x = b.op("concat", x, b.op("flip", x, axes=(2,)), axis=b.number(1, 3))
        elif step == "flip":
            x = b.op("flip", x, axes=(b.number(1, 3),))
        else:
            x = b.op("resize", x, size=(b.number(2, 12), b.number(2, 12)))
    last = b.choose("max_pool", "max_pool_3d", "mean", "reshape", "gather")
    if last == "max_pool_3d":
        x = b.op("reshape", x, shape=(1, *x.shape))
        kernel = tuple(min(b.number(1, 3), int(d)) for d in x.shape[2:])
        return b.op("max_pool", x, kernel=kernel, strides=tuple(b.number(1, 2) for _ in kernel), pads=(0,) * 6)
    if last == "max_pool":
        kernel = tuple(min(b.number(1, 3), int(d)) for d in x.shape[2:])
        pads = tuple(min(b.number(0, 1), k // 2) for k in kernel) * 2
        return b.op("max_pool", x, kernel=kernel, strides=(b.number(1, 2), b.number(1, 2)), pads=pads)
    if last == "mean":
        axes = b.choose((2, 3), (1,), (1, 3), (0, 1, 2, 3))
        acc = b.op("reduce_mean", x, axes=axes, keepdims=bool(b.number(0, 1)))
        return b.rescale(acc, int(np.prod([x.shape[a] for a in axes])), 70)
    if last == "gather":
        axis = b.number(1, 3)
        size = int(x.shape[axis])
        return b.op("gather", x, b.const(b.rng.integers(-size, size, (2, 3))), axis=axis)
    return b.op("reshape", x, shape=(int(x.shape[0]), int(np.prod(x.shape[1:]))))


FAMILIES: dict[str, Callable[[Draw], Value]] = {
    "linear": linear,
    "conv": conv,
    "depthwise": depthwise,
    "matmul": matmul,
    "softmax": softmax,
    "normalization": normalization,
    "table": table,
    "elementwise": elementwise,
    "movement": movement,
}


def draw_graph(family: str, seed: int) -> tuple[Graph, list[np.ndarray]]:
    """A program of a family and inputs for it."""
    rng = np.random.default_rng([seed, *family.encode()])
    b = Draw(f"{family}-{seed}", rng)
    result = FAMILIES[family](b)
    arrays = [
        rng.integers(0, 2, v.shape).astype(bool) if v.dtype is DType.bool
        else rng.integers(v.dtype.min, v.dtype.max + 1, v.shape, np.int64).astype(v.dtype.numpy)
        for v in b.inputs
    ]  # fmt: skip
    return b.build([result]), arrays
