"""Programs that torch quantized: PT2E's ops and fake quantization, with their scales bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.ao.quantization.fx._decomposed import quantized_decomposed_lib  # noqa: F401  registers the ops

from qcompiler.errors import UnsupportedError
from qcompiler.executors.reference import run_reference
from qcompiler.frontend import capture
from qcompiler.imported import bring_in
from qcompiler.ir import DType, Graph, Level, verify_graph
from qcompiler.passes.base import Context

OPS = torch.ops.quantized_decomposed


def _program(model: torch.nn.Module, x: torch.Tensor) -> Graph:
    captured = capture(model.eval(), (x,))
    assert captured.level is Level.QUANTIZED
    graph, _, _ = bring_in(captured, Context(), None, True)
    verify_graph(graph)
    return graph


class _Pt2e(torch.nn.Module):
    """A convolution as PT2E converts it: codes of activations per tensor, of the weight per channel."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("w", torch.randint(-127, 128, (4, 3, 3, 3), generator=generator, dtype=torch.int8))
        self.register_buffer("ws", torch.rand(4, generator=generator) * 0.01 + 0.001)
        self.register_buffer("wz", torch.zeros(4, dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q = OPS.quantize_per_tensor(x, 0.04, 120, 0, 255, torch.uint8)
        x = OPS.dequantize_per_tensor(q, 0.04, 120, 0, 255, torch.uint8)
        w = OPS.dequantize_per_channel(self.w, self.ws, self.wz, 0, -127, 127, torch.int8)
        y = torch.relu(torch.nn.functional.conv2d(x, w))
        q = OPS.quantize_per_tensor(y, 0.02, 0, 0, 255, torch.uint8)
        return OPS.dequantize_per_tensor(q, 0.02, 0, 0, 255, torch.uint8)


def test_pt2e_program() -> None:
    model, x = _Pt2e(), torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    graph = _program(model, x)
    assert [n.op for n in graph.nodes] == ["quantize", "conv", "requantize", "dequantize"]
    weight = graph.nodes[1].operands[1]
    assert np.array_equal(weight.data, model.w.numpy()) and np.array_equal(weight.quant.scale, model.ws.numpy())
    with torch.no_grad():
        wanted = model(x).numpy()
    steps = np.abs(run_reference(graph, [x.numpy()])[0] - wanted) / 0.02
    assert steps.max() <= 1.01 and (steps > 0.5).mean() < 0.01  # ties of a float32 rescale


class _Trained(torch.nn.Module):
    """What quantization-aware training leaves: fake quantization of the operands and of the result."""

    def __init__(self, low: int = -127) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.low = torch.nn.Linear(16, 8), low
        self.register_buffer("ws", self.fc.weight.detach().abs().amax(1) / 127)
        self.register_buffer("wz", torch.zeros(8, dtype=torch.int32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.fake_quantize_per_tensor_affine(x, 0.03, 128, 0, 255)
        w = torch.fake_quantize_per_channel_affine(self.fc.weight, self.ws, self.wz, 0, -127, 127)
        y = torch.nn.functional.linear(x, w, self.fc.bias)
        return torch.fake_quantize_per_tensor_affine(y, 0.02, 0, self.low, 127)


@pytest.mark.parametrize("low", [-128, -100])
def test_fake_quantization(low: int) -> None:
    model, x = _Trained(low), torch.randn(5, 16, generator=torch.Generator().manual_seed(1)) * 2
    graph = _program(model, x)
    assert [n.op for n in graph.nodes] == ["quantize", "linear", "requantize", "dequantize"]
    codes = torch.clamp(torch.round(model.fc.weight.detach() / model.ws[:, None]), -127, 127)
    assert np.array_equal(graph.nodes[1].operands[1].data, codes.numpy())
    with torch.no_grad():
        wanted = model(x).numpy()
    got = run_reference(graph, [x.numpy()])[0]
    assert np.abs(got - wanted).max() / 0.02 <= 1.01 and got.min() >= low * 0.02 - 1e-6


def test_scales_computed_from_data_are_refused() -> None:
    class Observing(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return OPS.quantize_per_tensor(x, x.abs().amax() / 127, torch.tensor(0), -127, 127, torch.int8)

    with pytest.raises(UnsupportedError, match="computed from data"):
        capture(Observing(), (torch.randn(4),))


class _Lsq(torch.nn.Module):
    """Learned step size (Esser et al. 2020) as such modules are written, with scaled gradients."""

    def __init__(self, step: torch.Tensor, low: int, high: int, zero: float = 0.0, late: bool | str = False) -> None:
        super().__init__()
        self.step, self.zero = torch.nn.Parameter(step), zero
        self.low, self.high, self.late = low, high, late

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        share = (self.high * x.numel()) ** -0.5
        step = (self.step - self.step * share).detach() + self.step * share
        y = x / step + self.zero if self.zero else x / step
        y = y if self.late else torch.clamp(y, self.low, self.high)
        y = (y.round() - y).detach() + y
        if self.late == "selected":  # as Brevitas clips
            y = torch.where(y > self.high, self.high, y)
            y = torch.where(y < self.low, self.low, y)
        elif self.late:
            y = torch.clamp(y, self.low, self.high)
        return (y - self.zero) * step if self.zero else y * step


class _Learned(torch.nn.Module):
    def __init__(self, zero: float = 0.0, late: bool | str = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc = torch.nn.Linear(16, 8)
        self.weight = _Lsq(torch.rand(8, 1) * 0.02 + 0.01, -4, 3, late="selected" if late == "selected" else False)
        self.input = _Lsq(torch.tensor(0.03), 0, 255, zero, late)
        self.result = _Lsq(torch.tensor([0.05]), -128, 127, late=late)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.result(torch.nn.functional.linear(self.input(x), self.weight(self.fc.weight), self.fc.bias))


def _check_learned(graph: Graph, model: _Learned, zero: float) -> None:
    assert [n.op for n in graph.nodes] == ["quantize", "linear", "requantize", "dequantize"]
    with torch.no_grad():
        real = model.weight(model.fc.weight).numpy()
        used = model.weight(torch.full((8, 16), 1e9)).numpy()[:, 0] / np.float32(3)  # the step after its gradient's scaling
    weight = graph.nodes[1].operands[1]
    assert weight.dtype is DType.int3 and np.array_equal(weight.quant.dequantize(weight.data), real)
    np.testing.assert_allclose(weight.quant.scale, used, rtol=1e-6)
    assert graph.nodes[0].attrs["quant"].zero_point == zero
    x = torch.randn(50, 16, generator=torch.Generator().manual_seed(1)) * 2
    with torch.no_grad():
        wanted = model(x).numpy()
    steps = np.abs(run_reference(graph, [x.numpy()])[0] - wanted) / 0.05
    assert steps.max() <= 1.01 and (steps > 0.5).mean() < 0.02  # the bias is rounded, and float sums are


@pytest.mark.parametrize(("zero", "late"), [(0.0, False), (0.0, True), (120.0, False), (120.0, True), (120.0, "selected")])
def test_learned_steps(zero: float, late: bool | str) -> None:
    model = _Learned(zero, late).eval()
    _check_learned(_program(model, torch.randn(50, 16)), model, zero)


def test_learned_steps_by_way_of_onnx(tmp_path) -> None:
    model = _Learned().eval()
    torch.onnx.export(model, (torch.randn(50, 16),), tmp_path / "m.onnx", dynamo=False)
    graph, _, _ = bring_in(capture(tmp_path / "m.onnx"), Context(), None, True)
    _check_learned(graph, model, 0)


class _QuantTensors(torch.nn.Module):
    """Asks its data, as a layer of Brevitas does that passes a QuantTensor on."""

    __module__ = "brevitas.nn.quant_linear"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if (x != 0).any() else x


def test_layers_of_brevitas_that_cannot_be_traced() -> None:
    with pytest.raises(UnsupportedError, match="return_quant_tensor=False, or compile the .onnx file that brevitas"):
        capture(torch.nn.Sequential(_QuantTensors()), (torch.ones(2),))


def _with_other_bound(y: torch.Tensor) -> torch.Tensor:
    y = torch.where(y > 5, 4, y)
    return torch.where(y < -8, -8, y)


@pytest.mark.parametrize("change", ["other step", "fraction", "one limit", "no round", "other bound"])
def test_what_is_no_quantizer_stays_arithmetic(change: str) -> None:
    class Other(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            zero = 0.5 if change == "fraction" else 3.0
            y = x / 0.1 + zero
            y = y if change == "other bound" else torch.clamp(y, -8, None if change == "one limit" else 7)
            y = y if change == "no round" else y.round()
            y = _with_other_bound(y) if change == "other bound" else y
            return (y - zero) * (0.2 if change == "other step" else 0.1)

    x = torch.randn(4, 4)
    graph = capture(Other(), (x,))
    assert graph.level is Level.FLOAT and np.allclose(run_reference(graph, [x.numpy()])[0], Other()(x).numpy(), atol=1e-6)


@pytest.mark.parametrize("kind", ["tensor", "channel", "fused", "learnable"])
def test_fake_quantize_modules(kind: str) -> None:
    """Their own scales, as of now; the model is as it was afterwards."""
    from torch.ao import quantization as ao
    from torch.ao.quantization._learnable_fake_quantize import _LearnableFakeQuantize

    x, w = torch.randn(4, 8, generator=torch.Generator().manual_seed(0)), torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    if kind == "learnable":
        module = _LearnableFakeQuantize(ao.MovingAverageMinMaxObserver, 0, 255, scale=0.03, zero_point=12.3, dtype=torch.quint8)
        module.toggle_observer_update(False).toggle_fake_quant(True)
    else:
        made = {"tensor": ao.default_fake_quant, "channel": ao.default_per_channel_weight_fake_quant, "fused": ao.FusedMovingAvgObsFakeQuantize}
        module = made[kind]()
        module(w if kind == "channel" else x)
        module.apply(ao.disable_observer)

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fake, self.w = module, torch.nn.Parameter(w)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.linear(x, self.fake(self.w)) if kind == "channel" else self.fake(x)

    model = Model().eval()
    graph = capture(model, (x,))
    assert model.fake is module and graph.level is Level.QUANTIZED
    with torch.no_grad():
        wanted = model(x).numpy()
    np.testing.assert_allclose(run_reference(graph, [x.numpy()])[0], wanted, atol=1e-6)
    quants = [n.attrs["quant"] for n in graph.nodes if n.op == "quantize"] or [v.quant for v in graph.constants() if v.quant is not None]
    assert np.array_equal(quants[0].scale, module.scale.detach().numpy().reshape(quants[0].scale.shape))
    assert np.all(quants[0].zero_point == np.rint(module.zero_point.detach().numpy()))
    module.disable_fake_quant() if kind != "learnable" else module.toggle_fake_quant(False)
    assert capture(model, (x,)).level is Level.FLOAT


_TORCHAO = torch.library.Library("torchao", "FRAGMENT")
"""The signatures of torchao's ops, which its package would register."""


def _declare_torchao() -> None:
    if hasattr(torch.ops.torchao, "quantize_affine"):
        return
    limits = "SymInt? quant_min=None, SymInt? quant_max=None"
    _TORCHAO.define(f"quantize_affine(Tensor x, SymInt[] block_size, Tensor scale, Tensor? zero_point, ScalarType output_dtype, {limits}) -> Tensor")
    _TORCHAO.define(f"dequantize_affine(Tensor x, SymInt[] block_size, Tensor scale, Tensor? zero_point, ScalarType input_dtype, {limits}, ScalarType output_dtype=float) -> Tensor")
    _TORCHAO.impl("quantize_affine", lambda x, b, s, z, d, low=None, high=None: torch.empty_like(x, dtype=d), "Meta")
    _TORCHAO.impl("dequantize_affine", lambda x, b, s, z, d, low=None, high=None, output_dtype=torch.float: torch.empty_like(x, dtype=output_dtype), "Meta")


@pytest.mark.parametrize(("block", "axis", "group"), [((8, 16), None, None), ((1, 16), 0, None), ((1, 4), 1, 4)])
def test_torchao_ops(block: tuple[int, int], axis: int | None, group: int | None) -> None:
    """Weights in their general form of blocks, activations per tensor."""
    _declare_torchao()
    rng = torch.Generator().manual_seed(0)
    counts = [8 // block[0], 16 // block[1]]

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("w", torch.randint(-8, 8, (8, 16), generator=rng, dtype=torch.int8))
            self.register_buffer("s", torch.rand(counts, generator=rng) * 0.1 + 0.01)
            self.register_buffer("z", torch.randint(-3, 4, counts, generator=rng, dtype=torch.int32))
            self.register_buffer("xs", torch.tensor(0.03))
            self.register_buffer("xz", torch.tensor(5, dtype=torch.int32))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            q = torch.ops.torchao.quantize_affine(x, x.shape, self.xs, self.xz, torch.int8)
            x = torch.ops.torchao.dequantize_affine(q, x.shape, self.xs, self.xz, torch.int8)
            w = torch.ops.torchao.dequantize_affine(self.w, list(block), self.s, self.z, torch.int8, -8, 7)
            return torch.nn.functional.linear(x, w)

    model, x = Model(), torch.randn(5, 16, generator=rng)
    graph = capture(model, (x,))
    weight = next(v for v in graph.constants() if v.quant is not None)
    assert (weight.quant.axis, weight.quant.group_size, weight.dtype) == (axis, group, DType.int4)
    assert np.array_equal(weight.quant.scale.ravel(), model.s.numpy().ravel()) and np.array_equal(weight.data, model.w.numpy())
    real = np.clip(np.rint(x.numpy() / np.float32(0.03)) + 5, -128, 127) - 5
    grid = lambda a: np.repeat(np.repeat(a.numpy(), block[0], 0), block[1], 1)  # noqa: E731
    wanted = (real * 0.03) @ ((model.w.numpy() - grid(model.z)) * grid(model.s)).T
    np.testing.assert_allclose(run_reference(graph, [x.numpy()])[0], wanted, atol=1e-4)
