"""Transposed convolutions as convolutions: equal, and then quantized."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import qcompiler as qc
from op_cases import CASES
from qcompiler.executors.reference import run_reference
from qcompiler.ir import DType, Graph, GraphBuilder, verify_graph
from qcompiler.ir.dims import parse
from qcompiler.passes.base import Context
from qcompiler.passes.transform.turn_transposed_convolutions import TurnTransposedConvolutions
from qcompiler.targets import get_target


def network(rng: np.random.Generator, **attrs: object) -> Graph:
    """One layer in float64, batch and height symbolic; the pass looks at attributes, shapes and weights only."""
    b = GraphBuilder()
    groups = attrs.get("groups", 1)
    kernel = attrs.pop("kernel")
    x = b.input("x", DType.float32, (parse("n"), 4, parse("h"), 5))
    w = b.const(rng.normal(size=(4, 6 // groups, *kernel)).astype(np.float32))
    bias = b.const(rng.normal(size=6).astype(np.float32))
    return b.build([b.op("conv_transpose", x, w, bias, **attrs)])


GEOMETRIES = {
    "k2s2": dict(kernel=(2, 2), strides=(2, 2), pads=(0,) * 4, output_padding=(0, 0)),
    "k4s2p1": dict(kernel=(4, 4), strides=(2, 2), pads=(1,) * 4, output_padding=(0, 0)),
    "k3s2p1op1": dict(kernel=(3, 3), strides=(2, 2), pads=(1,) * 4, output_padding=(1, 1)),
    "k3s1p1": dict(kernel=(3, 3), strides=(1, 1), pads=(1,) * 4, output_padding=(0, 0)),
    "k1s3": dict(kernel=(1, 1), strides=(3, 3), pads=(0,) * 4, output_padding=(2, 2)),
    "k5s2 large pads": dict(kernel=(5, 5), strides=(2, 2), pads=(3, 2, 0, 4), output_padding=(1, 0)),
    "uneven": dict(kernel=(3, 4), strides=(3, 2), pads=(1, 0, 2, 1), output_padding=(2, 1)),
}


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_equal(geometry: str, dilation: int, groups: int) -> None:
    rng = np.random.default_rng(3)
    graph = network(rng, **GEOMETRIES[geometry], dilations=(dilation,) * 2, groups=groups)
    result = TurnTransposedConvolutions().run(graph, Context(target=get_target("onnx")))
    verify_graph(result.graph)
    assert result.changed and "conv_transpose" not in {n.op for n in result.graph.nodes}
    assert [str(d) for d in result.graph.outputs[0].shape] == [str(d) for d in graph.outputs[0].shape]
    x = rng.normal(size=(2, 4, 7, 5)).astype(np.float32)
    (expected,), (found,) = run_reference(graph, [x]), run_reference(result.graph, [x])
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()  # float32 sums in another order


@pytest.mark.parametrize("case", [c for c in CASES if c.op == "conv_transpose"], ids=lambda c: c.id)
def test_op_cases(case: object) -> None:
    graph, arrays = case.build()
    result = TurnTransposedConvolutions().run(graph, Context(target=get_target("onnx")))
    (expected,), (found,) = run_reference(graph, arrays), run_reference(result.graph, arrays)
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_refuses_a_computed_weight() -> None:
    b = GraphBuilder()
    x, w = b.input("x", DType.float32, (1, 2, 4)), b.input("w", DType.float32, (2, 3, 3))
    attrs = dict(strides=(2,), pads=(0, 0), dilations=(1,), output_padding=(0,))
    graph = b.build([b.op("conv_transpose", x, w, None, **attrs)])
    result = TurnTransposedConvolutions().run(graph, Context(target=get_target("onnx")))
    assert result.graph is graph and "weight is computed" in result.notes[0].reason


def test_compiles_to_integer_convolutions() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.ConvTranspose2d(8, 4, 2, 2))
    rng = np.random.default_rng(0)
    samples = [(rng.normal(size=(1, 3, 12, 12)).astype(np.float32),) for _ in range(8)]
    recipe = {"base": "w8a8", "never_slower": False}
    compiled = qc.compile(network.eval(), (torch.zeros(1, 3, 12, 12),), recipe=recipe, calibration=samples)
    assert {row.kernel for row in compiled.report.coverage if row.op == "conv"} == {"QLinearConv"}
    assert compiled.report.accuracy.sqnr_db > 30
