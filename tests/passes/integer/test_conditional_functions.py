"""Choices that compare the one value they are made of: functions like any other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

import qcompiler as qc
from qcompiler.errors import UnsupportedError
from qcompiler.frontend import capture
from qcompiler.passes.integer.conditional_functions import conditionals, only_within


class Between(nn.Module):
    """A function between two convolutions."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.function = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 3), function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.function(self.first(x)))


FUNCTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "leaky": lambda x: torch.where(x > 0.1, x, 0.1 * x),
    "elu": lambda x: torch.where(x > 0, x, torch.exp(x) - 1),
    "band": lambda x: torch.where((x > -0.2) & (x < 0.3), x * x, 0.0),
    "steps": lambda x: torch.where(x > 0, torch.where(x > 0.2, 1.0, 0.5), torch.tanh(x)),
    "gate": lambda x: x * (x > 0).to(torch.float32) + torch.where(x < 0, -x, 0.0),
}


def samples(count: int) -> list[tuple[torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(1, 3, 8, 8, generator=generator),) for _ in range(count)]


@pytest.mark.parametrize("name", ["leaky", "elu", "band", "steps"])
def test_it_is_looked_up(name: str) -> None:
    data, model = samples(16), Between(FUNCTIONS[name]).eval()
    compiled = qc.compile(model, data[0], target="onnx", recipe="w8a8-int", calibration=data)
    ops = [n.op for n in compiled.graph.nodes]
    assert "lookup" in ops and not {"where", "greater", "less", "logical_and"} & set(ops)
    assert compiled.report.accuracy is not None and compiled.report.accuracy.sqnr_db > 25
    for (x,) in data[:3]:
        assert np.array_equal(compiled.run(x, raw=True)[0], compiled.reference(x, raw=True)[0])


def test_the_function_is_that_of_the_nodes() -> None:
    graph = capture(Between(FUNCTIONS["band"]).eval(), samples(1)[0])
    ((node, found),) = conditionals(graph).items()
    maker = graph.producer(found.source)
    assert node.op == "where" and maker is not None and maker.op == "conv"
    x = np.linspace(-1, 1, 101)
    np.testing.assert_array_equal(found(x), np.where((x > np.float32(-0.2)) & (x < np.float32(0.3)), x * x, 0))
    assert {n.op for n in only_within(graph, {node: found})} == {"greater", "less", "logical_and", "mul"}


@pytest.mark.parametrize("function", [
    lambda x: torch.where(x > x.mean((2, 3), keepdim=True), x, 0.1 * x),  # of two values
    lambda x: torch.where(x > x.flip(1), x, 0.0),
    FUNCTIONS["gate"],  # a comparison that something else reads
])  # fmt: skip
def test_others_are_refused_by_the_comparison(function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    data = samples(4)
    with pytest.raises(UnsupportedError, match=r"(greater|cast) at"):
        qc.compile(Between(function).eval(), data[0], target="onnx", recipe="w8a8-int", calibration=data)
