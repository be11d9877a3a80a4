"""Every kernel against the NumPy reference, integer for integer: on the host with sanitizers, and on emulated cores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.mcu_kernels import build, generators
from benchmarks.mcu_kernels.case import OPS
from qcompiler.kernels.mcu.pack import PROFILES
from support.tools import requires_tool

COUNT = 380  # per profile and instruction set; benchmarks/fuzz_mcu_kernels.py runs as many as wanted


@pytest.fixture(scope="module", params=PROFILES)
def cases(request: pytest.FixtureRequest) -> list[build.Case]:
    return generators.draw_cases(COUNT, request.param, seed=7)


def test_the_cases_reach_every_kernel(cases: list[build.Case]) -> None:
    assert {case.kernel for case in cases} == set(OPS)


@pytest.mark.parametrize("isa", build.WHERE)
def test_results_are_those_of_the_reference(cases: list[build.Case], isa: str, tmp_path: Path) -> None:
    if build.WHERE[isa] is None:
        requires_tool("gcc", "cc")
    else:
        requires_tool("arm-none-eabi-gcc")
        requires_tool("qemu-system-arm")
    command = build.build(tmp_path, cases[0].profile, isa)
    assert not [str(f) for f in build.run_cases(command, cases, isa, tmp_path)]


def test_a_wrong_expectation_is_found(tmp_path: Path) -> None:
    requires_tool("gcc", "cc")
    case = generators.draw_cases(1, "dyadic", seed=1)[0]
    other = case.expected.copy()
    other.flat[0] ^= 1
    wrong = build.Case(case.kernel, case.profile, other, case.call, case.about)
    (failure,) = build.run_cases(build.build_host(tmp_path, "dyadic", sanitize=False), [case, wrong], "portable", tmp_path)
    assert failure.case is wrong and np.count_nonzero(failure.got != other.reshape(-1)) == 1
    assert "1 of" in str(failure)
