"""Small networks, a target description and calibration data for the tests of quantization passes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from qcompiler.calibration import Samples, load_samples
from qcompiler.ir import DType, Graph, GraphBuilder, Value
from qcompiler.passes.base import Context, Pass, run_passes
from qcompiler.passes.quantize.assign_precision import AssignConfig, AssignPrecision
from qcompiler.passes.quantize.calibrate_activations import CalibrateActivations
from qcompiler.passes.quantize.lower_to_quantized import LowerToQuantized
from qcompiler.passes.quantize.plan import QuantPlan
from qcompiler.passes.rounding.round_nearest import RoundNearest
from qcompiler.recipe import Recipe, load_recipe


@dataclass(frozen=True)
class ToyKernel:
    activation: DType
    weight: DType | None
    name: str = "toy"
    note: str = ""


U8S8 = (ToyKernel(DType.uint8, DType.int8), ToyKernel(DType.int8, DType.int8))
CODES = (ToyKernel(DType.uint8, None), ToyKernel(DType.int8, None))
FOLLOWERS = ("requantize_sum", "reduce_mean", "concat", "reshape", "transpose", "slice", "max_pool", "pad", "flip", "expand")


@dataclass(frozen=True)
class ToyTarget:
    """What the passes ask of a target."""

    name: str = "toy"
    capabilities: frozenset[str] = frozenset({"accumulator_to_float", "dynamic_linear"})
    roundings: tuple[str, ...] = ("float32_half_even",)
    mult_bits: int = 31
    kernels: dict = field(
        default_factory=lambda: {**dict.fromkeys(("conv", "linear", "matmul"), U8S8), **dict.fromkeys(FOLLOWERS, CODES)}
    )

    def can(self, what: str) -> bool:
        return what in self.capabilities


class Layers(GraphBuilder):
    """A builder with random layers: `conv`, `linear`."""

    def __init__(self, name: str, seed: int = 0) -> None:
        super().__init__(name)
        self.rng = np.random.default_rng(seed)

    def random(self, *shape: int, scale: float = 1.0) -> np.ndarray:
        return (self.rng.standard_normal(shape) * scale).astype(np.float32)

    def conv(self, x: Value, out: int, kernel: int = 1, stride: int = 1, groups: int = 1, bias: bool = True, at: str = "") -> Value:
        channels = x.shape[1] // groups
        w = self.random(out, channels, kernel, kernel, scale=(channels * kernel * kernel) ** -0.5)
        b = self.const(self.random(out, scale=0.3), name="bias") if bias else None
        pad = kernel // 2
        self.origin = type(self.origin)(at or f"conv{len(self.nodes)}")
        return self.op(
            "conv", x, self.const(w, name="weight"), b, strides=(stride, stride), pads=(pad,) * 4, dilations=(1, 1), groups=groups
        )

    def linear(self, x: Value, out: int, bias: bool = True, at: str = "") -> Value:
        w = self.random(out, x.shape[-1], scale=x.shape[-1] ** -0.5)
        b = self.const(self.random(out, scale=0.3), name="bias") if bias else None
        self.origin = type(self.origin)(at or f"linear{len(self.nodes)}")
        return self.op("linear", x, self.const(w, name="weight"), b)


def mobile_network(seed: int = 0, size: int = 8) -> Graph:
    """Stem, one inverted residual block with ReLU6 and a linear bottleneck, global mean, classifier."""
    b = Layers("mobile", seed)
    x = b.input("image", DType.float32, (1, 3, size, size))
    x = b.op("clip", b.conv(x, 8, 3, 2, at="stem"), min=0.0, max=6.0)
    x = b.conv(x, 8, at="block.project0")
    y = b.op("clip", b.conv(x, 24, at="block.expand"), min=0.0, max=6.0)
    y = b.op("clip", b.conv(y, 24, 3, groups=24, at="block.depthwise"), min=0.0, max=6.0)
    y = b.conv(y, 8, bias=False, at="block.project")
    x = b.op("add", x, y)
    x = b.op("relu", b.conv(x, 16, at="head"))
    x = b.op("reshape", b.op("reduce_mean", x, axes=(2, 3), keepdims=True), shape=(1, 16))
    return b.build([b.linear(x, 10, at="classifier")])


def encoder_network(seed: int = 0, width: int = 16) -> Graph:
    """A transformer layer: norms, attention and gelu stay real, linears do not. Input [1, 5, width] and a mask."""
    b = Layers("encoder", seed)
    x = b.input("tokens", DType.float32, (1, 5, width))
    mask = b.input("mask", DType.float32, (1, 1, 1, 5))
    h = b.op("layer_norm", x, b.const(np.ones(width, np.float32)), None, eps=1e-5)
    parts = []
    for name in ("q", "k", "v"):
        y = b.op("reshape", b.linear(h, width, at=f"attention.{name}"), shape=(1, 5, 4, width // 4))
        parts.append(b.op("transpose", y, perm=(0, 2, 1, 3)))
    y = b.op("attention", *parts, mask)
    y = b.op("reshape", b.op("transpose", y, perm=(0, 2, 1, 3)), shape=(1, 5, width))
    x = b.op("add", x, b.linear(y, width, at="attention.output"))
    h = b.op("layer_norm", x, None, None, eps=1e-5)
    h = b.op("gelu", b.linear(h, 4 * width, at="mlp.up"))
    return b.build([b.op("add", x, b.linear(h, width, at="mlp.down"))])


def random_samples(graph: Graph, count: int = 8, seed: int = 1, scale: float = 1.0) -> Samples:
    """Normal inputs for a graph without symbols."""
    rng = np.random.default_rng(seed)
    return load_samples(
        [tuple((rng.standard_normal(v.shape) * scale).astype(v.dtype.numpy) for v in graph.inputs) for _ in range(count)], graph
    )


def context_for(graph: Graph, count: int = 8, target: ToyTarget | None = None, seed: int = 1) -> Context:
    return Context(target=target or ToyTarget(), samples=random_samples(graph, count, seed))


def recipe_with(**changes: object) -> Recipe:
    return load_recipe("w8a8").with_changes(changes)


def basic_passes(recipe: Recipe | None = None) -> list[Pass]:
    return [AssignPrecision(AssignConfig(recipe=recipe or load_recipe("w8a8"))), CalibrateActivations(), RoundNearest()]


def quantize(graph: Graph, context: Context, recipe: Recipe | None = None, extra: tuple[Pass, ...] = ()) -> Graph:
    """Assign, calibrate, round to nearest, `extra` passes, lower."""
    return run_passes(graph, [*basic_passes(recipe), *extra, LowerToQuantized()], context, verify_each=True)[0]


def plan_of(context: Context) -> QuantPlan:
    return context.tables["plan"]


def sqnr_db(reference: np.ndarray, other: np.ndarray) -> float:
    noise = np.square(reference.astype(np.float64) - other).sum()
    return float(10 * np.log10(np.square(reference.astype(np.float64)).sum() / noise))
