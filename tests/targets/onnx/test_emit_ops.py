"""Every op of the op table, emitted and run in ONNX Runtime, gives what its reference body gives."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_models import run_model
from onnx_models.extra_cases import extra_cases

from op_cases import CASES, OpCase
from qcompiler.executors.reference import run_reference
from qcompiler.ir import OPS, DType, Graph, GraphBuilder, Origin
from qcompiler.targets.onnx.emit import FLOAT_RULES, emit_model
from qcompiler.targets.onnx.emitter import Style

STYLES = {
    "standard": Style(int16_pair_products=True),
    "kernels": Style(runtime_kernels=True, int16_pair_products=True),
    "plain": Style(runtime_kernels=True, plain=True),
}
EMITTED = [*CASES, *extra_cases()]
INTEGER_PROFILES = ("dyadic", "dyadic_double", "shift_half_even")


def test_every_op_has_cases_and_a_rule() -> None:
    real = {name for name, op in OPS.items() if op.category not in ("quantized", "integer")}
    assert real <= FLOAT_RULES.keys()
    assert {case.op for case in EMITTED} == OPS.keys()


def codes(graph: Graph) -> bool:
    """True if rounding is that of the runtime's kernels, which may fall either way next to ties."""
    return graph.outputs[0].quant is not None and graph.outputs[0].dtype is not DType.int32


# The float baseline has no quantized ops.
PAIRS = [(c, s) for c in EMITTED for s in STYLES if not (s == "plain" and (c.quantized or c.integer))]


@pytest.mark.parametrize(("case", "style"), PAIRS, ids=[f"{c.id}-{s}" for c, s in PAIRS])
def test_op_agrees_with_reference(case: OpCase, style: str) -> None:
    graph, arrays = case.build()
    with np.errstate(all="ignore"):
        expected = run_reference(graph, arrays)
    for optimize in (False, True):
        got = run_model(emit_model(graph, STYLES[style]).proto, arrays, optimize)
        for a, b in zip(got, expected, strict=True):
            assert a.dtype == b.dtype and a.shape == b.shape
            if a.dtype.kind == "f":
                np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)
            elif case.attrs.get("rounding") not in INTEGER_PROFILES and not case.integer and codes(graph):
                assert np.abs(a.astype(int) - b.astype(int)).max(initial=0) <= 1
            else:
                np.testing.assert_array_equal(a, b)


def test_same_graph_gives_same_bytes() -> None:
    graph = next(c for c in CASES if c.op == "attention").build()[0]
    first, second = (emit_model(graph, Style()).proto.SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


def test_names_come_from_module_paths_and_versions_are_explicit() -> None:
    b = GraphBuilder("m")
    x = b.input("x", DType.float32, (2, 3))
    y = b.op("relu", x, origin=Origin("block.1.act"))
    model = emit_model(b.build([y, x], ["y", "same"]), Style(), {"level": "float"}).proto
    assert [n.name for n in model.graph.node] == ["block.1.act/Relu_0", "same/Identity"]
    assert model.opset_import[0].version == 21 and model.ir_version == 10
    assert [(p.key, p.value) for p in model.metadata_props] == [("qcompiler.level", "float")]
