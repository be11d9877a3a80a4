"""Unsigned codes get a sign; nothing that the program computes changes."""

from __future__ import annotations

import numpy as np

from qcompiler.executors.reference import run_reference
from qcompiler.ir import DType, Graph, GraphBuilder, Level, QuantParams, verify_graph
from qcompiler.passes.base import Context
from qcompiler.passes.quantize.sign_codes import SignCodes

U8, WIDE = QuantParams(DType.uint8, np.float32(0.02), np.int32(120)), QuantParams(DType.uint8, np.float32(0.09), np.int32(7))


def program() -> tuple[Graph, list[np.ndarray]]:
    """A layer with limits, data movement with a constant, a sum, and real numbers at both ends."""
    rng = np.random.default_rng(0)
    b = GraphBuilder("unsigned", Level.QUANTIZED)
    x = b.input("x", DType.float32, (3, 8))
    w = b.const(rng.integers(-127, 128, (8, 8)).astype(np.int8), quant=QuantParams(DType.int8, np.float32(0.01)))
    codes = b.op("quantize", x, quant=U8)
    y = b.op("requantize", b.op("linear", codes, w, None), b.const(np.float32(0.01)), quant=WIDE, rounding="float32_half_even", qmin=7, qmax=200)
    table = b.const(rng.integers(0, 256, (3, 2)).astype(np.uint8), quant=WIDE)
    wide = b.op("pad", b.op("concat", y, table, axis=1), pads=(0, 0, 1, 0), value=0.0)
    total = b.op("requantize_sum", wide, wide, quant=U8, rounding="float32_half_even", real_multipliers=(2.5, 1.25))
    return b.build([b.op("dequantize", total)]), [rng.uniform(-3, 3, (3, 8)).astype(np.float32)]


def test_results_are_the_same_and_no_unsigned_code_is_left() -> None:
    graph, arrays = program()
    result = SignCodes().run(graph, Context())
    verify_graph(result.graph)
    assert result.changed and len(result.notes) == 5
    assert not any(v.dtype is DType.uint8 for n in result.graph.nodes for v in (*n.operands, *n.outputs))
    assert np.array_equal(run_reference(result.graph, arrays)[0], run_reference(graph, arrays)[0])
    again = SignCodes().run(result.graph, Context())
    assert not again.changed and again.graph is result.graph


def test_codes_at_the_border_are_left_alone() -> None:
    b = GraphBuilder("border", Level.QUANTIZED)
    x = b.input("x", DType.uint8, (2,), U8)
    graph = b.build([b.op("dequantize", x)])
    result = SignCodes().run(graph, Context())
    assert result.graph is graph and [(n.taken, n.reason) for n in result.notes] == [(False, "inputs or outputs are unsigned codes")]
