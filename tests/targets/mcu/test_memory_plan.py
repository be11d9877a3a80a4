from __future__ import annotations

import numpy as np
import pytest

from qcompiler.targets.mcu.memory_exact import solve_exactly
from qcompiler.targets.mcu.memory_plan import Buffer, MemoryPlan, Overlap, _Problem, plan_memory


def buffers(*rows: tuple[int, int, int]) -> list[Buffer]:
    return [Buffer(f"b{i}", size, first, last) for i, (size, first, last) in enumerate(rows)]


def clashes(found: MemoryPlan, allowed: dict[tuple[Buffer, Buffer], Overlap]) -> list[tuple[str, str]]:
    """Pairs that share bytes at a time when both are live, without being allowed to: independent of the planner."""
    placed, result = list(found.offsets.items()), []
    for i, (a, at_a) in enumerate(placed):
        for b, at_b in placed[i + 1 :]:
            together = a.first <= b.last and b.first <= a.last
            apart = at_a + a.size <= at_b or at_b + b.size <= at_a
            if together and not apart and not _allowed(a, at_a, b, at_b, allowed) and not _allowed(b, at_b, a, at_a, allowed):
                result.append((a.name, b.name))
    return result


def _allowed(out: Buffer, at: int, operand: Buffer, other: int, allowed: dict[tuple[Buffer, Buffer], Overlap]) -> bool:
    rule = allowed.get((out, operand))
    if rule is None or out.first != operand.last:
        return False
    return (rule.same and at == other) or (rule.lead is not None and other - at >= rule.lead)


def test_buffers_that_never_meet_share_memory() -> None:
    found = plan_memory(buffers((101, 0, 1), (60, 2, 3), (100, 4, 5)))
    assert (found.size, found.lower_bound, set(found.offsets.values())) == (104, 104, {0})


def test_result_lies_over_an_operand_as_far_as_its_kernel_allows() -> None:
    x, y = buffers((64, 0, 1), (64, 1, 2))
    assert plan_memory([x, y]).size == 128
    assert plan_memory([x, y], {(y, x): Overlap(0, same=True)}).size == 64
    assert plan_memory([x, y], {(y, x): Overlap(16)}).size == 80
    assert plan_memory([x, y], {(y, x): Overlap(None, same=True)}).size == 64


def test_an_operand_that_is_needed_later_is_not_overwritten() -> None:
    x, y = buffers((64, 0, 2), (64, 1, 2))
    assert plan_memory([x, y], {(y, x): Overlap(0, same=True)}).size == 128


def test_exact_search_beats_every_greedy_order() -> None:
    """An instance, found by search, on which all orders of greedy placement stay above the optimum."""
    rows = buffers((3, 0, 2), (2, 0, 0), (2, 1, 4), (1, 2, 3), (3, 3, 5), (2, 4, 5), (1, 5, 5), (2, 0, 1))
    problem = _Problem.of(rows, {}, 1)
    bound = problem.lower_bound()
    exact = solve_exactly(problem, bound, 1 << 10, 10000)
    assert exact is not None and bound <= problem.extent(exact) <= plan_memory(rows, alignment=1).size
    problem.check(exact)


@pytest.mark.parametrize("seed", range(25))
def test_plans_are_legal_and_tight(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 16))
    rows = buffers(*((int(rng.integers(1, 500)), i, i + int(rng.integers(0, 4))) for i in range(count)))
    allowed = {
        (out, operand): Overlap(int(rng.integers(0, 60)) if rng.random() < 0.7 else None, bool(rng.random() < 0.5))
        for out in rows
        for operand in rows
        if operand is not out and operand.last == out.first and rng.random() < 0.6
    }
    found = plan_memory(rows, allowed, alignment=4)
    assert clashes(found, allowed) == []
    assert all(at % 4 == 0 and at + b.size <= found.size for b, at in found.offsets.items())
    assert found.lower_bound <= found.size <= 1.05 * found.lower_bound
    assert plan_memory(rows, allowed, alignment=4).offsets == found.offsets


def test_no_buffers() -> None:
    assert (plan_memory([]).size, plan_memory([]).ratio) == (0, 1.0)
