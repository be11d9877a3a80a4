"""Published closed forms, against figures worked out by hand from their papers' formulas."""

from __future__ import annotations

import pytest

from qcompiler.targets.fpga_hls.model import closed_forms as forms
from qcompiler.targets.fpga_hls.model.memory_blocks import block_rams


@pytest.mark.parametrize(("a", "b", "luts"), [(2, 2, 4), (4, 4, 24), (8, 8, 80)])
def test_finn_luts_per_product(a: int, b: int, luts: int) -> None:
    assert forms.finn_luts_per_product(a, b) == luts


def test_finn_unit() -> None:
    assert forms.finn_cycles(64, 256, 4, 8) == 512 and forms.finn_cycles(64, 256, 4, 8, 3) == 1536
    assert forms.finn_acc_bits(256, 8, 8, False) == 25
    assert forms.finn_acc_bits(256, 8, 8, True) == 24
    # 300 + 1.1 * 4 * (8 * 80 + 16 * 15 + 24)
    assert forms.finn_luts(4, 8, 8, 8, 24) == 4278
    assert forms.finn_luts(4, 8, 8, 8, 24, dsp=True) == 1462
    assert forms.finn_luts(4, 8, 8, 8, 24, dsp=True, words=512) == 1462 + 256 * 8
    assert forms.finn_dsp(4, 8, 8, 8) == 32 and forms.finn_dsp(4, 8, 32, 32) == 64


@pytest.mark.parametrize(
    ("width", "depth", "blocks"),
    [(1, 16385, 2), (2, 8192, 1), (4, 4097, 2), (9, 2048, 1), (18, 1025, 2), (36, 512, 1), (36, 513, 2), (256, 512, 8)],
)
def test_finn_block_rams(width: int, depth: int, blocks: int) -> None:
    assert forms.finn_bram18(width, depth) == blocks


def test_finn_uram() -> None:
    assert forms.finn_uram(73, 4097) == 4


def test_hls4ml_dense() -> None:
    assert forms.hls4ml_reuse_factors(4, 2) == [1, 2, 4, 8]
    assert forms.hls4ml_reuse_factors(3, 2) == [1, 3, 6]
    assert forms.hls4ml_dsp(16, 8, 4, 16) == 32 and forms.hls4ml_dsp(16, 8, 4, 8) == 0
    assert forms.hls4ml_bram36(256, 64, 512, 8) == 8 and forms.hls4ml_bram36(256, 64, 1, 8) == 0


@pytest.mark.parametrize(
    ("width", "depth", "written", "blocks"),
    # as yosys 0.23 maps them for series 7
    [
        (256, 512, False, 4), (256, 513, False, 7.5), (8, 577, False, 0.5), (9, 2048, False, 0.5), (20, 700, False, 1),
        (36, 512, False, 0.5), (24, 1152, False, 1), (12, 2304, False, 1), (8, 6272, True, 2),
    ],
)  # fmt: skip
def test_block_rams(width: int, depth: int, written: bool, blocks: float) -> None:
    assert block_rams(width, depth, written) == blocks
