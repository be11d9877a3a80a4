"""Whole programs: launches, the plan of memory, the file that describes them, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from qcompiler.errors import (
    ConstraintError,
    MissingToolError,
    UnsupportedError,
    UsageError,
    VerificationError,
)
from qcompiler.executors.reference import run_reference
from qcompiler.ir import DType, Graph, GraphBuilder, Level, QuantParams
from qcompiler.ir.dims import symbol
from qcompiler.kernels.gpu import nvcc
from qcompiler.targets import get_target, known_targets
from qcompiler.targets.cuda import emit, verify
from qcompiler.targets.cuda.emit import emit_artefact, lower
from qcompiler.targets.cuda.memory import plan_memory
from qcompiler.targets.cuda.plan import PLAN, WEIGHTS, read_plans
from qcompiler.targets.cuda.session import EmulatedSession
from support.integer_networks import IntegerLayers, random_codes, residual_network
from support.tools import requires_nvcc, requires_tool

CODES = QuantParams(DType.int8, np.float32(0.02), np.int32(3))


@pytest.fixture
def no_nvcc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Artefacts without code for devices: what the emulator needs."""
    monkeypatch.setattr(emit, "fatbin", lambda *_: [])


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> tuple[Graph, Path]:
    requires_tool("g++")
    requires_nvcc()
    graph = residual_network()
    folder = tmp_path_factory.mktemp("artefact")
    emit_artefact(graph, 80, folder, {"version": "0"})
    return graph, folder


def test_a_network_gives_the_references_integers(artefact: tuple[Graph, Path]) -> None:
    graph, folder = artefact
    samples = [random_codes(graph, seed) for seed in range(3)]
    found = verify.verify_emulated(graph, folder, samples, 80)
    found.check()
    assert found.differing == 0 and found.samples == 3
    assert len(found.ops["emulator"]) == len(lower(graph, 80).steps) and all(c.values for c in found.ops["emulator"])


def test_kernels_are_compiled_for_every_architecture(artefact: tuple[Graph, Path]) -> None:
    rows = json.loads((artefact[1] / "kernels.json").read_text())
    kernels = {launch.kernel for launch in read_plans(artefact[1])[0].launches}
    assert {(r["kernel"], r["arch"]) for r in rows} == {(k, a) for k in kernels for a in nvcc.ARCHITECTURES}
    assert all(r["spill_bytes"] == 0 and 0 < r["registers"] <= 255 and r["shared_bytes"] <= 48 * 1024 for r in rows)
    assert (artefact[1] / "kernels.fatbin").stat().st_size > 0


def test_equal_graphs_give_equal_plans(artefact: tuple[Graph, Path], tmp_path: Path, no_nvcc: None) -> None:
    graph, folder = artefact
    emit_artefact(graph, 80, tmp_path, {"version": "0"})
    for name in (PLAN, WEIGHTS, "kernels.cu"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_verification_finds_a_wrong_constant(artefact: tuple[Graph, Path], tmp_path: Path, no_nvcc: None) -> None:
    graph, _ = artefact
    emit_artefact(graph, 80, tmp_path, {})
    raw = bytearray((tmp_path / WEIGHTS).read_bytes())
    raw[: len(raw) // 4] = bytes(v ^ 1 for v in raw[: len(raw) // 4])
    (tmp_path / WEIGHTS).write_bytes(bytes(raw))
    found = verify.verify_emulated(graph, tmp_path, [random_codes(graph)], 80)
    assert found.failures and any("stem" in f for f in found.failures)
    with pytest.raises(VerificationError, match="the CUDA program does not compute the reference's integers"):
        found.check()


def test_the_arena_holds_what_lives_and_no_more() -> None:
    program = lower(residual_network(), 80)
    memory = plan_memory(program)
    spans: dict[object, list[int]] = {}
    for index, step in enumerate(program.steps):
        for p in step.launch.pointers:
            if p.buffer.data is None:
                spans.setdefault(p.buffer, [index, index])[1] = index
    for view in program.inputs:
        spans[view.buffer][0] = -1
    for view in program.outputs:
        spans[view.buffer][1] = len(program.steps)
    buffers = list(spans)
    for i, a in enumerate(buffers):
        for b in buffers[i + 1 :]:
            together = spans[a][0] <= spans[b][1] and spans[b][0] <= spans[a][1]
            apart = memory.arena[a] + a.size <= memory.arena[b] or memory.arena[b] + b.size <= memory.arena[a]
            assert apart or not together
    assert memory.arena_size < sum(b.size for b in buffers)


@pytest.mark.parametrize("rounding", ["dyadic", "shift_half_even"])
def test_movement_and_shared_outputs(rounding: str, tmp_path: Path, no_nvcc: None) -> None:
    """Views as outputs, an input that is returned, one value twice, a reshape that needs a copy."""
    requires_tool("g++")
    b = IntegerLayers("moves", 3, rounding)
    x = b.codes("x", 1, 8, 6, 6)
    y = b.conv(x, 8)
    turned = b.op("transpose", y, perm=(0, 3, 1, 2))
    flat = b.linear(b.op("reshape", turned, shape=(6, 48)), 5)
    graph = b.graph(x, y, turned, flat, flat, names=("x_again", "y", "turned", "flat", "flat_again"))
    emit_artefact(graph, 89, tmp_path, {})
    arrays = random_codes(graph)
    got = EmulatedSession(tmp_path).run(arrays)
    for a, e in zip(got, run_reference(graph, arrays), strict=True):
        assert a.dtype == e.dtype and np.array_equal(a, e)


def test_masks_are_computed_from_integers(tmp_path: Path, no_nvcc: None) -> None:
    """Padding and a least position, joined and broadcast over heads, choose between codes."""
    requires_tool("g++")
    b = GraphBuilder("mask", Level.INTEGER)
    padding, start = b.input("padding", DType.int64, (2, 5)), b.input("start", DType.int64, (2, 1))
    x = b.input("x", DType.int8, (2, 3, 5), CODES)
    late = b.op("less_equal", b.op("minimum", start, b.const(np.int64(3))), b.const(np.arange(5)))
    keep = b.op("logical_and", b.op("cast", padding, dtype=DType.bool), late)
    keep = b.op("reshape", keep, shape=(2, 1, 5))
    other = b.const(np.full((1, 1, 5), -7, np.int8), quant=CODES)
    graph = b.build([b.op("where", keep, x, other), keep])
    emit_artefact(graph, 80, tmp_path, {})
    arrays = [np.array([[1, 1, 1, 0, 1], [1, 0, 1, 1, 1]]), np.array([[0], [9]]), np.arange(30, dtype=np.int8).reshape(2, 3, 5)]
    for got, expected in zip(EmulatedSession(tmp_path).run(arrays), run_reference(graph, arrays), strict=True):
        assert got.dtype == expected.dtype and np.array_equal(got, expected)


def test_refusals_name_every_op() -> None:
    b = GraphBuilder("refused", Level.INTEGER)
    x = b.input("x", DType.int8, (1, 4, 6), CODES)
    w = b.input("w", DType.int8, (2, 6), QuantParams(DType.int8, np.float32(0.1), np.int32(0)))
    one = b.const(np.int64(1 << 30))
    acc = b.op("linear", x, w)
    y = b.op("requantize", acc, one, b.const(np.int64(40)), quant=CODES, rounding="dyadic")
    z = b.op("lookup", x, b.input("table", DType.int8, (256,)), quant=CODES)
    with pytest.raises(UnsupportedError, match=r"(?s)2 ops have no CUDA kernel.*requantize.*its weights are computed.*lookup.*its table is computed"):
        lower(b.build([y, z]), 80)


def test_other_levels_and_symbols_are_refused() -> None:
    b = GraphBuilder("float", Level.FLOAT)
    x = b.input("x", DType.float32, (2,))
    with pytest.raises(UnsupportedError, match="quantized and integer programs, this one has level float"):
        lower(b.build([b.op("add", x, x)]), 80)
    c = GraphBuilder("symbolic", Level.INTEGER)
    v = c.input("x", DType.int8, (symbol("batch"), 4), CODES)
    with pytest.raises(ConstraintError, match="'x' has shape.*batch.*need fixed sizes"):
        lower(c.build([c.op("transpose", v, perm=(1, 0))]), 80)


def test_indices_are_checked_before_kernels_run(tmp_path: Path, no_nvcc: None) -> None:
    requires_tool("g++")
    b = GraphBuilder("embedding", Level.INTEGER)
    ids = b.input("ids", DType.int64, (1, 3))
    table = b.const(np.arange(40, dtype=np.int8).reshape(10, 4), quant=CODES)
    graph = b.build([b.op("gather", table, ids)])
    emit_artefact(graph, 80, tmp_path, {})
    session = EmulatedSession(tmp_path)
    good = np.array([[0, 9, -10]])
    assert np.array_equal(session.run([good])[0], run_reference(graph, [good])[0])
    for bad in (10, -11):
        with pytest.raises(UsageError, match=rf"'ids' indexes a table of 10 rows, got .*{bad}"):
            session.run([np.array([[0, 0, bad]])])
    with pytest.raises(UsageError, match=r"'ids' must be int64\[1, 3\], got int32"):
        session.run([good.astype(np.int32)])


def test_damaged_folders(tmp_path: Path, no_nvcc: None) -> None:
    graph = residual_network()
    emit_artefact(graph, 80, tmp_path, {})
    raw = (tmp_path / WEIGHTS).read_bytes()
    (tmp_path / WEIGHTS).write_bytes(raw[:-5])
    with pytest.raises(UsageError, match="weights.bin has .* bytes, .* were written: it is damaged"):
        EmulatedSession(tmp_path)
    plan = json.loads((tmp_path / PLAN).read_text())
    (tmp_path / PLAN).write_text(json.dumps({**plan, "schema_version": 99}))
    with pytest.raises(UsageError, match="has version 99"):
        read_plans(tmp_path)
    (tmp_path / PLAN).write_text("{")
    with pytest.raises(UsageError, match="cannot read"):
        read_plans(tmp_path)


def test_without_nvcc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(nvcc, "find_nvcc", lambda: None)
    with pytest.raises(MissingToolError, match=r"nvcc, which is not installed: pip install 'qcompiler\[cuda-build\]'"):
        emit_artefact(residual_network(), 80, tmp_path, {})


def test_target_names() -> None:
    assert {f"cuda-sm{a}" for a in nvcc.ARCHITECTURES} <= known_targets().keys()
    target = get_target("cuda-sm89")
    assert target.quantizes("matmul") and target.can("float_islands") and not target.can("measurable")
    with pytest.raises(UsageError, match="cuda-sm80 takes sizes of dynamic dimensions, as .*, got 'fast'"):
        get_target("cuda-sm80:fast")
