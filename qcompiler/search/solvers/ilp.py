"""Integer linear program, solved by HiGHS (scipy.optimize.milp): proven bounds, fusion, transitions, any budgets.

One binary per group and choice, exactly one of each group set. A fusion is a binary below every sum of choices that
it needs; a transition is a variable above every difference of formats: t >= sum(first in f) - sum(second in f).
"""

from __future__ import annotations

import numpy as np
from scipy import optimize, sparse

from qcompiler.errors import ConstraintError
from qcompiler.search.solvers.base import OBJECTIVE, Certificate, Problem, Solution, unreachable

GAP = 1e-4
SECONDS = 60.0


def solve_ilp(problem: Problem, seconds: float = SECONDS, excluded: tuple[tuple[int, ...], ...] = ()) -> Solution:
    """The best solution, or the best found in the time, with HiGHS's own bound.

    Args:
        problem: what to minimise.
        seconds: limit.
        excluded: solutions that may not come out: for the next best ones.

    Raises:
        ConstraintError: nothing meets the budgets.
    """
    model = _Model(problem)
    for choices in excluded:
        model.exclude(choices)
    found = optimize.milp(
        model.costs,
        constraints=optimize.LinearConstraint(*model.rows()),
        integrality=np.ones(len(model.costs)),
        bounds=optimize.Bounds(0, 1),
        options={"mip_rel_gap": GAP, "time_limit": seconds},
    )
    if found.x is None:
        raise unreachable(problem)
    choices = model.choices(found.x)
    bound = float(found.mip_dual_bound) if found.mip_dual_bound is not None else -np.inf
    note = "HiGHS's dual bound of the additive problem" + ("" if found.status == 0 else ", stopped by time")
    return Solution(choices, Certificate("ilp", problem.value(choices), bound, 0, note))


def best_solutions(problem: Problem, count: int, seconds: float = SECONDS) -> list[Solution]:
    """The `count` best solutions (fewer if there are fewer), each excluded from the next search."""
    found: list[Solution] = []
    while len(found) < count:
        try:
            found.append(solve_ilp(problem, seconds, tuple(s.choices for s in found)))
        except ConstraintError:
            if not found:
                raise
            break
    return found


class _Model:
    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.starts = np.concatenate([[0], np.cumsum([len(t) for t in problem.objective])]).astype(int)
        self.fusion_at = int(self.starts[-1])
        self.transition_at = self.fusion_at + len(problem.fusions)
        self.count = self.transition_at + len(problem.transitions)
        self.costs = self._vector(OBJECTIVE, problem.objective)
        self._rows: list[tuple[np.ndarray, float, float]] = []
        for g in range(len(problem.objective)):
            self._add(dict.fromkeys(range(self.starts[g], self.starts[g + 1]), 1.0), 1.0, 1.0)
        for row in problem.rows:
            scale = max(1.0, abs(row.bound))  # bytes and milliseconds alike: rows of about one
            self._rows.append((self._vector(row.name, row.table) / scale, -np.inf, row.bound / scale))
        for i, fusion in enumerate(problem.fusions):
            for g, allowed in fusion.choices.items():
                self._add({self.fusion_at + i: 1.0, **{self.starts[g] + c: -1.0 for c in allowed}}, -np.inf, 0.0)
        for i, edge in enumerate(problem.transitions):
            for form in sorted({*edge.formats[0], *edge.formats[1]}):
                row = {self.transition_at + i: -1.0}
                for g, formats, sign in ((edge.first, edge.formats[0], 1.0), (edge.second, edge.formats[1], -1.0)):
                    row |= {self.starts[g] + c: sign for c, f in enumerate(formats) if f == form}
                self._add(row, -np.inf, 0.0)

    def _vector(self, name: str, table: object) -> np.ndarray:
        gains = [-f.gains.get(name, 0.0) for f in self.problem.fusions]
        costs = [t.costs.get(name, 0.0) for t in self.problem.transitions]
        return np.concatenate([*table, gains, costs])  # type: ignore[misc]

    def _add(self, entries: dict[int, float], low: float, high: float) -> None:
        row = np.zeros(self.count)
        row[list(entries)] = list(entries.values())
        self._rows.append((row, low, high))

    def exclude(self, choices: tuple[int, ...]) -> None:
        """At least one group differs."""
        self._add({int(self.starts[g]) + c: 1.0 for g, c in enumerate(choices)}, -np.inf, len(choices) - 1.0)

    def rows(self) -> tuple[sparse.csr_array, np.ndarray, np.ndarray]:
        """(matrix, lower, upper)."""
        matrix = sparse.csr_array(np.array([r[0] for r in self._rows]))
        return matrix, np.array([r[1] for r in self._rows]), np.array([r[2] for r in self._rows])

    def choices(self, x: np.ndarray) -> tuple[int, ...]:
        """The choice of each group."""
        return tuple(int(np.argmax(x[a:b])) for a, b in zip(self.starts, self.starts[1:], strict=False))
