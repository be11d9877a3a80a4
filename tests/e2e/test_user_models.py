"""Models in forms that users bring, compiled as they are: inputs, types and structures that are not the plainest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import qcompiler as qc
from qcompiler.errors import UnsupportedError
from support.tools import requires_tool


def images(count: int, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return [torch.randn(1, 3, 10, 10, generator=random).to(dtype) for _ in range(count)]


def decibels(expected: torch.Tensor, got: np.ndarray) -> float:
    wanted = expected.detach().double().numpy()
    return float(10 * np.log10((wanted**2).sum() / ((wanted - got.astype(np.float64)) ** 2).sum()))


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.conv(x).relu().mean((2, 3)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("recipe", ["w8a8", "w8a8-int"])
def test_half_precision_in_and_out(dtype: torch.dtype, recipe: str) -> None:
    """NumPy and ONNX Runtime's plain interface have no bfloat16."""
    data = images(4, dtype)
    model = Classifier().to(dtype).eval()
    made = qc.compile(model, (data[0],), recipe=recipe, calibration=data)
    (got,) = made.run(data[0])
    (expected,) = made.reference(data[0])
    if recipe == "w8a8":
        assert got.dtype.name == expected.dtype.name == str(dtype).removeprefix("torch.")
    else:
        assert np.array_equal(got, expected)
    assert decibels(model(data[0]), got) > 20


class Both(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.conv, self.head = nn.Embedding(9, 8), nn.Conv2d(3, 8, 3), nn.Linear(16, 4)

    def forward(self, batch: dict[str, Any], bias: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        image = self.conv(batch["Image"]).mean((2, 3))
        y = self.head(torch.cat([self.table(batch["ids"]).mean(1), image], 1))
        return {"logits": y if bias is None else y + bias}


def test_arguments_nested_as_the_forward_takes_them() -> None:
    data = [({"ids": torch.tensor([[1, i]]), "Image": x}, None) for i, x in enumerate(images(4))]
    model = Both().eval()
    made = qc.compile(model, data[0], calibration=data)
    expected = model(*data[3])["logits"]
    for got in (made.run(*data[3]), made.run(data[3][0]), made.run(batch=data[3][0])):
        assert decibels(expected, got[0]) > 25


class WithScalar(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.head(x), x.mean()


def test_a_result_without_axes_from_c() -> None:
    requires_tool("gcc", "cc", "clang")
    data = [torch.randn(1, 8, generator=torch.Generator().manual_seed(i)) for i in range(6)]
    made = qc.compile(WithScalar(), (data[0],), target="host-c", recipe="w8a8-int", calibration=data)
    got = made.run(data[2])
    assert [a.shape for a in got] == [(1, 4), ()]
    assert all(np.array_equal(a, b) for a, b in zip(got, made.reference(data[2]), strict=True))


def test_integers_have_no_mean_over_a_dynamic_dimension() -> None:
    data = images(4)
    with pytest.raises(UnsupportedError, match="the mean over a dynamic dimension"):
        qc.compile(
            Classifier(), (data[0],), target="host-c", recipe="w8a8-int", calibration=data,
            dynamic_shapes={"x": {2: "height", 3: "width"}},
        )  # fmt: skip


class Causal(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.qkv = nn.ModuleList(nn.Linear(16, 48) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.qkv:
            q, k, v = layer(x).reshape(1, 6, 3, 2, 8).permute(2, 0, 3, 1, 4)
            y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + y.transpose(1, 2).flatten(2)
        return x


def test_causal_attention_by_tvm() -> None:
    """Its masks are computed alike in every layer: a kernel each, or none of those behind is the one it is taken for."""
    pytest.importorskip("tvm", reason="needs TVM: pip install 'qcompiler[tvm]'")
    data = [torch.randn(1, 6, 16, generator=torch.Generator().manual_seed(i)) for i in range(6)]
    made = qc.compile(Causal().eval(), (data[0],), target="tvm-cpu", calibration=data)
    assert all(run.passed and run.local_max_lsb in (None, 0, 1) for run in made.report.verification)
    assert decibels(Causal().eval()(data[2]), made.run(data[2])[0]) > 20
