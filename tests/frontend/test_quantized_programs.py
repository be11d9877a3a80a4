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
from qcompiler.ir import Graph, Level, verify_graph
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
