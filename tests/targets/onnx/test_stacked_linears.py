"""Layers with weights in groups that read one value become one product."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx_models import run_model

from qcompiler.executors.reference import run_reference
from qcompiler.ir import DType, Graph, GraphBuilder, Level, QuantParams, Value
from qcompiler.targets.onnx.emit import emit_model
from qcompiler.targets.onnx.emitter import Style

CHANNELS = 64


def weight(b: GraphBuilder, rng: np.random.Generator, rows: int, dtype: DType, size: int = 32) -> Value:
    shape = (rows, CHANNELS // size)
    zero = rng.integers(0, 15, shape) if dtype.min == 0 else np.zeros(shape)
    quant = QuantParams(dtype, rng.uniform(0.01, 0.1, shape) * rng.choice([-1, 1], shape), zero, axis=1, group_size=size)
    return b.const(rng.integers(dtype.min, dtype.max + 1, (rows, CHANNELS)), dtype, quant)


def graph(widths: tuple[int, ...], op: str, dtype: DType = DType.int4, bias: bool = False, **attrs: Any) -> Graph:
    rng, b = np.random.default_rng(3), GraphBuilder(level=Level.QUANTIZED)
    x = b.input("x", DType.float32, (2, 3, CHANNELS))
    add = b.const(np.ones(widths[0], np.float32)) if bias else None
    return b.build([b.op(op, x, weight(b, rng, n, dtype), add if i == 0 else None, **attrs) for i, n in enumerate(widths)])


@pytest.mark.parametrize("dtype", [DType.int4, DType.uint4])
@pytest.mark.parametrize(
    ("op", "attrs"),
    [("weight_only_linear", {}), *(("dynamic_linear", {"granularity": "group", "bits": n}) for n in (8, 16))],
)
def test_one_product_gives_all_results(op: str, attrs: dict[str, Any], dtype: DType) -> None:
    program = graph((8, 5, 3), op, dtype, **attrs)
    emitted = emit_model(program, Style(runtime_kernels=True))
    assert [n.op_type for n in emitted.proto.graph.node].count("MatMulNBits") == 1
    assert [row.op for row in emitted.rows] == [op] * 3
    x = np.random.default_rng(0).standard_normal((2, 3, CHANNELS)).astype(np.float32)
    for got, expected in zip(run_model(emitted.proto, [x]), run_reference(program, [x]), strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


def test_a_layer_with_a_bias_stays_alone() -> None:
    nodes = [n.op_type for n in emit_model(graph((8, 5, 3), "weight_only_linear", bias=True), Style(runtime_kernels=True)).proto.graph.node]
    assert nodes.count("MatMulNBits") == 2 and nodes.count("Split") == 1


def test_sixteen_bits_are_nearly_real_and_eight_are_not() -> None:
    """Error of a product relative to its largest value: 2^-16 of the operand's peak against 2^-8."""
    x = np.random.default_rng(0).standard_normal((2, 3, CHANNELS)).astype(np.float32)
    real = run_reference(graph((8,), "weight_only_linear"), [x])[0]
    worst = {}
    for bits in (8, 16):
        y = run_reference(graph((8,), "dynamic_linear", granularity="group", bits=bits), [x])[0]
        worst[bits] = float(np.abs(y - real).max() / np.abs(real).max())
    assert worst[16] < 5e-5 and worst[8] > 30 * worst[16]
