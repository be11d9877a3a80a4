"""Parts of units beside what a netlist of yosys has of them, counted by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.fpga.reference_unit import reference_unit
from qcompiler.targets.fpga_hls.model.memory_blocks import lut_ram
from qcompiler.targets.fpga_hls.model.pieces import Count, choice, code_bits, product_luts, shift_luts
from qcompiler.targets.fpga_hls.model.resources import unit_usage
from qcompiler.targets.fpga_hls.stream import Scaling


@pytest.mark.parametrize(
    ("sums", "terms", "bits", "hard", "lut", "ff", "result"),
    [
        (4, 12, 4, False, 96 + 60 + 24 + 28, 120 + 72 + 52 + 32, 8),
        (12, 4, 16, True, 12 * 17, 12 * 18, 18),  # the first level is in DSP blocks
        (1, 27, 12, True, 91 + 42 + 30 + 16, 98 + 59 + 32 + 17, 17),
        (3, 9, 11, False, 132 + 72 + 39 + 42 + 33, 144 + 78 + 42 + 45, 15),  # the ninth waits three clocks, in a shift register
        (5, 1, 8, False, 0, 0, 8),
    ],
)
def test_adder_trees(sums: int, terms: int, bits: int, hard: bool, lut: int, ff: int, result: int) -> None:
    count = Count(25)
    assert count.tree(np.ones((sums, terms), bool), bits, hard) == result
    assert (count.lut, count.ff) == (lut, ff)


def test_terms_that_are_always_zero_are_not_added() -> None:
    count = Count(25)
    assert count.tree(np.array([[True, False, True, True], [False, False, False, True]]), 8, False) == 10
    # row 0: one adder of a pair, one of the halves; row 1: a number that is passed on
    assert (count.lut, count.ff) == (8 + 9, (8 + 9 + 10) + (8 + 9))


@pytest.mark.parametrize(
    ("width", "depth", "cells", "parts"), [(216, 1, 108, 1), (16, 144, 60, 5), (4, 576, 72, 9), (48, 4, 32, 1), (128, 48, 172, 1)]
)
def test_memories_in_luts(width: int, depth: int, cells: int, parts: int) -> None:
    assert lut_ram(width, depth) == (cells, parts)


def test_a_rom_has_as_many_columns_as_differ() -> None:
    count = Count(25)
    address = np.arange(8)
    columns = [address >> 1 & 1, np.zeros(8), np.ones(8), address == 3, address == 3, address == 5]
    assert count.rom(np.stack(columns, axis=1).astype(np.uint8), "lut") == 3
    assert (count.lut, count.ff, count.bram) == (2, 3, 0)  # one column is a bit of the address


def test_a_rom_in_blocks_counts_them_only() -> None:
    count = Count(25)
    assert count.rom(np.zeros((512, 72), np.uint8), "bram") == 0
    assert (count.lut, count.ff, count.bram) == (0, 0, 1.0)


def test_products_and_choices() -> None:
    assert product_luts(2, 2, False) == 4 and product_luts(4, 4, True) == 26
    assert shift_luts(8, 8, 7) == 26 and shift_luts(8, 8, 1) == 9
    assert [choice(n) for n in (1, 2, 4, 8)] == [0, 1, 1, 3] and choice(7) == 2.5 and choice(64) == 2 * choice(32)


def scaling(**changes: object) -> Scaling:
    """Codes of 8 bits from accumulators of 20, all of a range that they fill."""
    return replace(Scaling("dyadic", np.array([(1 << 17) - 1]), 27, 3, -128, 127, 8, True), **changes)


def test_rescalers() -> None:
    narrow, wide = Count(25), Count(25)
    assert narrow.rescaler(scaling(), 12) == 4 and wide.rescaler(scaling(), 20) == 8
    assert narrow.dsp == wide.dsp == 1
    assert wide.ff == 11 + 11 + 11 + 8  # the bias is added in the block, and its register is there
    assert wide.lut == 3 + 8  # one carry and two bits of the zero point inverted, and the limits
    assert Count(25).rescaler(scaling(), 27) == 8
    shifts = Count(25)
    shifts.rescaler(scaling(rounding="shift_half_even", multiplier=np.array([1]), shift=12), 20)
    assert shifts.dsp == 0 and shifts.lut > 2 * 20, "an adder and shift registers in place of the block"


def test_codes_vary_as_much_as_what_is_left_of_a_product() -> None:
    assert [code_bits(scaling(), kept) for kept in (1, 5, 30)] == [4, 5, 8]
    assert code_bits(scaling(zero_point=0), 1) == 2


def test_weights_that_repeat_take_less_in_luts() -> None:
    unit = replace(reference_unit(weight_bits=4, act_bits=4), weights=reference_unit(weight_bits=4).weights[:16, :32], bias=np.zeros(16, np.int64))
    unit = replace(unit, scaling=replace(unit.scaling, multiplier=unit.scaling.multiplier[:16])).folded(storage="lut")
    same = replace(unit, weights=np.repeat(unit.weights[:, :1], 32, axis=1))
    assert unit_usage(same).lut < unit_usage(unit).lut and unit_usage(same).dsp == unit_usage(unit).dsp
