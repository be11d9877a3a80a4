"""Columns that do not fill the last vector: nothing behind them is written, on any instruction set."""

from __future__ import annotations

import re

import pytest

from qcompiler.ir import Graph
from support.integer_networks import IntegerLayers, random_codes
from support.tvm_programs import built_for, differing, runnable, session_of

tvm = pytest.importorskip("tvm", reason="needs TVM: pip install 'qcompiler[tvm]'")

ONE_LANE = re.compile(r"llvm\.masked\.store\.\S+\(<\d+ x i8>.*<(?:i1 false, )*i1 true(?:, i1 false)*>\)")


def linear(columns: int) -> Graph:
    b = IntegerLayers("one")
    return b.graph(b.linear(b.codes("x", 7, 64), columns))


@pytest.mark.parametrize("columns", [9, 57, 70])
@pytest.mark.parametrize("isa", runnable())
def test_rows_keep_their_first_columns(isa: str, columns: int) -> None:
    """With two tiles of columns, the second one is stored when the next row's first columns are there already."""
    graph = linear(columns)
    arrays = random_codes(graph, 1)
    assert differing(graph, arrays, session_of(graph, isa).run(arrays)) == 0


@pytest.mark.parametrize("cpu", ["skylake-avx512", "sapphirerapids", "znver4"])
@pytest.mark.parametrize("columns", [9, 25, 57])
def test_no_masked_store_has_one_lane(cpu: str, columns: int) -> None:
    code = built_for(linear(columns), cpu)[0].inspect_source("ll")
    assert "@kernel" in code and not ONE_LANE.search(code)
