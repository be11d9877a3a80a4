"""ONNX's own test models; benchmarks/bench_import.py runs all of them."""

from __future__ import annotations

import random
from functools import cache

import pytest

from benchmarks.onnx_backend import DIFFERENT, EQUAL, FAULTY, FIXED, UNSUPPORTED, Case, cases, run_case


@cache
def _tenth() -> dict[str, Case]:
    found = {case.name: case for case in cases("node")}
    return {name: found[name] for name in sorted(random.Random(0).sample(sorted(found), len(found) // 10))}


def test_a_tenth_of_the_node_tests() -> None:
    outcomes = [run_case(case) for case in _tenth().values()]
    assert [o for o in outcomes if o.kind in (DIFFERENT, FAULTY)] == []
    good = sum(o.kind in (EQUAL, FIXED) for o in outcomes)
    assert good >= 0.6 * len(outcomes)


@pytest.mark.parametrize("kind", ["pytorch-converted", "pytorch-operator"])
def test_models_of_the_first_exporter(kind: str) -> None:
    assert [o for o in map(run_case, cases(kind)) if o.kind != EQUAL] == []


def test_simple_models() -> None:
    outcomes = [run_case(case) for case in cases("simple")]
    assert {o.kind for o in outcomes} <= {EQUAL, FIXED, UNSUPPORTED}
    assert {o.case for o in outcomes if o.kind == UNSUPPORTED} == {
        o.case for o in outcomes if o.case.startswith(("test_gradient", "test_sequence", "test_strnorm"))
    }


@pytest.mark.parametrize("name", ["light_squeezenet", "light_shufflenet"])
def test_classic_networks(name: str) -> None:
    (case,) = (c for c in cases("light") if c.name == name)
    assert run_case(case).kind == EQUAL
