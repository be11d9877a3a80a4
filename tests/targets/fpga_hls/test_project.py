"""Whole projects: C simulation beside the reference interpreter, every value that flows, and what their files hold."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from qcompiler.ir import DType, Graph, QuantParams
from qcompiler.targets.fpga_hls.emit import emit_project, plan_network
from qcompiler.targets.fpga_hls.parts import parse_option
from qcompiler.targets.fpga_hls.runtime import SimulationSession, open_folder
from qcompiler.targets.fpga_hls.units import Fork, FramePool, MatrixVector
from qcompiler.targets.fpga_hls.verify import verify_simulation
from support.integer_networks import IntegerLayers, int8, random_codes, residual_network
from support.tools import requires_tool

SMALL = parse_option("xc7a35t")


def check(graph: Graph, samples: int = 3) -> int:
    """Compile a network natively and compare all that flows; the number of values compared."""
    requires_tool("g++")
    session = SimulationSession(graph, SMALL)
    found = verify_simulation(graph, session, [random_codes(graph, seed) for seed in range(samples)])
    found.check()
    assert found.differing == 0 and found.samples == samples
    return sum(c.values for c in found.ops["C simulation"])


@pytest.mark.parametrize("rounding", ["dyadic", "shift_half_even"])
def test_a_residual_network(rounding: str) -> None:
    graph = residual_network(1, rounding)
    plan = plan_network(graph, SMALL)
    kinds = [type(u) for u in plan.dataflow.units]
    assert kinds.count(Fork) == 2 and kinds.count(FramePool) == 1
    assert max(edge.depth for edge in plan.dataflow.edges) > 64, "a shortcut holds what the layers beside it work on"
    assert check(graph) > 10_000


def test_the_vendors_integers_compute_the_same(tmp_path: Path) -> None:
    pytest.importorskip("hls4ml", reason="needs the vendor's ap_int.h: pip install 'qcompiler[fpga]'")
    requires_tool("g++")
    graph = residual_network(2, size=8)
    emit_project(graph, SMALL, tmp_path)
    samples = [random_codes(graph, seed) for seed in range(3)]
    verify_simulation(graph, open_folder(tmp_path, SMALL, vendor=True), samples).check()


def unsigned(bits: int, scale: float, zero_point: int) -> QuantParams:
    return QuantParams(DType[f"uint{bits}"], np.float32(scale), np.int32(zero_point))


@pytest.mark.parametrize(("weight_bits", "act_bits"), [(4, 4), (2, 4), (3, 5), (4, 8), (8, 4)])
def test_narrow_weights_and_codes(weight_bits: int, act_bits: int) -> None:
    b = IntegerLayers("narrow", weight_bits * 10 + act_bits)
    x = b.input("x", DType[f"uint{act_bits}"], (1, 3, 7, 6), unsigned(act_bits, 0.1, 3))
    weights = b.weights(8, 3, 3, 3, bits=weight_bits)
    attrs = {"pads": (1, 1, 1, 1), "dilations": (1, 1), "groups": 1}
    acc = b.op("conv", x, weights, b.bias(8), strides=(1, 1), **attrs)
    m, s = b.const(b.rng.integers(1 << 16, 1 << 17, 8)), b.const(np.full(8, 26 - (16 - act_bits - weight_bits)))
    y = b.op("requantize", acc, m, s, quant=unsigned(act_bits, 0.1, 1), rounding="dyadic")
    assert check(b.graph(b.conv(y, 5, groups=1, stride=2), y)) > 300


def test_layouts_pools_tables_and_concatenations() -> None:
    b = IntegerLayers("layouts", 7)
    x = b.codes("x", 1, 4, 9, 8)
    y = b.op("max_pool", x, kernel=(3, 2), strides=(2, 2), pads=(1, 0, 1, 0), ceil_mode=False)
    quant = int8(0.03, 9)
    y = b.op("lookup", y, b.const(b.rng.integers(-128, 128, 256).astype(np.int8), quant=quant), quant=quant)
    z = b.conv(x, 4, 3, 2)
    z = b.op("requantize", z, b.const(np.int64(77_777)), b.const(np.int64(16)), quant=quant, rounding="dyadic", qmin=-100)
    both = b.op("concat", y, z, axis=1)
    rows = b.op("transpose", b.op("reshape", both, shape=(1, 8, 20)), perm=(0, 2, 1))  # pixels by channels: nothing moves
    flat = b.op("reshape", both, shape=(1, 160))  # arrives channels last: columns of the layer behind are reordered
    graph = b.graph(b.linear(rows, 6), b.linear(flat, 3), b.mean(both))
    plan = plan_network(graph, SMALL)
    assert sum(isinstance(u, Fork) for u in plan.dataflow.units) == 3
    assert check(graph) > 1000


def test_signals_of_one_axis_and_two_inputs() -> None:
    b = IntegerLayers("signal", 3)
    x, y = b.codes("x", 1, 3, 17), b.codes("y", 1, 3, 17)
    z = b.add(b.conv(x, 3, 5), y)
    assert check(b.graph(b.conv(z, 6, 3, stride=2, groups=1), z, names=("first", "second"))) > 100


def test_sixteen_bit_sums() -> None:
    b = IntegerLayers("wide", 5)
    wide = QuantParams(DType.int16, np.float32(0.001))
    x = b.linear(b.codes("x", 1, 24), 16)
    acc = b.op("linear", x, b.weights(16, 16), b.bias(16))
    y = b.op("requantize", acc, b.const(np.int64(100_000)), b.const(np.int64(20)), quant=wide, rounding="dyadic")
    total = b.op("requantize_sum", y, x, quant=wide, rounding="dyadic", multipliers=(-70_000, 99_999), shift=17)
    narrow = b.op("requantize", total, b.const(np.int64(100_001)), b.const(np.int64(22)), quant=int8(0.1), rounding="dyadic")
    assert check(b.graph(narrow, total)) > 100


def test_a_project_builds_by_its_own_makefile(tmp_path: Path) -> None:
    requires_tool("g++")
    graph = residual_network(4, size=8)
    emission = emit_project(graph, parse_option("xczu3eg@250"), tmp_path, {"version": "1.0", "recipe": "w8a8-int"})
    done = subprocess.run([requires_tool("make"), "--no-print-directory", "csim"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "4 vectors, 0 of 40 values differ"
    script = (tmp_path / "vitis_hls.tcl").read_text()
    assert "set_part {xczu3eg-sbva484-1-e}" in script and "create_clock -period 4 " in script and "set_top residual" in script
    top = (tmp_path / "top.cpp").read_text()
    assert "#pragma HLS DATAFLOW" in top and "recipe w8a8-int" in top
    named = {k.module for k in emission.kernels}
    assert {"stem", "block1.conv1", "head"} <= named
    assert {p.relative_to(tmp_path).as_posix() for p in emission.files} >= {"top.cpp", "top.h", "test/testbench.cpp", "Makefile"}


def test_a_project_that_computes_something_else_is_found_out(tmp_path: Path) -> None:
    requires_tool("g++")
    graph = residual_network(5, size=8)
    emit_project(graph, SMALL, tmp_path)
    unit = next(u for u in plan_network(graph, SMALL).dataflow.units if isinstance(u, MatrixVector))
    config = tmp_path / "units" / f"{unit.name}.h"
    config.write_text(config.read_text().replace("static const int zero_point = -128", "static const int zero_point = -127"))
    found = verify_simulation(graph, open_folder(tmp_path, SMALL), [random_codes(graph)])
    assert found.failures and "stem" in found.failures[0]
    done = subprocess.run([requires_tool("make"), "--no-print-directory", "csim"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "values differ" in done.stdout


def test_equal_graphs_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        emit_project(residual_network(6), SMALL, tmp_path / name)
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert len(files) > 20
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)
