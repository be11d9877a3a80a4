"""Products of two computed operands, as in attention: bytes as they are, with sums of rows and columns for the zero points."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.ir import DType, Graph, QuantParams
from support.integer_networks import IntegerLayers
from support.tvm_programs import differing, runnable, session_of

tvm = pytest.importorskip("tvm", reason="needs TVM: pip install 'qcompiler[tvm]'")

KINDS = {"int8": DType.int8, "uint8": DType.uint8}


def matmul(left: tuple[str, int], right: tuple[str, int], rows: int, depth: int, columns: int) -> Graph:
    """Codes [2, rows, depth] times codes [2, depth, columns], each of a type and zero point, rescaled to 16 bits."""
    b = IntegerLayers("matmul")
    x, y = (
        b.input(name, KINDS[kind], shape, QuantParams(KINDS[kind], 0.02, zero))
        for name, (kind, zero), shape in (("x", left, (2, rows, depth)), ("y", right, (2, depth, columns)))
    )
    m, s = np.asarray((1 << 30) + 12345, np.int64), np.asarray(37, np.int64)
    quant = QuantParams(DType.int16, 0.05, 0)
    return b.graph(b.op("requantize", b.op("matmul", x, y), b.const(m), b.const(s), quant=quant, rounding="dyadic"))


def extreme(graph: Graph) -> list[np.ndarray]:
    """Random codes; first rows and columns of the largest and of the smallest."""
    rng, arrays = np.random.default_rng(0), []
    for value in graph.inputs:
        info = np.iinfo(value.dtype.numpy)
        codes = rng.integers(info.min, info.max + 1, value.shape).astype(value.dtype.numpy)
        codes[0, 0], codes[0, 1], codes[1, :, 0], codes[1, :, 1] = info.max, info.min, info.max, info.min
        arrays.append(codes)
    return arrays


def form_of(graph: Graph, isa: str) -> str:
    """The form that the product took; its integers were compared with the reference."""
    arrays, session = extreme(graph), session_of(graph, isa)
    assert differing(graph, arrays, session.run(arrays)) == 0
    return str(session.lowered.kernels[0].kernel)


@pytest.mark.parametrize(("rows", "depth", "columns"), [(8, 32, 32), (13, 37, 50), (3, 130, 7)])
@pytest.mark.parametrize(
    ("left", "right"),
    [
        (("int8", 3), ("int8", -5)), (("int8", -128), ("int8", 127)), (("uint8", 0), ("uint8", 255)),
        (("int8", 127), ("uint8", 128)), (("uint8", 9), ("int8", 0)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("isa", runnable())
def test_any_zero_points(isa: str, left: tuple[str, int], right: tuple[str, int], rows: int, depth: int, columns: int) -> None:
    paired = "vpmaddwd int8" if right == ("int8", 0) else "vpmaddwd int16"
    form = "vpdpbusd int8" if isa in ("avx512vnni", "avxvnni") else paired
    assert form_of(matmul(left, right, rows, depth, columns), isa) == form
