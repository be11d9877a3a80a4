"""Random integer programs of every family in one library: a seeded part of `benchmarks/fuzz_tvm_kernels.py`."""

from __future__ import annotations

import pytest

from benchmarks.cpu_kernels.fuzz import cases_of, differing, refused
from benchmarks.gpu_kernels.generators import FAMILIES

pytest.importorskip("tvm", reason="needs TVM: pip install 'qcompiler[tvm]'")


@pytest.mark.parametrize("first", [90_000, 90_050, 90_100])
def test_random_programs(first: int) -> None:
    cases = cases_of(first, 50)
    assert {family for family, _ in cases} == set(FAMILIES)
    left_out = refused(cases)
    assert len(left_out) <= 3
    assert differing([case for case in cases if case not in left_out]) == {}
