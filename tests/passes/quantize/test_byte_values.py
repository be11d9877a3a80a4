"""Real functions of one byte: found, with the range in which their codes are the bytes."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.ir import DType, GraphBuilder
from qcompiler.passes.quantize.byte_values import byte_table, exact_range

BYTES = np.arange(256.0)


def image(dtype: DType = DType.uint8) -> tuple[GraphBuilder, object]:
    b = GraphBuilder()
    x = b.input("x", dtype, (1, 2, 3))
    return b, b.op("cast", x, dtype=DType.float32)


def test_a_chain_of_functions_is_one_table() -> None:
    b, x = image()
    y = b.op("sqrt", b.op("div", x, b.const(np.float32(255))))
    graph = b.build([y])
    found = byte_table(graph, y)
    assert found is not None and found.source is graph.inputs[0]
    np.testing.assert_allclose(found.real, np.sqrt(BYTES / 255), rtol=1e-12)


def test_what_reads_more_than_a_byte_has_none() -> None:
    b, x = image()
    vector = b.op("mul", x, b.const(np.array([1, 2, 3], np.float32)))
    twice = b.op("mul", x, x)
    mean = b.op("reduce_mean", x, axes=(2,), keepdims=True)
    moved = b.op("transpose", x, perm=(0, 2, 1))
    wide = b.op("cast", b.input("wide", DType.int16, (2,)), dtype=DType.float32)
    graph = b.build([vector, twice, mean, moved, wide])
    assert all(byte_table(graph, v) is None for v in graph.outputs)
    found = byte_table(graph, moved, through_moves=True)
    assert found is not None and np.array_equal(found.real, BYTES)


def test_rows_of_a_table_of_integers_are_not_bytes_of_an_input() -> None:
    b = GraphBuilder()
    rows = b.op("gather", b.const(np.ones((4, 3), np.int8)), b.input("index", DType.int64, (2,)), axis=0)
    y = b.op("cast", rows, dtype=DType.float32)
    assert byte_table(b.build([y]), y) is None


@pytest.mark.parametrize(("factor", "shift", "wanted"), [
    (1 / 255, 0.0, (0.0, 1.0)),  # the usual one
    (1 / 128, -1.0, (-1.0, 127 / 128)),  # 0 is byte 128
    (-1 / 255, 1.0, (0.0, 1.0)),  # inverted: code 255 - byte
    (2 / 255, -1.0, None),  # 0 lies between two bytes
    (1 / 255, 3.0, None),  # 0 is outside, and codes have to hold it
    (0.0, 0.0, None),
])  # fmt: skip
def test_exact_where_zero_is_a_byte(factor: float, shift: float, wanted: tuple[float, float] | None) -> None:
    b, x = image()
    y = b.op("add", b.op("mul", x, b.const(np.float32(factor))), b.const(np.float32(shift)))
    moved = b.op("transpose", y, perm=(0, 2, 1))
    graph = b.build([moved])
    for value in (y, moved):
        found = exact_range(graph, value, DType.uint8)
        assert (found is None) if wanted is None else (found == pytest.approx(wanted, abs=1e-6))
    assert exact_range(graph, y, DType.uint4) is None


def test_signed_bytes() -> None:
    b, x = image(DType.int8)
    y = b.op("div", x, b.const(np.float32(128)))
    assert exact_range(b.build([y]), y, DType.uint8) == (-1.0, 127 / 128)
