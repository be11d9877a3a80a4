"""A float network to a C project through the public interface: exact on the host, and from the command line in QEMU."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import qcompiler as qc
from qcompiler.cli import app
from qcompiler.errors import ConstraintError
from support.tools import requires_tool

SHAPE = (1, 3, 12, 12)


class Network(nn.Module):
    """A convolution with a residual, depthwise-separable, two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.inner = nn.Conv2d(8, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8)
        self.pointwise = nn.Conv2d(8, 12, 1)
        self.head = nn.Linear(12, 4)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.stem(image)
        x = torch.relu(x + self.inner(x))
        x = torch.relu(self.pointwise(nn.functional.relu6(self.depthwise(x))))
        return self.head(x.mean((2, 3))), x


def samples(count: int, seed: int) -> list[tuple[np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [(rng.standard_normal(SHAPE).astype(np.float32),) for _ in range(count)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for tool in ("arm-none-eabi-gcc", "qemu-system-arm", "make", "gcc"):
        requires_tool(tool)
    torch.manual_seed(0)
    compiled = qc.compile(
        Network().eval(), (torch.zeros(SHAPE),), target="cortex-m4:flash=64K,ram=16K", recipe="w8a8-int", calibration=samples(16, 0)
    )
    return compiled.save(tmp_path_factory.mktemp("mcu") / "out")


def test_outputs_are_the_references_and_near_float(folder: Path) -> None:
    compiled = qc.load(folder)
    for arrays in samples(5, 1):
        for raw in (True, False):
            got, expected = compiled.run(*arrays, raw=raw), compiled.reference(*arrays, raw=raw)
            assert all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(got, expected, strict=True))
    report = compiled.report
    assert report.accuracy is not None and report.accuracy.sqnr_db is not None and report.accuracy.sqnr_db > 20
    assert report.verified and {run.differing for run in report.verification} == {0}
    assert report.memory is not None and report.memory.ram_bytes is not None
    assert report.memory.arena_ratio <= 1.05 and report.memory.ram_limit_bytes == 16 << 10
    assert report.coverage_summary.op_share == 1


def test_bench_in_qemu(folder: Path) -> None:
    result = CliRunner().invoke(app, ["bench", str(folder), "--on", "qemu", "--samples", "2", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["kind"], found["samples"], found["differing"]) == ("simulated", 2, 0)
    assert found["predicted"] == {"flash_bytes": found["flash_bytes"], "ram_bytes": found["ram_bytes"]}
    assert found["arena_bytes"] < found["ram_bytes"] and len(found["layers"]) == 6
    assert 0 < sum(layer["instructions"] for layer in found["layers"]) <= found["instructions"]
    assert CliRunner().invoke(app, ["bench", str(folder), "--on", "spice"]).exit_code == 4


def test_project_builds_with_cmake(folder: Path, tmp_path: Path) -> None:
    cmake = requires_tool("cmake")
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.13)\nproject(app C)\nset(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)\n"
        f"add_subdirectory({folder} model)\nadd_library(app STATIC app.c)\ntarget_link_libraries(app PRIVATE qc_model)\n"
        "target_compile_options(qc_model PUBLIC -mcpu=cortex-m4 -mfloat-abi=hard -mthumb -Wall -Wextra -Werror)\n"
    )
    (tmp_path / "app.c").write_text(
        '#include "model.h"\nstatic int8_t image[QC_MODEL_INPUT_SIZE], logits[4], x[432];\nvoid app(float v);\nvoid app(float v)\n{\n'
        "    const qc_model_inputs in = {image};\n    const qc_model_outputs out = {logits, x};\n"
        "    image[0] = QC_MODEL_INPUT_QUANTIZE(v);\n    qc_model_run(&in, &out);\n}\n"
    )
    configure = [cmake, "-S", ".", "-B", "b", "-DCMAKE_C_COMPILER=arm-none-eabi-gcc", "-DCMAKE_SYSTEM_NAME=Generic",
                 "-DCMAKE_TRY_COMPILE_TARGET_TYPE=STATIC_LIBRARY"]  # fmt: skip
    for command in (configure, [cmake, "--build", "b"]):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]


def test_a_part_that_is_too_small() -> None:
    with pytest.raises(ConstraintError, match="does not fit cortex-m0plus:flash=1K,ram=4M") as caught:
        qc.compile(
            Network().eval(), (torch.zeros(SHAPE),), target="cortex-m0plus:flash=1K", recipe="w8a8-int", calibration=samples(4, 0)
        )
    assert caught.value.exit_code == 3


def test_macros_quantize_as_the_compiler_does(folder: Path, tmp_path: Path) -> None:
    """Ties, saturation, and values that no code stands for."""
    compiler = requires_tool("gcc", "cc")
    quant = qc.load(folder).graph.inputs[0].quant
    assert quant is not None
    steps = np.concatenate([np.arange(-300, 300) / 2 - float(quant.zero_point), [1e30, -1e30, np.inf, -np.inf]])
    reals = (steps.astype(np.float32) * quant.scale).astype(np.float32)
    values = ", ".join("INFINITY" if v == np.inf else "-INFINITY" if v == -np.inf else f"{float(v).hex()}f" for v in reals)
    (tmp_path / "main.c").write_text(
        f'#include <math.h>\n#include <stdio.h>\n#include "model.h"\nint main(void)\n{{\n    const float reals[] = {{{values}}};\n'
        f'    for (int i = 0; i < {reals.size}; i++) {{\n        printf("%d\\n", QC_MODEL_INPUT_QUANTIZE(reals[i]));\n    }}\n'
        '    printf("%d\\n", QC_MODEL_INPUT_QUANTIZE(NAN));\n    return 0;\n}\n'
    )
    subprocess.run([compiler, "-std=c99", "-Wall", "-Wextra", "-Werror", "-I", folder, "main.c", "-o", "a"], cwd=tmp_path, check=True)
    found = subprocess.run([tmp_path / "a"], capture_output=True, text=True, check=True).stdout.split()
    assert [int(v) for v in found[:-1]] == quant.quantize(reals).tolist() and int(found[-1]) == -128
