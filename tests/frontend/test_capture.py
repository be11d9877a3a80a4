"""The forms of a model, names, origins, in-place ops, state, and errors."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from qcompiler.errors import UnsupportedError, UsageError
from qcompiler.frontend import capture
from qcompiler.ir import verify_graph

from .compare import check
from .test_ops import Fn, x

FACTORY = """
import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(3, 2)
    def forward(self, features):
        return self.fc(features)
def make(): return Net()
def make_both(): return Net(), (torch.ones(4, 3),)
def fails(): raise RuntimeError("no weights here")
def number(): return 7
"""


class Tied(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(10, 4)
        self.head = torch.nn.Linear(4, 10, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.embed(ids))


class Block(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = torch.nn.Linear(4, 4)
        self.act = torch.nn.ReLU(inplace=True)

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        t = self.act(self.fc(t))
        t += 1
        return t.mul_(2)


class Stack(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList([Block(), Block()])

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            t = block(t)
        return t


class Counter(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(1))

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        self.count.add_(1)
        return t + self.count


# -- names, origins, weights


def test_tied_weights_are_one_value() -> None:
    graph = check(Tied(), (torch.tensor([[1, 2, 3]]),))
    assert [c.name for c in graph.constants()] == ["embed.weight"]


def test_weights_are_shared_not_copied() -> None:
    model = torch.nn.Linear(4, 3)
    weight = next(c for c in capture(model, (x(2, 4),)).constants() if c.name == "weight")
    assert weight.data is not None and weight.data.ctypes.data == model.weight.data_ptr()


def test_modules_and_lines() -> None:
    graph = check(Stack(), (x(2, 4),))
    assert [n.origin.module for n in graph.nodes if n.op == "linear"] == ["blocks.0.fc", "blocks.1.fc"]
    add = next(n for n in graph.nodes if n.op == "add")
    assert add.origin.module == "blocks.0"
    line = next(i for i, text in enumerate(Path(__file__).read_text().splitlines(), 1) if text == "        t += 1")
    assert add.origin.source == f"test_capture.py:{line}"


def test_one_module_called_twice() -> None:
    class Twice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = torch.nn.Linear(4, 4)

        def forward(self, t: torch.Tensor) -> torch.Tensor:
            return self.fc(self.fc(t))

    graph = check(Twice(), (x(2, 4),))
    assert [n.origin.module for n in graph.nodes] == ["fc", "fc"]
    assert len(list(graph.constants())) == 2


def test_input_and_output_names() -> None:
    class Model(torch.nn.Module):
        def forward(self, left: torch.Tensor, scale: float, right: torch.Tensor | None = None, flag: bool = True) -> Any:
            total = left * scale if right is None else left + right
            return {"sum": total, "parts": (left, None, [total - 1]), "flag": flag}

    graph = capture(Model(), ((x(2), 2.0), {"right": x(2), "flag": True}))
    assert [v.name for v in graph.inputs] == ["left", "right"]
    assert graph.output_names == ("sum", "parts_0", "parts_2_0")
    assert capture(Model(), (x(2), 3.0)).output_names == graph.output_names
    assert capture(Fn(lambda t: (t, t + 1)), (x(2),)).output_names == ("output_0", "output_1")


def test_dataclass_outputs() -> None:
    @dataclass
    class Result:
        logits: torch.Tensor
        hidden: torch.Tensor | None = None

    torch.export.register_dataclass(Result)
    assert capture(Fn(lambda t: Result(t + 1)), (x(2),)).output_names == ("logits",)


def test_forms_of_example_inputs() -> None:
    import numpy as np

    model = torch.nn.Linear(4, 2)
    for inputs in (x(2, 4), (x(2, 4),), [x(2, 4)], {"input": x(2, 4)}, ((x(2, 4),), {}), x(2, 4).numpy()):
        graph = capture(model, inputs)
        assert [v.name for v in graph.inputs] == ["input"]
    assert capture(model, (np.zeros((2, 4), np.float32),), name="mine").name == "mine"


def test_what_is_not_used_need_not_be_supported() -> None:
    def layer_dropout(t: torch.Tensor) -> torch.Tensor:
        torch.rand([]) * torch.lgamma(t)
        return t + 1

    assert [n.op for n in check(Fn(layer_dropout), (x(3),)).nodes] == ["add"]


def test_unused_inputs_stay() -> None:
    assert [v.name for v in capture(Fn(lambda a, b: a + 1), (x(2), x(3))).inputs] == ["args_0", "args_1"]


def test_training_mode_is_restored() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(4))
    model[1].eval()
    graph = capture(model, (x(3, 4),))
    assert [n.op for n in graph.nodes] == ["linear", "batch_norm"]
    assert [m.training for m in model.modules()] == [True, True, False, True]


def test_half_precision_weights() -> None:
    for dtype in (torch.float16, torch.bfloat16):
        graph = capture(torch.nn.Linear(4, 2).to(dtype), (x(2, 4).to(dtype),))
        verify_graph(graph)
        assert {v.dtype.name for v in graph.values()} == {str(dtype).removeprefix("torch.")}


# -- in-place ops and regions


def view_of_written(t: torch.Tensor) -> torch.Tensor:
    y = t.clone()
    y[:, 0].add_(5)
    return y * 2


def view_before_write(t: torch.Tensor) -> torch.Tensor:
    y = t * 1
    v = y.view(-1)
    y.mul_(3)
    return v + 1


def chain(t: torch.Tensor) -> torch.Tensor:
    y = t + 0
    y.relu_().add_(1)
    y[0] = 3
    y[:, 1:] *= 2
    y.transpose(0, 1)[0].zero_()
    return y.clamp_(max=4).fill_diagonal_(9)


def grad_regions(t: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        y = t * 2
        y += 1
    with torch.autocast("cpu", enabled=False):
        y = y.float() - 1
    return y + t


@pytest.mark.parametrize("fn", [view_of_written, view_before_write, chain, grad_regions])
def test_in_place(fn: Any) -> None:
    check(Fn(fn), (x(3, 3),))


def test_changed_input() -> None:
    check(Fn(lambda t: t.add_(1) * 2), (x(3),))


def test_changed_state_is_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"changes its buffer 'count'.*eval"):
        capture(Counter(), (x(2),))


def test_autocast_is_refused() -> None:
    def region(t: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return t @ t

    with pytest.raises(UnsupportedError, match="autocast"):
        capture(Fn(region), (x(3, 3),))


# -- refusals


def test_all_unsupported_ops_are_listed() -> None:
    class Odd(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Fn(lambda t: torch.special.i0(t) + torch.lgamma(t))

        def forward(self, t: torch.Tensor) -> torch.Tensor:
            return self.inner(t) + torch.fft.fft(t).real + torch.randn(3)

    with pytest.raises(UnsupportedError) as caught:
        capture(Odd(), (x(3),))
    text = str(caught.value)
    assert caught.value.exit_code == 4
    for name in ("i0", "lgamma", "fft", "randn", "random numbers", "inner (test_ops.py:", "test_capture.py:"):
        assert name in text, (name, text)


def test_control_flow_on_data(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnsupportedError, match=r"torch\.export cannot trace"):
        capture(Fn(lambda t: t + 1 if t.sum() > 0 else t), (x(3),))
    captured = capfd.readouterr()
    assert captured.out == "" and "def forward" not in captured.err


def test_a_size_from_a_number_in_the_data() -> None:
    with pytest.raises(UnsupportedError, match=r"(?s)1 op .*depends on the data"):
        capture(Fn(lambda t: torch.zeros(t.sum().to(torch.int64).item())), (x(3).abs() + 1,))


def test_inputs_that_the_model_does_not_take() -> None:
    model = torch.nn.Linear(4, 2)
    with pytest.raises(UsageError, match="needs example inputs"):
        capture(model)
    with pytest.raises(UsageError, match="Did you mean 'input'"):
        capture(model, {"inputs": x(2, 4)})
    with pytest.raises(UsageError, match="do not fit"):
        capture(model, (x(2, 4), x(2, 4)))
    with pytest.raises(UsageError, match="itself fails on the example inputs"):
        capture(model, (x(2, 5),))
    with pytest.raises(UsageError, match="tensors in a tuple"):
        capture(model, 5)


@pytest.mark.parametrize("model", [5, None, lambda t: t, {"w": torch.ones(1)}])
def test_what_is_no_model(model: Any) -> None:
    with pytest.raises(UsageError, match="a model is an nn.Module"):
        capture(model, (x(2),))


# -- module.py:factory


def test_factory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "net.py"
    path.write_text(FACTORY)
    with caplog.at_level(logging.WARNING, "qcompiler"):
        graph = capture(f"{path}:make_both")
    assert "running code" in caplog.text and str(path) in caplog.text
    assert [(v.name, v.shape) for v in graph.inputs] == [("features", (4, 3))]
    given = capture(f"{path}:make", (x(2, 3),), {"features": {0: "batch"}})
    assert [str(d) for d in given.inputs[0].shape] == ["batch", "3"]


@pytest.mark.parametrize(
    "name, message",
    [
        ("net.py:fails", "no weights here"),
        ("net.py:number", "returned int"),
        ("net.py:mak", "Did you mean 'make'"),
        ("net.py:make", "needs example inputs"),
        ("net.py", "name the function"),
        ("other.py:make", "no such file"),
        ("broken.py:make", "SyntaxError"),
        ("nothing.onnx.pt", "no such model"),
    ],
)
def test_factory_errors(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "net.py").write_text(FACTORY)
    (tmp_path / "broken.py").write_text("def make(:")
    with pytest.raises(UsageError, match=message):
        capture(str(tmp_path / name))
