"""Small programs of level INTEGER with the parts that microcontroller targets fuse and lay out."""

from __future__ import annotations

import numpy as np

from qcompiler.ir import DType, Graph, GraphBuilder, Level, Origin, QuantParams, Value, verify_graph


def int8(scale: float, zero_point: int = 0) -> QuantParams:
    """Parameters of int8 codes, per tensor."""
    return QuantParams(DType.int8, np.float32(scale), np.int32(zero_point))


class IntegerLayers(GraphBuilder):
    """A builder with random integer layers; every layer fills the range of its codes, and saturates now and then."""

    def __init__(self, name: str, seed: int = 0, rounding: str = "dyadic") -> None:
        super().__init__(name, Level.INTEGER)
        self.rng = np.random.default_rng(seed)
        self.rounding = rounding

    def codes(self, name: str, *shape: int, zero_point: int = -3) -> Value:
        """A graph input."""
        return self.input(name, DType.int8, shape, int8(0.02, zero_point))

    def weights(self, *shape: int, bits: int = 8) -> Value:
        """Symmetric codes with a scale per output channel."""
        dtype = DType[f"int{bits}"]
        scale = self.rng.uniform(0.001, 0.01, shape[0]).astype(np.float32)
        quant = QuantParams(dtype, scale, np.zeros(shape[0], np.int32), 0)
        return self.const(self.rng.integers(-dtype.max, dtype.max + 1, shape), quant=quant, name="weight")

    def bias(self, channels: int) -> Value:
        """int32 in the accumulator's scale."""
        return self.const(self.rng.integers(-3000, 3000, channels).astype(np.int32), name="bias")

    def rescale(self, acc: Value, terms: int, zero_point: int = 0, relu: bool = False, peak: int = 127) -> Value:
        """int8 codes of the accumulators of `terms` products of codes up to 127 and weights up to `peak`."""
        assert acc.quant is not None
        channels = () if acc.quant.axis is None else (acc.shape[acc.quant.axis],)
        factor = 60 / (70 * peak / 2 * terms**0.5)
        shift = 31 - int(np.floor(np.log2(factor)))
        if self.rounding == "dyadic":
            m = self.rng.integers(1 << 30, (1 << 31) - 1, channels)
            s = shift + self.rng.integers(0, 2, channels)
        else:
            m, s = np.ones(channels, np.int64), shift - 31 + self.rng.integers(0, 2, channels)
        return self.op(
            "requantize", acc, self.const(np.asarray(m, np.int64)), self.const(np.asarray(s, np.int64)),
            quant=int8(0.05, zero_point), rounding=self.rounding, qmin=zero_point if relu else None,
        )  # fmt: skip

    def conv(
        self, x: Value, out: int, kernel: int = 3, stride: int = 1, groups: int = 1, zero_point: int = 0,
        relu: bool = False, at: str = "", bits: int = 8,
    ) -> Value:  # fmt: skip
        """Convolution, bias, rescale."""
        self.origin = Origin(at or f"conv{len(self.nodes)}")
        inner = int(x.shape[1]) // groups
        spatial = len(x.shape) - 2
        w = self.weights(out, inner, *[kernel] * spatial, bits=bits)
        acc = self.op(
            "conv", x, w, self.bias(out), strides=(stride,) * spatial, pads=(kernel // 2,) * (2 * spatial),
            dilations=(1,) * spatial, groups=groups,
        )  # fmt: skip
        return self.rescale(acc, inner * kernel**spatial, zero_point, relu, w.dtype.max)

    def linear(self, x: Value, out: int, zero_point: int = 0, at: str = "", bits: int = 8) -> Value:
        """Linear layer, bias, rescale."""
        self.origin = Origin(at or f"linear{len(self.nodes)}")
        w = self.weights(out, int(x.shape[-1]), bits=bits)
        return self.rescale(self.op("linear", x, w, self.bias(out)), int(x.shape[-1]), zero_point, peak=w.dtype.max)

    def add(self, a: Value, b: Value, zero_point: int = 0, relu: bool = False) -> Value:
        """Residual sum with two scales."""
        self.origin = Origin(f"add{len(self.nodes)}")
        multipliers = (3 << 18, 1 << 20) if self.rounding == "dyadic" else (1, 2)
        return self.op(
            "requantize_sum", a, b, quant=int8(0.06, zero_point), rounding=self.rounding, multipliers=multipliers,
            shift=20 if self.rounding == "dyadic" else 1, qmin=zero_point if relu else None,
        )  # fmt: skip

    def mean(self, x: Value, axes: tuple[int, ...] = (2, 3), keepdims: bool = False) -> Value:
        """Average, rescaled."""
        self.origin = Origin(f"mean{len(self.nodes)}")
        acc = self.op("reduce_mean", x, axes=axes, keepdims=keepdims)
        return self.rescale(acc, int(np.prod([x.shape[a] for a in axes])), -20, peak=3)

    def graph(self, *outputs: Value, names: tuple[str, ...] | None = None) -> Graph:
        """The verified program."""
        graph = self.build(outputs, names or tuple(f"output{i}" for i in range(len(outputs))))
        verify_graph(graph)
        return graph


def residual_network(seed: int = 0, rounding: str = "dyadic", size: int = 12) -> Graph:
    """Stem, a residual block, a shortcut by convolution, depthwise and pointwise, mean, classifier."""
    b = IntegerLayers("residual", seed, rounding)
    x = b.conv(b.codes("image", 1, 3, size, size), 8, zero_point=-128, relu=True, at="stem")
    y = b.conv(x, 8, zero_point=4, relu=True, at="block1.conv1")
    x = b.add(x, b.conv(y, 8, zero_point=7, at="block1.conv2"), -10, relu=True)
    y = b.conv(b.conv(x, 12, stride=2, relu=True, at="block2.conv1"), 12, at="block2.conv2")
    x = b.add(y, b.conv(x, 12, 1, 2, at="block2.shortcut"), 5)
    x = b.conv(b.conv(x, 12, groups=12, zero_point=-5, at="depthwise"), 20, 1, zero_point=-128, relu=True, at="pointwise")
    return b.graph(b.linear(b.mean(x), 10, 3, at="head"), names=("logits",))


def random_codes(graph: Graph, seed: int = 0) -> list[np.ndarray]:
    """Inputs over the whole range of their types."""
    rng = np.random.default_rng(seed)
    ends = [(0, 1) if v.dtype is DType.bool else (v.dtype.min, v.dtype.max) for v in graph.inputs]
    return [
        rng.integers(low, high, v.shape, np.int64, endpoint=True).astype(v.dtype.numpy)
        for v, (low, high) in zip(graph.inputs, ends, strict=True)
    ]
