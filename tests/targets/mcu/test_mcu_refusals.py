"""Programs that microcontrollers do not run, refused before any C is compiled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qcompiler.errors import ConstraintError, UnsupportedError
from qcompiler.ir import DType, Origin
from qcompiler.ir.dims import symbol
from qcompiler.targets.mcu.emit import emit_project, plan_program
from qcompiler.targets.mcu.parts import parse_part
from support.integer_networks import IntegerLayers, int8, residual_network
from support.tools import requires_tool

M4 = parse_part("cortex-m4", "")


def test_too_little_flash_names_the_layers_that_take_most(tmp_path: Path) -> None:
    with pytest.raises(ConstraintError, match=r"flash: \d+ bytes of weights and tables, 2048 available") as caught:
        emit_project(residual_network(), parse_part("cortex-m4", "flash=2K"), tmp_path)
    assert caught.value.exit_code == 3
    lines = [line for line in str(caught.value).splitlines() if "bytes  " in line]
    assert "block2.conv2 (conv)" in lines[0] and len(lines) == 5
    assert list(tmp_path.iterdir()) == []


def test_too_little_ram_says_what_no_plan_can_beat(tmp_path: Path) -> None:
    with pytest.raises(ConstraintError, match=r"RAM: an arena of \d+ bytes, 1024 available \(no plan needs less than \d+\)"):
        emit_project(residual_network(), parse_part("cortex-m4", "ram=1K"), tmp_path)


def test_code_and_stack_count_too(tmp_path: Path) -> None:
    requires_tool("arm-none-eabi-gcc")
    with pytest.raises(ConstraintError, match=r"flash: \d+ bytes needed \(\d+ of code, \d+ of constants\), 8192 available"):
        emit_project(residual_network(), parse_part("cortex-m4", "flash=8K"), tmp_path)
    arena = plan_program(residual_network(), M4).arena.size
    with pytest.raises(ConstraintError, match=r"RAM: \d+ bytes needed \(\d+ of arena, \d+ of stack\)"):
        emit_project(residual_network(), parse_part("cortex-m4", f"ram={arena + 100}"), tmp_path)


def test_all_ops_without_a_kernel_are_listed() -> None:
    b = IntegerLayers("strange")
    x = b.codes("x", 1, 6)
    b.origin = Origin("first")
    y = b.op("reduce_min", x, axes=(1,), keepdims=True)
    b.origin = Origin("second")
    z = b.op("requantize_sum", x, x, x, quant=int8(1.0), rounding="dyadic", multipliers=(1, 1, 1), shift=1)
    with pytest.raises(UnsupportedError, match=r"2 ops have no kernel") as caught:
        plan_program(b.graph(y, z), M4)
    assert "reduce_min at first" in str(caught.value) and "requantize_sum at second" in str(caught.value)
    assert caught.value.exit_code == 4


def test_what_reads_a_refused_op_is_not_blamed() -> None:
    b = IntegerLayers("strange")
    x = b.codes("image", 1, 3, 4, 4)
    y = b.conv(b.op("reduce_min", x, axes=(3,), keepdims=True), 4)
    with pytest.raises(UnsupportedError, match=r"1 ops have no kernel"):
        plan_program(b.graph(b.conv(y, 4)), M4)


def test_sizes_must_be_known() -> None:
    b = IntegerLayers("dynamic")
    x = b.input("x", DType.int8, (symbol("batch"), 6), int8(0.1))
    with pytest.raises(ConstraintError, match="dynamic_shapes"):
        plan_program(b.graph(b.linear(x, 3)), M4)


def test_one_rounding_profile() -> None:
    b = IntegerLayers("mixed")
    x = b.linear(b.codes("x", 1, 6), 6)
    b.rounding = "shift_half_even"
    with pytest.raises(UnsupportedError, match="linear0: it rounds by dyadic, the program by shift_half_even"):
        plan_program(b.graph(b.linear(x, 3)), M4)


def test_a_profile_without_kernels() -> None:
    b = IntegerLayers("double")
    m, s = b.const(np.int64(1 << 30)), b.const(np.int64(40))
    x = b.op("requantize", b.codes("x", 1, 6), m, s, quant=int8(0.1), rounding="dyadic_double", qmin=None, qmax=None)
    with pytest.raises(UnsupportedError, match="dyadic, shift_half_even"):
        plan_program(b.graph(x), M4)


def test_accumulators_are_no_output() -> None:
    b = IntegerLayers("raw")
    acc = b.op("linear", b.codes("x", 1, 6), b.weights(3, 6), None)
    with pytest.raises(UnsupportedError, match="accumulators are an output"):
        plan_program(b.graph(acc), M4)


def test_sums_that_could_overflow() -> None:
    b = IntegerLayers("wide")
    x = b.codes("x", 1, 6, zero_point=-128)
    w = b.weights(3, 6)
    acc = b.op("linear", x, w, b.const(np.full(3, 2**31 - 1, np.int32)))
    with pytest.raises(ConstraintError, match="int32 ends at"):
        plan_program(b.graph(b.rescale(acc, 6)), M4)
