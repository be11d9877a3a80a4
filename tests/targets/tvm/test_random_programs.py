"""Random integer programs of every family in one library: a seeded part of `benchmarks/fuzz_tvm_kernels.py`."""

from __future__ import annotations

import pytest

from benchmarks.cpu_kernels.fuzz import cases_of, differing, refused
from benchmarks.gpu_kernels.generators import FAMILIES
from support.tvm_programs import CPUS, runnable

pytest.importorskip("tvm", reason="needs TVM: pip install 'qcompiler[tvm]'")

from qcompiler.targets.tvm.machine import machine_named  # noqa: E402

PRODUCTS = ("linear", "conv", "depthwise", "matmul")


@pytest.mark.parametrize("first", [90_000, 90_050, 90_100])
def test_random_programs(first: int) -> None:
    cases = cases_of(first, 50)
    assert {family for family, _ in cases} == set(FAMILIES)
    machine = machine_named("")
    left_out = refused(cases, machine)
    assert len(left_out) <= 3
    assert differing([case for case in cases if case not in left_out], machine) == {}


@pytest.mark.parametrize("isa", runnable())
def test_products_of_every_instruction_set(isa: str) -> None:
    """What a better instruction set of this machine does in another way."""
    cases, machine = [case for case in cases_of(90_150, 27) if case[0] in PRODUCTS], machine_named(CPUS[isa])
    left_out = refused(cases, machine)
    assert len(left_out) <= 1
    assert differing([case for case in cases if case not in left_out], machine) == {}
