"""Every op that the TVM targets lower, compiled for this CPU: the reference's integers, real numbers within rounding."""

from __future__ import annotations

import pytest

from op_cases import CASES, OpCase
from qcompiler.errors import UnsupportedError
from support.tvm_programs import differing, run_on_cpu

pytest.importorskip("tvm", reason="needs TVM: pip install 'qcompiler[tvm]'")

# Ops without a TVM kernel; what a compile says of them is tested below.
WITHOUT = ("dynamic_linear", "weight_only_linear", "conv_transpose", "gather_nd", "scatter_nd", "topk")


@pytest.mark.parametrize("case", [c for c in CASES if c.op not in WITHOUT], ids=lambda c: c.id)
def test_ops(case: OpCase) -> None:
    graph, arrays = case.build()
    assert differing(graph, arrays, run_on_cpu(graph, arrays)) == 0


@pytest.mark.parametrize("op", WITHOUT)
def test_ops_without_a_kernel_are_refused_by_name(op: str) -> None:
    case = next(c for c in CASES if c.op == op)
    with pytest.raises(UnsupportedError, match=f"no TVM kernel for: {op}"):
        run_on_cpu(*case.build())
