"""The Verilog twins of all units: integers and clocks, in two simulators."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.fpga.draw_units import KINDS, alone, draw_unit
from benchmarks.fpga.fuzz_units import fuzz
from qcompiler.errors import InternalError, UnsupportedError, UsageError
from qcompiler.ir.fixed_point import rescale_dyadic
from qcompiler.targets.fpga_hls.stream import Port, Scaling, Unit
from qcompiler.targets.fpga_hls.verilog.emit import emit_design
from qcompiler.targets.fpga_hls.verilog.instance import instance, rescale_lanes
from qcompiler.targets.fpga_hls.verilog.rescaling import hardware_scaling
from qcompiler.targets.fpga_hls.verilog.simulate import Stimulus, simulate
from qcompiler.targets.fpga_hls.verilog.storage import in_block, queue_depth
from qcompiler.targets.fpga_hls.verilog.words import fields, hex_text, pack, unpack
from support.tools import requires_tool


def test_units_in_icarus() -> None:
    requires_tool("iverilog")
    found = fuzz(33, seed=0, simulator="icarus")
    assert found["units"] == 33 and found["digits"] and found["integers"] > 2000
    assert found["differing"] == 0 and found["clocks"] == 0, found


def test_units_in_verilator() -> None:
    requires_tool("verilator")
    found = fuzz(len(KINDS), seed=2, simulator="verilator")
    assert found["units"] == len(KINDS)
    assert found["differing"] == 0 and found["clocks"] == 0, found


@pytest.mark.parametrize("bits", [1, 2, 3, 8, 13, 16, 25])
@pytest.mark.parametrize("signed", [False, True])
def test_words_round_trip(bits: int, signed: bool) -> None:
    low = -(1 << bits - 1) if signed else 0
    codes = np.random.default_rng(bits).integers(low, low + (1 << bits), (7, 5))
    codes[0, 0], codes[0, 1] = low, low + (1 << bits) - 1
    assert np.array_equal(unpack(pack(codes, bits), 5, bits, signed), codes)


def test_words_refuse_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"\[-9, 3\] does not fit 4 bits"):
        pack(np.array([[3, -9]]), 4)


def test_memory_text_ends_its_last_line() -> None:
    assert hex_text([10, 255]) == "a\nff\n"


def test_fields_put_the_first_part_lowest() -> None:
    row = fields([(np.array([1]), 2), (np.array([0]), 0), (np.array([5]), 3)])
    assert row.tolist() == [[1, 0, 1, 0, 1]]


@pytest.mark.parametrize("seed", range(5))
def test_narrow_multipliers_stand_for_the_same_factors(seed: int) -> None:
    rng = np.random.default_rng(seed)
    wide = rng.integers(1 << 16, 1 << 17, 9) << rng.integers(0, 6, 9)
    scaling = Scaling("dyadic", wide, 30, 0, -128, 127, 8, True)
    held = hardware_scaling(scaling)
    assert held.multiplier_bits == 17 and held.least >= 1 and held.extra.min() == 0
    acc = rng.integers(-(1 << 24), 1 << 24, (50, 9))
    narrow = rescale_dyadic(acc, held.multiplier, held.least + held.extra)
    assert np.array_equal(narrow, rescale_dyadic(acc, wide, np.asarray(30)))


def test_powers_of_two_need_no_multiplier() -> None:
    held = hardware_scaling(Scaling("shift_half_even", np.array([1, 4, 16]), 3, 0, -128, 127, 8, True))
    assert held.multiplier_bits == 0 and held.left == 2
    assert (held.least + held.extra - held.left).tolist() == [3, 1, -1]


@pytest.mark.parametrize(("pe", "words", "lanes"), [(8, 1, 8), (8, 3, 4), (8, 8, 1), (6, 100, 1), (9, 2, 9), (9, 3, 3)])
def test_rescalers_keep_up_with_results(pe: int, words: int, lanes: int) -> None:
    assert rescale_lanes(pe, words) == lanes


def test_storage() -> None:
    assert in_block(64, 65, "auto") and not in_block(64, 64, "auto") and not in_block(4, 128, "auto")
    assert in_block(1, 1, "bram") and in_block(1, 1, "uram") and not in_block(1000, 1000, "lut")
    assert [queue_depth(n) for n in (0, 1, 2, 3, 4, 5, 33)] == [2, 2, 2, 4, 4, 8, 64]


def test_a_unit_without_twin_is_refused() -> None:
    class Odd(Unit):
        inputs = outputs = (Port(1, 1, 8, True, 1),)
        choices: dict = {}

    with pytest.raises(UnsupportedError, match=r"odd \(of net.odd\): a Odd has no Verilog twin.*MatrixVector"):
        instance(Odd("odd", "net.odd"), 25)


def test_unknown_simulator() -> None:
    with pytest.raises(UsageError, match="no simulator 'vcs'; known: verilator, icarus"):
        simulate([], "vcs")


def test_a_simulator_that_refuses_says_why() -> None:
    requires_tool("iverilog")
    design = emit_design(alone(draw_unit("lookup", np.random.default_rng(0)), "broken"))
    bad = type(design)(**{**vars(design), "text": "module broken (nonsense"})
    with pytest.raises(InternalError, match="iverilog failed"):
        simulate([Stimulus(bad, [np.zeros((0, 1))], 1)], "icarus")
