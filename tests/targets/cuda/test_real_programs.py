"""Programs with float islands: whole compiles by recipe, a cache of keys and values, what verification sees, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import qcompiler as qc
from qcompiler.errors import UnsupportedError, VerificationError
from qcompiler.executors.reference import run_reference
from qcompiler.ir import DType, Graph, GraphBuilder, Level, QuantParams
from qcompiler.targets.cuda import emit, verify
from qcompiler.targets.cuda.emit import emit_artefact, lower
from qcompiler.targets.cuda.plan import WEIGHTS
from qcompiler.targets.cuda.session import EmulatedSession
from support.tools import requires_tool

WIDTH, HEADS, TOKENS = 64, 4, 6


@pytest.fixture(autouse=True)
def no_nvcc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Artefacts without code for devices: what the emulator needs."""
    monkeypatch.setattr(emit, "fatbin", lambda source, headers, output: output.write_bytes(b"") or [])


class Block(torch.nn.Module):
    """Embedding, normalized attention, a gated layer, a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = torch.nn.Embedding(20, WIDTH)
        self.norm, self.last = torch.nn.LayerNorm(WIDTH), torch.nn.RMSNorm(WIDTH)
        self.qkv, self.out = torch.nn.Linear(WIDTH, 3 * WIDTH), torch.nn.Linear(WIDTH, WIDTH)
        self.up, self.down = torch.nn.Linear(WIDTH, 4 * WIDTH), torch.nn.Linear(2 * WIDTH, WIDTH)
        self.head = torch.nn.Linear(WIDTH, 20)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.words(ids)
        q, k, v = (t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in self.qkv(self.norm(x)).chunk(3, -1))
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        gate, value = self.up(self.last(x)).chunk(2, -1)
        return self.head(x + self.down(torch.nn.functional.gelu(gate) * value))


def samples(count: int = 6) -> list[tuple[np.ndarray, ...]]:
    rng = np.random.default_rng(1)
    return [(rng.integers(0, 20, (1, TOKENS)),) for _ in range(count)]


@pytest.mark.parametrize(
    ("recipe", "kernel"),
    [("w8a8", "to_real_float32"), ("w8a8-dynamic", "group_product8_16"), ("w4a16", "weight_only4_rows"), ("w4a8", "group_product4_16")],
)
def test_recipes_with_float_islands(recipe: str, kernel: str) -> None:
    """A compile verifies every launch and whole runs; what it made has the kernels of the recipe."""
    requires_tool("g++")
    example = (torch.tensor(samples(1)[0][0]),)
    compiled = qc.compile(Block().eval(), example, target="cuda-sm80", recipe=recipe, calibration=samples(), progress=False)
    assert compiled.graph.level is Level.QUANTIZED
    assert any(kernel in row.kernel for row in compiled.report.coverage)
    assert compiled.report.accuracy.sqnr_db > 15


CODES = QuantParams(DType.int8, np.float32(0.03), np.int32(5))


def quantized_layer() -> tuple[Graph, list[np.ndarray]]:
    """Codes, a layer, a residual sum, real numbers, a norm."""
    rng = np.random.default_rng(2)
    b = GraphBuilder("layer", Level.QUANTIZED)
    x = b.input("x", DType.float32, (12, 32))
    w = b.const(rng.integers(-127, 128, (32, 32)).astype(np.int8), quant=QuantParams(DType.int8, np.linspace(0.001, 0.01, 32), np.zeros(32), 0))
    codes = b.op("quantize", x, quant=CODES)
    factor = b.const(np.linspace(0.004, 0.02, 32).astype(np.float32))
    y = b.op("requantize", b.op("linear", codes, w, None), factor, quant=CODES, rounding="float32_half_even")
    total = b.op("requantize_sum", y, codes, quant=CODES, rounding="float32_half_even", real_multipliers=(0.7, 0.6))
    return b.build([b.op("softmax", b.op("dequantize", total), axis=-1)]), [rng.uniform(-4, 4, (12, 32)).astype(np.float32)]


def test_integers_of_float_rescales_are_equal(tmp_path: Path) -> None:
    requires_tool("g++")
    graph, arrays = quantized_layer()
    emit_artefact(graph, 80, tmp_path, {})
    found = verify.verify_emulated(graph, tmp_path, [arrays], 80)
    found.check()
    assert [c.where.partition(" ")[0] for c in found.ops["emulator"]] == ["quantize", "requantize_sum", "dequantize", "softmax"]
    assert all(c.differing == 0 for c in found.ops["emulator"]) and found.sqnr_db > 100


def test_verification_finds_a_wrong_weight(tmp_path: Path) -> None:
    requires_tool("g++")
    graph, arrays = quantized_layer()
    emit_artefact(graph, 80, tmp_path, {})
    raw = np.fromfile(tmp_path / WEIGHTS, np.uint8)
    raw[:1500] ^= 1
    raw.tofile(tmp_path / WEIGHTS)
    found = verify.verify_emulated(graph, tmp_path, [arrays], 80)
    with pytest.raises(VerificationError, match="requantize_sum.*values differ"):
        found.check()


def test_a_cache_of_keys_and_values(tmp_path: Path) -> None:
    """State is paired inputs and outputs: what a step gives is what the next one takes."""
    requires_tool("g++")
    rng = np.random.default_rng(3)

    def step(past: int) -> Graph:
        b = GraphBuilder("step", Level.QUANTIZED)
        q, k, v = (b.input(n, DType.float32, (1, 2, 1, 8)) for n in "qkv")
        keys, values = (b.input(f"past_{n}", DType.float32, (1, 2, past, 8)) for n in "kv")
        keys, values = b.op("concat", keys, k, axis=2), b.op("concat", values, v, axis=2)
        return b.build([b.op("attention", q, keys, values, None), keys, values])

    state = [rng.standard_normal((1, 2, 3, 8)).astype(np.float32) for _ in range(2)]
    wanted = [s.copy() for s in state]
    for past in (3, 4):
        graph = step(past)
        folder = tmp_path / str(past)
        folder.mkdir()
        emit_artefact(graph, 80, folder, {})
        new = [rng.standard_normal((1, 2, 1, 8)).astype(np.float32) for _ in range(3)]
        y, *state = EmulatedSession(folder).run([*new, *state])
        expected, *wanted = run_reference(graph, [*new, *wanted])
        assert np.allclose(y, expected, atol=1e-5)
        assert all(np.array_equal(a, b) for a, b in zip(state, wanted, strict=True))


def refused() -> Graph:
    """A convolution over four axes is no op; one over three that reaches too far is refused."""
    b = GraphBuilder("refused", Level.QUANTIZED)
    x = b.input("x", DType.int8, (1, 2, 600, 4, 4), CODES)
    w = b.const(np.ones((3, 2, 1, 1, 1), np.int8), quant=QuantParams(DType.int8, np.float32(0.1), np.int32(0)))
    acc = b.op("conv", x, w, None, strides=(1, 1, 1), pads=(0,) * 6, dilations=(1, 1, 1))
    return b.build([b.op("dequantize", acc)])


def test_refusals() -> None:
    with pytest.raises(UnsupportedError, match=r"1 ops have no CUDA kernel.*\n.*\[600, 4, 4\] elements; distances go to \[510, 2047, 2047\]"):
        lower(refused(), 80)
