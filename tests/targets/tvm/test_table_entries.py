"""Tables in kernels: out of registers, as products of two short ones, out of memory; rows that go through stages together."""

from __future__ import annotations

import re

import numpy as np
import pytest

from qcompiler.ir import DType, Graph, GraphBuilder, Level, QuantParams
from qcompiler.passes.integer.rules_attention import exponentials
from qcompiler.targets.tvm.table_factors import exponential_factors
from support.integer_networks import random_codes
from support.tvm_programs import built_for, differing, session_of

pytest.importorskip("tvm", reason="needs TVM: pip install 'qcompiler[tvm]'")

CODES = QuantParams(DType.int16, np.float32(0.01), np.int32(0))
PROBABILITIES = QuantParams(DType.int8, np.float32(2.0**-8), np.int32(-128))
RANDOM = np.random.default_rng(0)


def softmax(rows: int, length: int, table: np.ndarray, mask: bool = False) -> Graph:
    b = GraphBuilder("one", Level.INTEGER)
    x = b.input("x", DType.int16, (rows, length), CODES)
    m = b.input("mask", DType.bool, (rows, length)) if mask else None
    return b.build([b.op("softmax_lookup", x, b.const(table), m, quant=PROBABILITIES)], ("y",))


def interpolated(knots: np.ndarray, shape: tuple[int, int] = (256, 256)) -> Graph:
    b = GraphBuilder("one", Level.INTEGER)
    x = b.input("x", DType.int16, shape, CODES)
    return b.build([b.op("lookup_interpolated", x, b.const(knots), quant=CODES, shift=8)], ("y",))


def lookup(entries: np.ndarray, dtype: DType) -> Graph:
    b = GraphBuilder("one", Level.INTEGER)
    x = b.input("x", DType.int8, (8, 256), QuantParams(DType.int8, np.float32(0.01), np.int32(0)))
    return b.build([b.op("lookup", x, b.const(entries, dtype), quant=QuantParams(dtype, np.float32(0.01), np.int32(0)))], ("y",))


def norm(rows: int, length: int) -> Graph:
    b = GraphBuilder("one", Level.INTEGER)
    x = b.input("x", DType.int16, (rows, length), CODES)
    weight = b.const(RANDOM.integers(-(1 << 29), 1 << 29, length).astype(np.int32))
    bias = b.const(RANDOM.integers(-(1 << 50), 1 << 50, length))
    return b.build([b.op("integer_layer_norm", x, weight, bias, quant=PROBABILITIES, eps=1, fraction=0, shift=50)], ("y",))


def near(graph: Graph, spread: int) -> list[np.ndarray]:
    """Inputs whose codes are not further apart than a table is long; a row of a mask leaves out everything."""
    arrays = random_codes(graph, 1)
    arrays[0] = RANDOM.integers(-spread, spread + 1, arrays[0].shape).astype(np.int16)
    for mask in arrays[1:]:
        mask[0] = False
    return arrays


@pytest.mark.parametrize("step", [2.0**-e * f for e in (1, 4, 7) for f in (1.0, 1.37)])
def test_tables_of_exponentials_are_products(step: float) -> None:
    table = np.append(exponentials(step), 0)
    factors = exponential_factors(table)
    assert factors is not None and max(len(factors.upper), len(factors.lower)) <= 64
    d = np.arange(len(table))
    a, b = factors.upper[d >> factors.bits], factors.lower[d & ((1 << factors.bits) - 1)]
    assert np.array_equal(np.floor(a * b + np.float32(0.5)).astype(np.int64), table)


def test_other_tables_are_none() -> None:
    table = np.append(exponentials(1 / 128), 0).astype(np.int64)
    changed = table.copy()
    changed[700] += 1
    assert exponential_factors(changed) is None
    assert exponential_factors(table[:600]) is not None
    assert exponential_factors(np.append(table[:600], 0)) is None  # cut off where the exponential is far from 0
    assert exponential_factors(np.append(exponentials(2.0**-9), 0)) is None  # longer than 64 * 64
    assert exponential_factors(np.zeros(5, np.int64)) is None


@pytest.mark.parametrize("isa", [None, "avx2", "sse2"])
@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize(("rows", "length"), [(16, 128), (12, 49), (3, 64), (5, 7), (9, 17)])
def test_softmaxes(rows: int, length: int, mask: bool, isa: str | None) -> None:
    for table in (exponentials(1 / 128), exponentials(1 / 16), exponentials(1 / 128)[:900], exponentials(2.0**-9)):
        graph = softmax(rows, length, table, mask)
        session = session_of(graph, isa)
        for spread in (len(table) // 3, 32767):
            arrays = near(graph, spread)
            assert differing(graph, arrays, session.run(arrays)) == 0


@pytest.mark.parametrize("isa", [None, "avx2", "sse2"])
def test_every_code_between_knots(isa: str | None) -> None:
    codes = np.arange(-(1 << 15), 1 << 15).astype(np.int16).reshape(256, 256)
    for knots in (RANDOM.integers(-(1 << 15), 1 << 15, 257), np.where(np.arange(257) % 2, 32767, -32768)):
        graph = interpolated(knots.astype(np.int16))
        assert differing(graph, [codes], session_of(graph, isa).run([codes])) == 0


@pytest.mark.parametrize("isa", [None, "avx2", "sse2"])
@pytest.mark.parametrize("dtype", [DType.int8, DType.uint8, DType.int16])
def test_every_code_of_a_table(dtype: DType, isa: str | None) -> None:
    codes = np.tile(np.arange(-128, 128).astype(np.int8), (8, 1))
    graph = lookup(RANDOM.integers(dtype.min, dtype.max + 1, 256).astype(dtype.numpy), dtype)
    assert differing(graph, [codes], session_of(graph, isa).run([codes])) == 0


@pytest.mark.parametrize("isa", [None, "avx2", "sse2"])
@pytest.mark.parametrize(("rows", "length"), [(16, 384), (7, 64), (11, 48), (8, 50), (1, 16)])
def test_rows_that_go_through_the_stages_together(rows: int, length: int, isa: str | None) -> None:
    graph = norm(rows, length)
    session = session_of(graph, isa)
    low, high = (np.full((rows, length), e, np.int16) for e in (-32768, 32767))
    halves = np.where(np.arange(length) % 2, high, low).astype(np.int16)
    for arrays in (*(random_codes(graph, seed) for seed in range(3)), [low], [high], [halves], near(graph, 1)):
        assert differing(graph, arrays, session.run(arrays)) == 0


@pytest.mark.parametrize("cpu", ["znver5", "sapphirerapids", "skylake-avx512"])
def test_registers_hold_short_tables(cpu: str) -> None:
    for graph, instruction in (
        (softmax(16, 128, exponentials(1 / 128)), r"vperm[it]2(ps|d)"),
        (interpolated(RANDOM.integers(-999, 999, 257).astype(np.int16)), r"vperm[it]2w"),
        (lookup(np.arange(-128, 128).astype(np.int8), DType.int8), r"vperm[it]2w"),
    ):
        assembly = built_for(graph, cpu)[0].inspect_source("asm")
        assert re.search(rf"\b{instruction}\b.*zmm", assembly)
        assert "gather" not in assembly


@pytest.mark.parametrize("cpu", ["znver5", "haswell"])
def test_nothing_is_gathered_in_norms(cpu: str) -> None:
    assert "gather" not in built_for(norm(16, 384), cpu)[0].inspect_source("asm")
