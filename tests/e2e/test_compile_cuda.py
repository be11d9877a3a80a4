"""A float network to CUDA kernels through the public interface, run in the emulator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import qcompiler as qc
from qcompiler.errors import MissingToolError, UnsupportedError
from qcompiler.targets.cuda.plan import HEADERS, SOURCE
from support.tools import requires_nvcc, requires_nvrtc, requires_tool

SHAPE = (1, 3, 10, 10)


class Network(nn.Module):
    """Convolutions with a residual, then attention over the pixels and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1, stride=2)
        self.inner = nn.Conv2d(16, 16, 3, padding=1)
        self.norm = nn.LayerNorm(16)
        self.qkv = nn.Linear(16, 48)
        self.head = nn.Linear(16, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(image))
        x = torch.relu(x + self.inner(x))
        tokens = self.norm(x.flatten(2).transpose(1, 2))
        q, k, v = self.qkv(tokens).unflatten(-1, (3, 2, 8)).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.head(nn.functional.gelu(tokens + mixed).mean(1))


def samples(count: int, seed: int) -> list[tuple[np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [(rng.standard_normal(SHAPE).astype(np.float32),) for _ in range(count)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    requires_tool("g++")
    requires_nvcc()
    torch.manual_seed(0)
    compiled = qc.compile(
        Network().eval(), (torch.zeros(SHAPE),), target="cuda-sm89", recipe="w8a8-int", calibration=samples(8, 0), progress=False
    )
    return compiled.save(tmp_path_factory.mktemp("cuda") / "out")


def test_the_emulator_gives_the_references_integers(folder: Path) -> None:
    compiled = qc.load(folder)
    ops = {node.op for node in compiled.graph.nodes}
    assert {"conv", "linear", "matmul", "integer_layer_norm", "requantize_sum"} <= ops
    for arrays in samples(2, 1):
        for raw in (True, False):
            got, want = compiled.run(*arrays, raw=raw, emulate=True), compiled.reference(*arrays, raw=raw)
            assert all(np.array_equal(g, w) and g.dtype == w.dtype for g, w in zip(got, want, strict=True))
    assert {c.kernel.partition("_")[0] for c in compiled.report.coverage} >= {"gemm", "softmax", "layer", "pointwise"}


def test_without_a_gpu_run_says_so(folder: Path) -> None:
    with pytest.raises((UnsupportedError, MissingToolError), match="GPU"):
        qc.load(folder).run(*samples(1, 1)[0])


def test_other_targets_have_no_emulator(folder: Path) -> None:
    from qcompiler.targets import get_target

    with pytest.raises(UnsupportedError, match="target onnx has no emulator"):
        get_target("onnx").open_emulated(folder)


def test_sources_compile_at_load_for_a_newer_card(folder: Path) -> None:
    """What a card does that the fatbin has no code for; NVRTC needs no GPU."""
    requires_nvrtc()
    from qcompiler.targets.cuda.device import compile_at_load

    assert compile_at_load((folder / SOURCE).read_bytes(), folder / HEADERS, 120, "a test").startswith(b"\x7fELF")
