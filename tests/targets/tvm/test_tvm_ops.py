"""Every op that the TVM targets lower, compiled for this CPU: the reference's integers, real numbers within rounding."""

from __future__ import annotations

import pytest

from op_cases import CASES, OpCase
from support.tvm_programs import differing, run_on_cpu

pytest.importorskip("tvm", reason="needs TVM: pip install 'qcompiler[tvm]'")


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_ops(case: OpCase) -> None:
    graph, arrays = case.build()
    assert differing(graph, arrays, run_on_cpu(graph, arrays)) == 0
