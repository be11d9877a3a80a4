"""Every op of the op table, emitted and run in ONNX Runtime, gives what its reference body gives."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.executors.reference import run_reference
from qcompiler.ir import OPS, DType, GraphBuilder
from qcompiler.targets.onnx.emit import FLOAT_RULES, emit_model
from qcompiler.targets.onnx.emitter import Style

from .op_cases import CASES, FLOAT_OPS, Case, build
from .ort import run_model

STYLES = {"standard": Style(), "kernels": Style(runtime_kernels=True), "plain": Style(runtime_kernels=True, plain=True)}


def test_every_op_has_cases_and_a_rule() -> None:
    assert {case.op for case in CASES} >= FLOAT_OPS
    assert FLOAT_OPS <= FLOAT_RULES.keys()
    assert FLOAT_OPS == {name for name, op in OPS.items() if op.category != "quantized"}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_op_agrees_with_reference(case: Case, style: str) -> None:
    graph = build(case)
    arrays = case.arrays()
    with np.errstate(all="ignore"):
        expected = run_reference(graph, arrays)
    got = run_model(emit_model(graph, STYLES[style]).proto, arrays)
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        if a.dtype.kind == "f":
            np.testing.assert_allclose(a, b, rtol=2e-5, atol=case.atol)
        else:
            np.testing.assert_array_equal(a, b)


def test_same_graph_gives_same_bytes() -> None:
    case = next(c for c in CASES if c.op == "attention")
    first, second = (emit_model(build(case), Style()).proto.SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


def test_names_come_from_module_paths() -> None:
    from qcompiler.ir import Origin

    b = GraphBuilder("m")
    x = b.input("x", DType.float32, (2, 3))
    y = b.op("relu", x, origin=Origin("block.1.act"))
    model = emit_model(b.build([y], ["y"]), Style()).proto
    assert [n.name for n in model.graph.node] == ["block.1.act/Relu_0"]
    assert model.opset_import[0].version == 21 and model.ir_version == 10
