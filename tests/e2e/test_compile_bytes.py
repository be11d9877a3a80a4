"""Camera bytes into integer programs: no float before the artefact, the same integers on every target."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import qcompiler as qc
from qcompiler.errors import CalibrationError, UnsupportedError
from qcompiler.ir import DType
from support.tools import requires_tool

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Camera(nn.Module):
    """What a user ships: bytes, channels last, scaled and normalized, then convolutions."""

    def __init__(self, normalize: bool = True) -> None:
        super().__init__()
        self.normalize = normalize
        self.first, self.second = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 4)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = image.to(torch.float32) / 255
        if self.normalize:
            x = (x - torch.tensor(MEAN)) / torch.tensor(DEVIATION)
        x = torch.relu(self.first(x.permute(0, 3, 1, 2)))
        return self.head(torch.relu(self.second(x)).mean((2, 3)))


def images(count: int, seed: int = 0) -> list[tuple[np.ndarray]]:
    """Smooth pictures that fill the range."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 1, 4, 4, 3)).repeat(3, 2).repeat(3, 3)
    return [(np.clip(c + rng.integers(-20, 21, c.shape), 0, 255).astype(np.uint8),) for c in coarse]


def build(target: str, normalize: bool = True, recipe: str = "w8a8-int") -> tuple[qc.Compiled, nn.Module]:
    torch.manual_seed(0)
    model = Camera(normalize).eval()
    example = (torch.from_numpy(images(1)[0][0]),)
    return qc.compile(model, example, target=target, recipe=recipe, calibration=images(24), evaluation=images(8, 1)), model


TOOLS = {"onnxruntime-cpu": (), "host-c": ("gcc", "cc", "clang"), "tvm-cpu": (), "fpga-hls": ("g++",)}


@pytest.mark.parametrize("target", TOOLS)
def test_bytes_go_in_and_the_integers_are_the_references(target: str) -> None:
    if target == "tvm-cpu":
        pytest.importorskip("tvm", reason="needs TVM: pip install 'qcompiler[tvm]'")
    if TOOLS[target]:
        requires_tool(*TOOLS[target])
    compiled, model = build(target)
    (image,) = compiled.graph.inputs
    assert image.dtype is DType.uint8 and image.quant is None
    for (x,) in images(4, 2):
        got, wanted = compiled.run(x, raw=True)[0], compiled.reference(x, raw=True)[0]
        assert got.dtype == wanted.dtype and np.array_equal(got, wanted)
    assert compiled.report.accuracy is not None and compiled.report.accuracy.sqnr_db > 25
    x = images(1, 2)[0][0]
    real = model(torch.from_numpy(x)).detach().numpy()
    assert np.abs(compiled.run(x)[0] - real).max() < 0.1 * np.abs(real).max()


@pytest.mark.parametrize(("normalize", "before"), [(False, ["lookup", "transpose"]), (True, ["lookup", "transpose", "conv", "requantize"])])
def test_codes_are_the_bytes_where_that_is_exact(normalize: bool, before: list[str]) -> None:
    """Divided by 255 a byte is a code already; a mean per channel costs one convolution by 1 and one rounding."""
    program = build("onnx", normalize)[0].graph
    first = [n.op for n in program.nodes]
    assert first[: len(before)] == before and first[len(before)] == "conv"
    (table,) = [n.operands[1].data for n in program.nodes if n.op == "lookup"]
    assert table is not None and np.array_equal(table, np.arange(-128, 128))


def test_powers_of_two() -> None:
    compiled, _ = build("onnx", recipe="w8a8-pow2")
    (x,) = images(1, 3)[0]
    assert np.array_equal(compiled.run(x, raw=True)[0], compiled.reference(x, raw=True)[0])
    assert compiled.report.accuracy is not None and compiled.report.accuracy.sqnr_db > 25


def test_a_saved_c_project_takes_bytes(tmp_path: Path) -> None:
    requires_tool("gcc", "cc", "clang")
    compiled, _ = build("host-c")
    folder = compiled.save(tmp_path / "out")
    header = (folder / "model.h").read_text()
    assert "qc_model_run(const uint8_t *input, int8_t *output)" in header and "QC_MODEL_INPUT_QUANTIZE" not in header
    (x,) = images(1, 3)[0]
    again = qc.load(folder)
    assert np.array_equal(again.run(x)[0], compiled.run(x)[0])
    with pytest.raises(CalibrationError, match="dtype float32, the model takes uint8"):
        again.run(x.astype(np.float32))


@pytest.mark.parametrize(("dtype", "function", "message"), [
    (torch.int32, lambda x: x.float() / 9, r"converts int32 to float32; an input of uint8 or int8"),
    (torch.uint8, lambda x: torch.log(x.float()), r"bytes of 'x', and for some of them it is infinite.*clamp"),
])  # fmt: skip
def test_refused_with_what_to_do(dtype: torch.dtype, function, message: str) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(function(x))

    data = [(torch.randint(1, 200, (1, 6)).to(dtype),) for _ in range(4)]
    with pytest.raises(UnsupportedError, match=message):
        qc.compile(Model().eval(), data[0], target="onnx", recipe="w8a8-int", calibration=data)
