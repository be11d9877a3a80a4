"""Every op that the TVM targets lower, compiled for this CPU: the reference's integers, real numbers within rounding."""

from __future__ import annotations

import pytest

from op_cases import CASES, OpCase
from qcompiler.errors import UnsupportedError
from support.tvm_programs import differing, run_on_cpu

pytest.importorskip("tvm", reason="needs TVM: pip install 'qcompiler[tvm]'")

CODES = [c for c in CASES if c.quantized or c.integer]


@pytest.mark.parametrize("case", CODES, ids=lambda c: c.id)
def test_ops_on_codes(case: OpCase) -> None:
    if case.op in ("dynamic_linear", "weight_only_linear"):
        with pytest.raises(UnsupportedError, match=case.op):
            run_on_cpu(*case.build())
        return
    graph, arrays = case.build()
    assert differing(graph, arrays, run_on_cpu(graph, arrays)) == 0
