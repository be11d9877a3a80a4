"""Dynamic dimensions: one plan per combination of sizes that the target names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from qcompiler.errors import ConstraintError, UsageError
from qcompiler.executors.reference import run_reference
from qcompiler.ir import DType, Graph, GraphBuilder, Level, QuantParams
from qcompiler.ir.dims import symbol
from qcompiler.targets import get_target
from qcompiler.targets.cuda import emit, verify
from qcompiler.targets.cuda.emit import emit_artefact
from qcompiler.targets.cuda.plan import PLAN, read_plans
from qcompiler.targets.cuda.session import EmulatedSession
from qcompiler.targets.cuda.sizes import parse_sizes
from support.tools import requires_tool

CODES = QuantParams(DType.int8, np.float32(0.03), np.int32(5))


@pytest.fixture(autouse=True)
def no_nvcc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Artefacts without code for devices: what the emulator needs."""
    monkeypatch.setattr(emit, "fatbin", lambda *_: [])


def program() -> Graph:
    """Rows of a table that as many positions index as there are tokens, codes, a layer, attention."""
    rng = np.random.default_rng(0)
    b = GraphBuilder("dynamic", Level.QUANTIZED)
    batch, tokens = symbol("batch"), symbol("tokens")
    x = b.input("x", DType.float32, (batch, tokens, 16))
    places = b.op("slice", b.const(rng.standard_normal((8, 16)).astype(np.float32)), axis=0, start=0, stop=tokens, step=1)
    w = b.const(rng.integers(-127, 128, (16, 16)).astype(np.int8), quant=QuantParams(DType.int8, np.full(16, 0.01), np.zeros(16), 0))
    codes = b.op("quantize", b.op("add", x, places), quant=CODES)
    y = b.op("dequantize", b.op("linear", codes, w, None))
    heads = b.op("transpose", b.op("reshape", y, shape=(batch, tokens, 2, 8)), perm=(0, 2, 1, 3))
    return b.build([b.op("attention", heads, heads, heads, None, causal=True)])


def draw(batch: int, tokens: int) -> list[np.ndarray]:
    return [np.random.default_rng([batch, tokens]).standard_normal((batch, tokens, 16)).astype(np.float32)]


SIZES = {"batch": (1, 2), "tokens": (3, 6)}


def test_every_combination_runs_and_verifies(tmp_path: Path) -> None:
    requires_tool("g++")
    graph = program()
    emit_artefact(graph, 80, tmp_path, {}, SIZES)
    plans = read_plans(tmp_path)
    assert [p.sizes for p in plans] == [{"batch": b, "tokens": t} for b in (1, 2) for t in (3, 6)]
    session = EmulatedSession(tmp_path)
    for plan in plans:
        arrays = draw(**plan.sizes)
        assert np.allclose(session.run(arrays)[0], run_reference(graph, arrays)[0], atol=2e-5)
    found = verify.verify_emulated(graph, tmp_path, [draw(1, 3), draw(2, 6), draw(1, 3)], 80, SIZES)
    found.check()
    assert found.samples == 3 and list(found.ops) == ["emulator batch=1 tokens=3", "emulator batch=2 tokens=6"]
    with pytest.raises(UsageError, match=r"inputs of shapes \[1, 4, 16\]; the artefact was compiled for batch=1, tokens=3; .*tokens=6"):
        session.run(draw(1, 4))


def test_plans_share_kernels_and_constants(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "all").mkdir()
    emit_artefact(program(), 80, tmp_path / "one", {}, {"batch": (2,), "tokens": (6,)})
    emit_artefact(program(), 80, tmp_path / "all", {}, SIZES)
    one, *every = (json.loads((tmp_path / name / PLAN).read_text()) for name in ("one", "all"))
    assert len(one["plans"]) == 1 and len(every[0]["plans"]) == 4
    # what depends on a size: rows of the table and the mask of what comes later
    assert one["weights_bytes"] < every[0]["weights_bytes"] < 2 * one["weights_bytes"]


def test_sizes_that_do_not_fit_the_model(tmp_path: Path) -> None:
    with pytest.raises(ConstraintError, match="dimensions tokens of the model are dynamic; .* name the sizes .* cuda-sm80:tokens=1/2"):
        emit_artefact(program(), 80, tmp_path, {}, {"batch": (1,)})
    with pytest.raises(ConstraintError, match="names sizes of heads; dynamic dimensions of the model are batch, tokens"):
        emit_artefact(program(), 80, tmp_path, {}, {**SIZES, "heads": (1,)})


def test_options() -> None:
    target = get_target("cuda-sm90:batch=1..3,tokens=64/32")
    assert target.sizes == {"batch": (1, 2, 3), "tokens": (32, 64)} and target.name == "cuda-sm90:batch=1..3,tokens=64/32"
    assert parse_sizes("", "cuda-sm80") == {}
    for option in ("batch", "batch=", "batch=a", "batch=3..1", "batch=0", "batch=1,batch=2", "batch=1..65"):
        with pytest.raises(UsageError, match="target cuda-sm80"):
            get_target(f"cuda-sm80:{option}")
