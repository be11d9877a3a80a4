"""Products that the benches of CPU kernels measure, as programs of one layer and its rescale.

Tiles of the products in `FITTED` were looked at while the rule for tiles was made; those in `HELD_OUT` were not. Small
weights are of forms of their own on CPUs without VNNI; on others `distinct` leaves them out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from qcompiler.ir import DType, Graph, GraphBuilder, Level, QuantParams, Value
from qcompiler.kernels.cpu.isa import Isa

SUMS = ", sums of "
"""Marks products whose weights are so small that the products of so many neighbours add up in 16 bits."""
PEAKS = {"": 127, "2": 64, "4": 32, "8": 16}
"""Largest weight by that mark: 2 x 64 x 255, and so on, fit 16 bits."""


def distinct(names: Iterable[str], isa: Isa) -> list[str]:
    """Names without those whose weights are small, where an instruction set has no forms for these."""
    return [name for name in names if isa.short or SUMS not in name]


def linear(m: int, k: int, n: int, peak: int = 127) -> Graph:
    """uint8 codes [m, k], int8 weights [n, k] up to `peak`."""
    b, rng = GraphBuilder("product", Level.INTEGER), np.random.default_rng(0)
    x = b.input("x", DType.uint8, (m, k), QuantParams(DType.uint8, 0.02, 128))
    return _rescaled(b, b.op("linear", x, _weights(b, rng, n, k, peak=peak), b.const(np.zeros(n, np.int32))), rng, n)


def conv(channels: int, size: int, out: int, kernel: int, stride: int = 1, peak: int = 127) -> Graph:
    """A square image, padded so that its size stays; int8 weights up to `peak`.

    It is the result of another kernel, so that its channels lie side by side, as inside of a network.
    """
    b, rng = GraphBuilder("product", Level.INTEGER), np.random.default_rng(0)
    x = b.input("x", DType.int8, (1, channels, size, size), QuantParams(DType.int8, 0.02, -3))
    x = b.op("max_pool", x, kernel=(1, 1), strides=(1, 1), pads=(0,) * 4, dilations=(1, 1))
    pad = kernel // 2
    acc = b.op(
        "conv", x, _weights(b, rng, out, channels, kernel, kernel, peak=peak), b.const(np.zeros(out, np.int32)),
        strides=(stride, stride), pads=(pad,) * 4, dilations=(1, 1), groups=1,
    )  # fmt: skip
    return _rescaled(b, acc, rng, out)


def matmul(batch: int, m: int, k: int, n: int) -> Graph:
    """Two computed operands, as in attention."""
    b, rng = GraphBuilder("product", Level.INTEGER), np.random.default_rng(0)
    x = b.input("x", DType.int8, (batch, m, k), QuantParams(DType.int8, 0.02, 0))
    y = b.input("y", DType.int8, (batch, k, n), QuantParams(DType.int8, 0.02, 0))
    return _rescaled(b, b.op("matmul", x, y), rng, None)


def _weights(b: GraphBuilder, rng: np.random.Generator, n: int, *shape: int, peak: int = 127) -> Value:
    quant = QuantParams(DType.int8, np.full(n, 0.01, np.float32), np.zeros(n, np.int32), 0)
    return b.const(rng.integers(-peak, peak + 1, (n, *shape)).astype(np.int8), quant=quant)


def _rescaled(b: GraphBuilder, acc: Value, rng: np.random.Generator, n: int | None) -> Graph:
    channels = () if n is None else (n,)
    m, s = np.asarray(rng.integers(1 << 30, (1 << 31) - 1, channels)), np.full(channels, 40, np.int64)
    out = QuantParams(DType.uint8, 0.05, 128)
    return b.build([b.op("requantize", acc, b.const(m), b.const(s), quant=out, rounding="dyadic")])


FITTED: dict[str, Callable[[], Graph]] = {
    "MiniLM query": lambda: linear(128, 384, 384),
    "ResNet-8, 64 channels": lambda: conv(64, 8, 64, 3),
    "EfficientNet, 16 to 96": lambda: conv(16, 112, 96, 1),
    "MiniLM down": lambda: linear(128, 1536, 384),
    "MiniLM query, sums of 2": lambda: linear(128, 384, 384, PEAKS["2"]),
    "MiniLM down, sums of 4": lambda: linear(128, 1536, 384, PEAKS["4"]),
    "MiniLM down, sums of 8": lambda: linear(128, 1536, 384, PEAKS["8"]),
}
HELD_OUT: dict[str, Callable[[], Graph]] = {
    "one row": lambda: linear(1, 384, 1536),
    "attention scores": lambda: matmul(12, 128, 32, 128),
    "attention values": lambda: matmul(12, 128, 128, 32),
    "ResNet-8, 16 channels": lambda: conv(16, 32, 16, 3),
    "EfficientNet, 144 to 40": lambda: conv(144, 28, 40, 1),
    "EfficientNet, 480 to 112": lambda: conv(480, 14, 112, 1),
    "DS-CNN, 64 to 64": lambda: conv(64, 11, 64, 1),
    "one row, sums of 2": lambda: linear(1, 384, 1536, PEAKS["2"]),
    "ResNet-8, 16 channels, sums of 2": lambda: conv(16, 32, 16, 3, peak=PEAKS["2"]),
    "EfficientNet, 144 to 40, sums of 2": lambda: conv(144, 28, 40, 1, peak=PEAKS["2"]),
    "EfficientNet, 480 to 112, sums of 2": lambda: conv(480, 14, 112, 1, peak=PEAKS["2"]),
    "EfficientNet, 480 to 112, sums of 4": lambda: conv(480, 14, 112, 1, peak=PEAKS["4"]),
}
PRODUCTS = {**FITTED, **HELD_OUT}
