"""Programs and options that the FPGA target does not take."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.fpga.draw_units import alone, draw_unit
from qcompiler.errors import ConstraintError, MissingToolError, UnsupportedError, UsageError
from qcompiler.ir import DType, Origin
from qcompiler.ir.dims import symbol
from qcompiler.targets import get_target
from qcompiler.targets.fpga_hls import toolchain
from qcompiler.targets.fpga_hls.legalize import legalize
from qcompiler.targets.fpga_hls.parts import parse_option
from qcompiler.targets.fpga_hls.runtime import SimulationSession
from qcompiler.targets.fpga_hls.verilog.emit import emit_design
from qcompiler.targets.fpga_hls.verilog.simulate import simulate
from qcompiler.targets.fpga_hls.verilog.synthesis import route_ecp5, synthesize
from support.integer_networks import IntegerLayers, int8, residual_network


def test_all_ops_without_a_streaming_form_are_listed() -> None:
    b = IntegerLayers("strange")
    x = b.codes("x", 1, 6)
    b.origin = Origin("first")
    y = b.op("flip", x, axes=(1,))
    b.origin = Origin("second")
    z = b.op("requantize_sum", x, x, x, quant=int8(1.0), rounding="dyadic", multipliers=(1, 1, 1), shift=1)
    with pytest.raises(UnsupportedError, match="2 ops have no streaming form") as caught:
        legalize(b.graph(y, z))
    message = str(caught.value)
    assert "flip at first: it has no streaming form; reorder the input channels of the layer" in message
    assert "requantize_sum at second: a sum of 3 operands has no unit" in message
    assert caught.value.exit_code == 4


def test_groups_and_orders_without_a_unit() -> None:
    b = IntegerLayers("grouped")
    x = b.codes("x", 1, 8, 4, 4)
    grouped = b.conv(x, 8, groups=2, at="grouped")
    turned = b.linear(b.op("transpose", b.op("reshape", x, shape=(1, 8, 16)), perm=(0, 2, 1)), 3, at="fine")
    rows = b.linear(b.op("reshape", x, shape=(1, 8, 16)), 3, at="across")
    with pytest.raises(UnsupportedError, match="2 ops") as caught:
        legalize(b.graph(grouped, turned, rows))
    assert "requantize at grouped" in str(caught.value) and "2 groups of 8 to 8 channels" in str(caught.value)
    assert "requantize at across" in str(caught.value) and "does not arrive row after row" in str(caught.value)


@pytest.mark.parametrize(("first", "message"), [(symbol("batch"), "dynamic_shapes"), (2, "a batch of 1")])
def test_sizes_must_be_fixed(first: object, message: str) -> None:
    b = IntegerLayers("sizes")
    x = b.input("x", DType.int8, (first, 6), int8(0.1))
    with pytest.raises(ConstraintError, match=message) as caught:
        legalize(b.graph(b.linear(x, 3)))
    assert caught.value.exit_code == 3


def test_other_roundings_are_refused() -> None:
    b = IntegerLayers("double")
    x = b.codes("x", 1, 6)
    acc = b.op("linear", x, b.weights(3, 6), b.bias(3))
    m, s = b.const(np.int64(1 << 30)), b.const(np.int64(40))
    with pytest.raises(UnsupportedError, match="it rounds by dyadic_double"):
        legalize(b.graph(b.op("requantize", acc, m, s, quant=int8(0.1), rounding="dyadic_double")))


def test_an_output_that_nothing_computes() -> None:
    b = IntegerLayers("straight")
    x = b.codes("x", 1, 6)
    with pytest.raises(UnsupportedError, match="is the input 'x' itself"):
        legalize(b.graph(x, b.linear(x, 2)))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("xc7z02", "unknown part 'xc7z02'.*Did you mean 'xc7z020'"),
        ("xc7z020@fast", "clock 'fast' is none; write it in MHz"),
        ("xc7z020@0", "between 1 and 1000"),
        ("xc7z020,mult_bits=12", "known: mult_bits=31"),
        ("xc7z020,fast", "option 'fast'"),
    ],
)
def test_bad_options(option: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        get_target(f"fpga-hls:{option}")


def test_options() -> None:
    target = get_target("fpga-hls")
    assert target.name == "fpga-hls:xc7z020" and target.mult_bits == 17 and target.can("one_shift_per_layer")
    assert get_target("fpga-hls:@150MHz,mult_bits=31").name == "fpga-hls:xc7z020@150,mult_bits=31"
    assert parse_option("xcu250@250").period_ns == 4.0
    assert get_target(target.name).name == target.name


def test_missing_tools_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingToolError, match=r"apt-get install g\+\+"):
        SimulationSession(residual_network(), parse_option(""))
    monkeypatch.setattr(toolchain.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingToolError, match=r"qcompiler\[fpga\]"):
        toolchain.vendor_types()


def test_missing_open_tools_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    design = emit_design(alone(draw_unit("lookup", np.random.default_rng(0)), "alone"))
    for simulator, package in (("verilator", "verilator"), ("icarus", "iverilog")):
        with pytest.raises(MissingToolError, match=f"apt-get install {package}") as caught:
            simulate([], simulator)
        assert caught.value.exit_code == 6
    with pytest.raises(MissingToolError, match="apt-get install yosys"):
        synthesize(design)
    monkeypatch.setattr("qcompiler.targets.fpga_hls.verilog.synthesis.sys.executable", "/nowhere/python")
    with pytest.raises(MissingToolError, match="nextpnr-ecp5 is not installed"):
        route_ecp5(design)
