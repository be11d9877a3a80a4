"""Half-precision models compute in float32 between inputs and outputs that keep their types."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qcompiler.executors.reference import run_reference
from qcompiler.frontend import capture
from qcompiler.ir import DType, GraphBuilder, verify_graph
from qcompiler.passes.base import Context
from qcompiler.passes.canonicalize import WidenHalf


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_half_precision_module(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.GELU(), torch.nn.LayerNorm(32), torch.nn.Linear(32, 4))
    net = net.to(dtype).eval()
    x = torch.randn(5, 16).to(dtype)
    graph = capture(net, (x,))
    result = WidenHalf().run(graph, Context())
    verify_graph(result.graph)
    half = DType[str(dtype).removeprefix("torch.")]
    assert result.changed and result.graph.inputs[0].dtype is half is result.graph.outputs[0].dtype
    inner = [n for n in result.graph.nodes if n.op != "cast"]
    assert all(v.dtype is DType.float32 for n in inner for v in (*n.operands, *n.outputs))
    (array,) = run_reference(result.graph, [np.asarray(x.to(torch.float32).numpy(), half.numpy)])
    with torch.no_grad():
        wanted = net.to(torch.float32)(x.to(torch.float32)).to(dtype).to(torch.float32).numpy()
    # The same weights in float32, rounded once at the end; sums differ in their last bits before that.
    step = np.finfo(np.float16).eps if half is DType.float16 else 2.0**-7
    np.testing.assert_allclose(array.astype(np.float32), wanted, rtol=step, atol=1e-6)
    again = WidenHalf().run(result.graph, Context())
    assert not again.changed and again.graph is result.graph


def test_casts_inside_disappear_and_types_of_created_values_widen() -> None:
    b = GraphBuilder()
    x = b.input("x", DType.float32, (3,))
    rounded = b.op("cast", x, dtype=DType.float16)
    ones = b.op("full", shape=(3,), value=1.0, dtype=DType.float16)
    y = b.op("cast", b.op("add", rounded, ones), dtype=DType.float32)
    graph = WidenHalf().run(b.build([y]), Context()).graph
    verify_graph(graph)
    assert sorted(n.op for n in graph.nodes) == ["add", "full"]
    assert all(v.dtype is DType.float32 for v in graph.values())


def test_float32_programs_are_left_alone() -> None:
    b = GraphBuilder()
    graph = b.build([b.op("relu", b.input("x", DType.float32, (3,)))])
    assert WidenHalf().run(graph, Context()).graph is graph
