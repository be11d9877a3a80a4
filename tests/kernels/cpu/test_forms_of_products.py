"""Which form a product of 8-bit codes takes, and that each is exact where its operands are extreme."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from qcompiler.ir import DType, Graph, QuantParams
from qcompiler.kernels.cpu.isa import isa_named
from qcompiler.passes.rounding.limit_sums import limited_weights
from qcompiler.targets.saturation import pair_safe_scale
from support.integer_networks import IntegerLayers
from support.tvm_programs import built_for, differing, runnable, session_of

tvm = pytest.importorskip("tvm", reason="needs TVM: pip install 'qcompiler[tvm]'")

SHORT = {2: "vpmaddubsw int8", 4: "vpmaddubsw-x2 int8", 8: "vpmaddubsw-x4 int8"}
PAIRED, NARROW = SHORT[2], "vpmaddwd int8"


def linear(weights: np.ndarray, rows: int, zero_point: int, shift: int = 40, multipliers: int | np.ndarray = (1 << 30) + 12345) -> Graph:
    """int8 codes [rows, K] times weights [N, K], rescaled."""
    b = IntegerLayers("product")
    columns, depth = weights.shape
    x = b.input("x", DType.int8, (rows, depth), QuantParams(DType.int8, 0.02, zero_point))
    quant = QuantParams(DType.int8, np.full(columns, 0.01, np.float32), np.zeros(columns, np.int32), 0)
    acc = b.op("linear", x, b.const(weights.astype(np.int8), quant=quant), b.const(np.arange(columns, dtype=np.int32) - 7))
    m = np.broadcast_to(np.asarray(multipliers, np.int64), (columns,)).copy()
    y = b.op(
        "requantize", acc, b.const(m), b.const(np.full(columns, shift, np.int64)),
        quant=QuantParams(DType.int8, 0.05, 3), rounding="dyadic",
    )  # fmt: skip
    return b.graph(y)


def extreme_codes(rows: int, depth: int) -> np.ndarray:
    """Rows of the largest codes, of the smallest, of both in turns, and random ones."""
    codes = np.random.default_rng(0).integers(-128, 128, (rows, depth)).astype(np.int8)
    codes[0], codes[1], codes[2, ::2], codes[2, 1::2] = 127, -128, 127, -128
    return codes


def kernel_of(graph: Graph, rows: int, depth: int, isa: str = "avx2") -> str:
    """The form that the product took; its integers were compared with the reference."""
    arrays = [extreme_codes(rows, depth)]
    session = session_of(graph, isa)
    assert differing(graph, arrays, session.run(arrays)) == 0
    return str(session.lowered.kernels[0].kernel)


def assembly_of(graph: Graph, cpu: str, tile: Any = None) -> str:
    """Of the only kernel of a graph, in a tile or the rule's."""
    return str(built_for(graph, cpu, tile)[0].inspect_source("asm"))


@pytest.mark.parametrize(
    ("first", "second", "form"),
    [(64, 64, PAIRED), (64, 65, NARROW), (-64, -64, PAIRED), (-64, -65, NARROW), (127, -127, PAIRED), (1, 127, PAIRED), (2, 127, NARROW)],
)
def test_one_pair_beyond_16_bits_decides(first: int, second: int, form: str) -> None:
    rng = np.random.default_rng(1)
    weights = rng.integers(-64, 65, (96, 128))
    weights[17, 6:8] = first, second
    assert kernel_of(linear(weights, 9, 5), 9, 128) == form


def test_pairs_begin_at_even_channels() -> None:
    weights = np.zeros((32, 9), np.int64)
    weights[:, :8] = 60  # four of these do not fit
    weights[:, [0, 3]], weights[:, 1:3] = 0, 127  # channels 1 and 2 are in different pairs
    assert kernel_of(linear(weights, 8, -128), 8, 9) == PAIRED
    weights[:, 3] = 2  # channels 2 and 3 are in one
    assert kernel_of(linear(weights, 8, -128), 8, 9) == NARROW


@pytest.mark.parametrize(("count", "places"), [(4, (0, 1, 4, 5)), (4, (2, 3, 6, 7)), (8, (0, 1, 4, 5, 8, 9, 12, 13))])
@pytest.mark.parametrize("sign", [1, -1])
def test_one_sum_beyond_16_bits_decides(count: int, places: tuple[int, ...], sign: int) -> None:
    """128 of one sign is the most that codes of 255 leave room for, whatever the others sum to."""
    weights = np.random.default_rng(1).integers(-16, 17, (96, 128))
    if count == 4:
        weights[0, :16] = 20  # eight of these are too many
    weights[17, 64:80] = -sign * 16
    weights[17, [64 + p for p in places]] = sign * (128 // count)
    assert kernel_of(linear(weights, 9, 5), 9, 128) == SHORT[count]
    weights[17, 64 + places[-1]] += sign
    assert kernel_of(linear(weights, 9, 5), 9, 128) == SHORT[count // 2]


def test_a_run_is_of_one_place_of_the_kernel() -> None:
    """Of 8 channels there are no 16 neighbours, and the padding of 3 to 8 costs more than sums of four save."""
    weights = np.full((32, 8), 32)
    assert kernel_of(linear(weights, 4, 0), 4, 8) == SHORT[4]
    assert kernel_of(linear(weights[:, :3], 4, 0), 4, 3) == SHORT[2]


@pytest.mark.parametrize("count", [2, 4, 8])
def test_weights_that_the_rounding_limits_take_the_form(count: int) -> None:
    """What a recipe asks for and what the kernel proves are of the same neighbours."""
    weight = np.random.default_rng(3).standard_normal((40, 200))
    least = pair_safe_scale(weight)
    codes, _ = limited_weights(weight, least, count, 127) if count > 2 else (np.rint(weight / least[:, None]), least)
    assert kernel_of(linear(codes.astype(np.int64), 9, 5), 9, 200) == SHORT[count]


@pytest.mark.parametrize(("rows", "panel", "asked"), [(40, 2, True), (40, 0, False), (4, 0, True)])
def test_weights_of_the_next_panel_and_those_read_once_are_asked_for(rows: int, panel: int, asked: bool) -> None:
    from qcompiler.kernels.cpu.product import Tile

    graph = linear(np.random.default_rng(4).integers(-64, 65, (96, 512)), rows, 3)
    assert ("prefetch" in assembly_of(graph, "haswell", Tile(4, 2, panel, True))) == asked


@pytest.mark.parametrize(("rows", "depth", "columns"), [(13, 384, 100), (3, 128, 96), (30, 161, 103)])
@pytest.mark.parametrize("zero_point", [-128, 127])
@pytest.mark.parametrize(("peak", "form"), [(127, NARROW), (64, PAIRED), (32, SHORT[4]), (16, SHORT[8])])
def test_extreme_operands(rows: int, depth: int, columns: int, zero_point: int, peak: int, form: str) -> None:
    weights = np.random.default_rng(2).choice(np.array([-peak, 1 - peak, 0, peak]), (columns, depth))
    weights[0], weights[1] = peak, -peak
    assert kernel_of(linear(weights, rows, zero_point, 42), rows, depth) == form


@pytest.mark.parametrize("peak", [127, 64, 32, 16])
@pytest.mark.parametrize("isa", runnable())
def test_extreme_operands_of_every_instruction_set(isa: str, peak: int) -> None:
    short, narrow = isa_named(isa).short, isa_named(isa).narrow.name
    weights = np.random.default_rng(2).choice(np.array([-peak, 1 - peak, 0, peak]), (103, 161))
    weights[0], weights[1] = peak, -peak
    form = SHORT[128 // peak] if short and peak < 127 else f"{narrow} int8"
    assert kernel_of(linear(weights, 30, 127, 42), 30, 161, isa) == form


@pytest.mark.parametrize(("isa", "shift"), [*(("avx2", shift) for shift in (31, 32, 33, 40, 61)), *((isa, 33) for isa in runnable() if isa != "avx2")])
def test_rescaling_by_every_kind_of_shift(isa: str, shift: int) -> None:
    rng = np.random.default_rng(shift)
    weights = rng.integers(-127, 128, (24, 200))
    multipliers = np.r_[rng.integers(1 << 30, (1 << 31) - 1, 22), 1, (1 << 31) - 1]
    graph = linear(weights, 16, -128, shift, multipliers)
    arrays = [extreme_codes(16, 200)]
    assert differing(graph, arrays, session_of(graph, isa).run(arrays)) == 0


@pytest.mark.parametrize(("cpu", "register", "peak"), [
    ("haswell", "ymm", 64), *(("skylake-avx512", "zmm", peak) for peak in (127, 64, 32, 16)),
])  # fmt: skip
def test_accumulators_stay_in_registers(cpu: str, register: str, peak: int) -> None:
    weights = np.random.default_rng(4).integers(-peak, peak + 1, (96, 512))
    assembly = assembly_of(linear(weights, 8, 0), cpu)
    assert ("vpmaddubsw" in assembly) == (peak < 127)
    blocks = re.split(r"^\.LBB\w+:", assembly, flags=re.MULTILINE)
    loops = [re.split(r"\bj\w+\s+\.LBB", block)[0] for block in blocks if block.count("vpmaddwd") >= 4 and re.search(r"\bj\w+\s+\.LBB", block)]
    assert loops
    assert not any(re.search(rf"vmov\w+\s+%{register}\d+, [^%]", loop) for loop in loops)
