"""Layers written with ops that have an integer form: equal, refused with a reason, and compiled."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import qcompiler as qc
from qcompiler.executors.reference import run_reference
from qcompiler.frontend import capture
from qcompiler.ir import DType, Graph, GraphBuilder, verify_graph
from qcompiler.ir.dims import parse
from qcompiler.passes.base import Context, run_passes
from qcompiler.passes.canonicalize import canonicalize_passes
from qcompiler.passes.transform.spell_for_integers import SpellForIntegers
from qcompiler.targets import get_target
from support.tools import requires_tool

CONTEXT = Context(target=get_target("onnx"))


class Layer(nn.Module):
    """A function of an input, with the layers it calls."""

    def __init__(self, function: Callable[..., torch.Tensor], *layers: nn.Module) -> None:
        super().__init__()
        self.function, self.layers = function, nn.ModuleList(layers)
        for parameter in self.parameters():
            nn.init.normal_(parameter)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x, *self.layers)


def apply(x: torch.Tensor, layer: nn.Module) -> torch.Tensor:
    return layer(x)


def resized(size: tuple[int, int], mode: str = "bilinear", corners: bool | None = False) -> Layer:
    return Layer(lambda x: functional.interpolate(x, size=size, mode=mode, align_corners=corners))


def pooled(kernel: int, stride: int, padding: int, ceil: bool, count: bool) -> Layer:
    return Layer(lambda x: functional.avg_pool2d(x, kernel, stride, padding, ceil, count))


CASES: dict[str, tuple[Layer, tuple[int, ...], set[str]]] = {
    "group norm": (Layer(apply, nn.GroupNorm(2, 6)), (2, 6, 5, 4), {"reshape", "layer_norm", "conv"}),
    "group norm of a signal": (Layer(apply, nn.GroupNorm(3, 6)), (2, 6, 7), {"reshape", "layer_norm", "conv"}),
    "instance norm": (Layer(apply, nn.InstanceNorm2d(6)), (2, 6, 5, 4), {"reshape", "layer_norm"}),
    "prelu": (Layer(apply, nn.PReLU(6)), (2, 6, 5, 4), {"relu", "clip", "conv", "add"}),
    "prelu, one slope": (Layer(apply, nn.PReLU()), (2, 6, 5), {"leaky_relu"}),
    "twice": (resized((10, 8)), (2, 3, 5, 4), {"resize", "pad", "conv"}),
    "three and four times": (resized((15, 16)), (1, 3, 5, 4), {"resize", "pad", "conv"}),
    "one axis": (resized((5, 20)), (1, 3, 5, 4), {"resize", "pad", "conv"}),
    "no whole factor": (resized((7, 9)), (1, 3, 5, 4), {"linear", "transpose"}),
    "smaller": (resized((3, 2)), (1, 3, 5, 4), {"linear", "transpose"}),
    "corners aligned": (resized((10, 8), corners=True), (1, 3, 5, 4), {"linear", "transpose"}),
    "cubic": (resized((10, 9), "bicubic"), (1, 3, 5, 4), {"linear", "transpose"}),
    "unit length": (Layer(lambda x: functional.normalize(x, dim=-1)), (3, 8), {"rms_norm"}),
    "unit length of channels": (Layer(lambda x: functional.normalize(x, dim=1)), (2, 8, 4, 3), {"rms_norm", "transpose"}),
    "over its norm": (Layer(lambda x: x / x.norm(dim=-1, keepdim=True)), (3, 8), {"rms_norm"}),
    "log softmax": (Layer(lambda x: functional.log_softmax(x, 1)), (2, 6, 5), {"reduce_max", "sub", "exp", "reduce_sum", "log"}),
    "softsign": (Layer(functional.softsign), (3, 8), {"abs", "add", "reciprocal", "mul"}),
    "over a root": (Layer(lambda x: x / torch.sqrt(x.abs() + 1)), (3, 8), {"abs", "add", "pow", "mul"}),
    "over a sum": (Layer(lambda x: x / x.exp().sum(-1, keepdim=True)), (3, 8), {"exp", "reduce_sum", "reciprocal", "mul"}),
    "local response norm": (
        Layer(apply, nn.LocalResponseNorm(3)), (2, 6, 4, 5), {"mul", "reshape", "pad", "avg_pool", "add", "pow"},
    ),
    "padding does not count": (pooled(3, 1, 1, False, False), (1, 3, 8, 9), {"conv", "mul"}),
    "ceil": (pooled(3, 2, 1, True, True), (1, 3, 8, 9), {"conv", "mul"}),
    "ceil, padding does not count": (pooled(4, 3, 2, True, False), (1, 3, 8, 9), {"conv", "mul"}),
    "windows beyond the end": (pooled(2, 2, 0, True, True), (1, 3, 7, 9), {"conv", "mul"}),
}  # fmt: skip


def canonical(layer: nn.Module, *shape: int) -> Graph:
    graph = capture(layer.eval(), (torch.randn(*shape),))
    return run_passes(graph, canonicalize_passes(), CONTEXT)[0]


@pytest.mark.parametrize("name", CASES)
def test_equal_and_idempotent(name: str) -> None:
    layer, shape, ops = CASES[name]
    graph = canonical(layer, *shape)
    result = SpellForIntegers().run(graph, CONTEXT)
    verify_graph(result.graph)
    assert result.changed and {n.op for n in result.graph.nodes} == ops
    assert all(note.taken for note in result.notes)
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    (expected,), (found,) = run_reference(graph, [x]), run_reference(result.graph, [x])
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-6 * np.abs(expected).max()  # float32 sums in another order
    assert not SpellForIntegers().run(result.graph, CONTEXT).changed


def channels(*numbers: float, last: bool = False) -> torch.Tensor:
    return torch.tensor(numbers) if last else torch.tensor(numbers).view(1, -1, 1, 1)


BYTES: dict[str, tuple[Layer, tuple[int, ...], list[str]]] = {
    "mean and deviation": (Layer(lambda x: (x / 255 - channels(0.4, 0.5)) / channels(0.2, 0.3)), (1, 2, 3, 4), ["cast", "div", "conv"]),
    "of bytes": (Layer(lambda x: channels(120.0, 117.0) - x.float()), (1, 2, 3, 4), ["cast", "conv"]),
    "last axis": (
        Layer(lambda x: (x.float() * channels(0.1, 0.2, last=True) + 1.5)), (1, 4, 3, 2), ["cast", "transpose", "conv", "transpose"],
    ),
    "last axis, moved": (
        Layer(lambda x: (x.float() - channels(9.0, 8.0, last=True)).permute(0, 3, 1, 2)), (1, 4, 3, 2), ["cast", "transpose", "conv"],
    ),
    "signal": (Layer(lambda x: x.float() - torch.tensor([[[1.0], [2.0]]])), (1, 2, 7), ["cast", "conv"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BYTES)
def test_what_is_done_to_channels_of_bytes_is_one_convolution(name: str) -> None:
    layer, shape, ops = BYTES[name]
    x = np.random.default_rng(2).integers(0, 256, shape).astype(np.uint8)
    graph = run_passes(capture(layer.eval(), (torch.from_numpy(x),)), canonicalize_passes(), CONTEXT)[0]
    result = SpellForIntegers().run(graph, CONTEXT)
    verify_graph(result.graph)
    assert [n.op for n in result.graph.nodes] == ops
    (expected,), (found,) = run_reference(graph, [x]), run_reference(result.graph, [x])
    assert np.abs(found - expected).max() <= 1e-6 * np.abs(expected).max()  # one factor in place of several roundings
    assert not SpellForIntegers().run(result.graph, CONTEXT).changed


@pytest.mark.parametrize("function", [
    lambda x: x.float() / 255 - 1,  # one table
    lambda x: x.float() - torch.ones(2, 3, 4),  # a constant per element
    lambda x: x.float().mean(1, keepdim=True) * channels(1.0, 2.0),  # not of bytes
])  # fmt: skip
def test_other_arithmetic_on_bytes_is_left(function: Callable[..., torch.Tensor]) -> None:
    graph = capture(Layer(function).eval(), (torch.zeros(1, 2, 3, 4, dtype=torch.uint8),))
    assert not SpellForIntegers().run(run_passes(graph, canonicalize_passes(), CONTEXT)[0], CONTEXT).changed


def test_a_zero_vector_stays_zero() -> None:
    graph = SpellForIntegers().run(canonical(CASES["unit length"][0], 3, 8), CONTEXT).graph
    (found,) = run_reference(graph, [np.zeros((3, 8), np.float32)])
    assert np.array_equal(found, np.zeros((3, 8)))


def test_plain_pools_and_divisions_by_constants_are_left() -> None:
    for layer in (Layer(lambda x: x / 3), pooled(2, 2, 0, False, True), resized((10, 8), "nearest", None)):
        assert not SpellForIntegers().run(canonical(layer, 1, 3, 5, 4), CONTEXT).changed


def test_refused_with_the_reason() -> None:
    b = GraphBuilder()
    x = b.input("x", DType.float32, (1, 4, parse("h"), 5))
    slope = b.input("slope", DType.float32, (4, 1, 1))
    y = b.op("prelu", b.op("resize", x, size=(parse("2*h"), 10), mode="linear"), slope)
    result = SpellForIntegers().run(b.build([y]), CONTEXT)
    assert not result.changed and [note.taken for note in result.notes] == [False, False]
    assert "symbolic" in str(result.notes[0]) and "slope is computed" in str(result.notes[1])


class Segmenter(nn.Module):
    """What segmentation and super-resolution networks are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm, self.slope = nn.GroupNorm(2, 8), nn.PReLU(8)
        self.last = nn.Conv2d(8, 2, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = self.slope(self.norm(self.first(x)))
        pooled = functional.avg_pool2d(y, 3, 2, 1, count_include_pad=False)
        large = functional.interpolate(self.last(y), size=x.shape[2:], mode="bilinear", align_corners=False)
        return large, functional.normalize(pooled.mean((2, 3)), dim=-1), functional.log_softmax(pooled.amax((2, 3)), -1)


@pytest.mark.parametrize("target", ["onnx", "host-c"])
def test_compiled_to_integers(target: str) -> None:
    if target == "host-c":
        requires_tool("gcc", "cc", "clang")
    torch.manual_seed(0)
    model = Segmenter().eval()
    samples = [(torch.randn(1, 3, 12, 12),) for _ in range(12)]
    compiled = qc.compile(model, samples[0], target=target, recipe="w8a8-int", calibration=samples)
    found, wanted = compiled.run(samples[0][0]), [t.detach().numpy() for t in model(samples[0][0])]
    for a, b, least in zip(found, wanted, (28, 28, 28), strict=True):
        assert 10 * np.log10((b**2).mean() / ((a - b) ** 2).mean()) >= least
    exact = zip(compiled.run(samples[0][0], raw=True), compiled.reference(samples[0][0], raw=True), strict=True)
    assert all(np.array_equal(a, b) for a, b in exact)
