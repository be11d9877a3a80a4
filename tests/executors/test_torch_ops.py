"""The torch body of every op against its NumPy reference body."""

import numpy as np
import pytest
import torch

from op_cases import CASES, OpCase
from qcompiler.executors.reference import bind_inputs, run_reference
from qcompiler.executors.torch_executor import BUILDERS, TorchExecutor
from qcompiler.ir import OPS, Level, verify_graph
from qcompiler.ir.dims import evaluate

FLOAT_CASES = [c for c in CASES if c.level is Level.FLOAT]


def max_rel(a: np.ndarray, b: np.ndarray) -> float:
    """max|a - b| / max|b|; 0 for empty arrays, equal NaNs and infinities agree."""
    assert a.shape == b.shape
    if a.size == 0 or np.array_equal(a, b, equal_nan=a.dtype.kind == "f"):
        return 0.0
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30))


def test_every_op_has_a_case_and_every_float_op_a_torch_body():
    assert {c.op for c in CASES} == set(OPS)
    assert set(BUILDERS) == {name for name, op in OPS.items() if op.category not in ("quantized", "integer")}
    assert len({c.id for c in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_the_rule_gives_what_the_reference_body_computes(case: OpCase):
    graph, arrays = case.build()
    verify_graph(graph)
    results = run_reference(graph, arrays)
    bindings = bind_inputs(graph, [a.shape for a in arrays])
    for value, result in zip(graph.outputs, results, strict=True):
        assert result.shape == tuple(evaluate(d, bindings) for d in value.shape)
        assert result.dtype == value.dtype.numpy


@pytest.mark.parametrize("dtype, bound", [(torch.float32, 1e-5), (torch.float64, 1e-12)], ids=["f32", "f64"])
@pytest.mark.parametrize("case", FLOAT_CASES, ids=lambda c: c.id)
def test_torch_equals_reference(case: OpCase, dtype: torch.dtype, bound: float):
    graph, arrays = case.build(seed=1)
    double = dtype is torch.float64
    expected = run_reference(graph, arrays, float64=double)
    got = TorchExecutor(graph, dtype).run(arrays)
    for value, a, b in zip(graph.outputs, got, expected, strict=True):
        assert a.dtype == (dtype if value.dtype.is_float else getattr(torch, value.dtype.name))
        assert max_rel(a.numpy(), b) <= bound
