"""Sequential integer programs: losses measured around a solution make the next additive problem.

Sensitivities are taken one group at a time with all others wide. In a few bits groups are lossy together, and what one
more step of a group costs there is another matter. So every group's next choice up and down is measured at the solution
at hand; the integer program over those differences proposes the next one, in full and with fewer of its changes, the
differences themselves propose single changes and swaps of two, and the best measured one is kept. It ends where none is
better.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from qcompiler.search.solvers.base import Certificate, Problem, Row, Solution
from qcompiler.search.solvers.ilp import solve_ilp

Measure = Callable[[Sequence[tuple[int, ...]]], Sequence[float]]
SHARES = (1.0, 0.5, 0.25)
"""Of the changes that the integer program wants: differences hold near the solution that they were measured at."""
SWAPS = 8
"""Single changes and swaps of two that are measured as well, those with the least sum of differences."""


def solve_descent(problem: Problem, start: Sequence[int], measure: Measure, steps: int = 1) -> Solution:
    """Improve a feasible solution.

    Args:
        problem: its budgets; the objective is not used, `measure` is.
        start: feasible.
        measure: losses of a batch; those around a solution need not be feasible.
        steps: integer programs at most.
    """
    assert problem.is_feasible(start), "descent starts from a solution within the budgets"
    parent = tuple(start)
    (loss,) = measure([parent])
    evaluations, kept = 1, [parent]
    for _ in range(steps):
        around = [(g, c) for g, row in enumerate(problem.objective) for c in _adjacent(parent[g], len(row))]
        found = measure([_changed(parent, g, c) for g, c in around])
        table = [np.zeros(len(row)) for row in problem.objective]
        for (g, c), value in zip(around, found, strict=True):
            table[g][c] = value - loss
        changes = [(g, c, table[g][c]) for g, c in around]
        proposals = list(dict.fromkeys([*_proposals(problem, parent, table), *_swaps(problem, parent, changes)]))
        losses = measure(proposals)
        evaluations += len(around) + len(proposals)
        if not proposals or min(losses) >= loss:
            break
        at = int(np.argmin(losses))
        parent, loss = proposals[at], float(losses[at])
        kept.append(parent)
    note = "measured; no bound"
    return Solution(parent, Certificate("descent", float(loss), -np.inf, evaluations, note), tuple(kept[-5:-1][::-1]))


def _adjacent(choice: int, count: int) -> list[int]:
    return [c for c in (choice - 1, choice + 1) if 0 <= c < count]


def _changed(solution: tuple[int, ...], group: int, choice: int) -> tuple[int, ...]:
    return (*solution[:group], choice, *solution[group + 1 :])


def _swaps(
    problem: Problem, parent: tuple[int, ...], changes: Sequence[tuple[int, int, float]]
) -> list[tuple[int, ...]]:
    """Feasible solutions one or two changes away, those whose differences promise most; none that promises a loss."""
    found = [(added, _changed(parent, g, c)) for g, c, added in changes if added < 0]
    for i, (g, c, added) in enumerate(changes):
        for h, d, more in changes[i + 1 :]:
            if g != h and added + more < 0:
                found.append((added + more, _changed(_changed(parent, g, c), h, d)))
    feasible = (solution for _, solution in sorted(found) if problem.is_feasible(solution))
    return list(itertools.islice(feasible, SWAPS))


def _proposals(problem: Problem, parent: tuple[int, ...], table: list[np.ndarray]) -> list[tuple[int, ...]]:
    """The program's solution, and its solutions with at most a share of those changes."""
    far = [np.array([float(abs(c - p) > 1) for c in range(len(row))]) for row, p in zip(table, parent, strict=True)]
    changed = [np.array([float(c != p) for c in range(len(row))]) for row, p in zip(table, parent, strict=True)]
    near = replace(problem, objective=table, rows=(*problem.rows, Row("reach", far, 0.0)))
    found: list[tuple[int, ...]] = []
    most = len(table)
    for share in SHARES:
        limited = replace(near, rows=(*near.rows, Row("changes", changed, float(int(most * share)))))
        solution = solve_ilp(limited).choices
        if not found:
            most = sum(a != b for a, b in zip(solution, parent, strict=True))
        if solution != parent:
            found.append(solution)
    return found
