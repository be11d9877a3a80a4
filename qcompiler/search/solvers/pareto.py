"""Dynamic program over the groups: every solution that no other beats in both objective and one cost.

Fronts of the first g groups and of group g + 1 are added and thinned. Exact while a front has at most `width`
points; beyond that, one point per bucket of cost is kept, which can only lose solutions: costs stay exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qcompiler.search.solvers.base import Certificate, Problem, Solution, Table, unreachable

WIDTH = 20_000


@dataclass(frozen=True)
class Front:
    """Solutions by ascending cost and descending objective.

    Attributes:
        cost, objective: float64 [n].
        choices: [n, groups].
        exact: no front was thinned to buckets.
    """

    cost: np.ndarray
    objective: np.ndarray
    choices: np.ndarray
    exact: bool


def pareto_front(objective: Table, cost: Table, width: int = WIDTH) -> Front:
    """The front of an additive problem with one cost."""
    front = Front(np.zeros(1), np.zeros(1), np.zeros((1, 0), np.int16), True)
    for losses, costs in zip(objective, cost, strict=True):
        n = len(losses)
        total_cost = (front.cost[:, None] + np.asarray(costs, float)).ravel()
        total = (front.objective[:, None] + np.asarray(losses, float)).ravel()
        choices = np.concatenate(
            [np.repeat(front.choices, n, 0), np.tile(np.arange(n, dtype=np.int16), len(front.cost))[:, None]], 1
        )
        kept = _thin(total_cost, total)
        exact = front.exact
        if len(kept) > width:
            buckets = np.floor((total_cost[kept] - total_cost[kept[0]]) / np.ptp(total_cost[kept]) * width)
            last = np.flatnonzero(np.diff(buckets, append=np.inf))  # of each bucket the dearest, which loses least
            kept = kept[np.union1d(last, [0])]  # and the cheapest of all, so that what is reachable stays so
            exact = False
        front = Front(total_cost[kept], total[kept], choices[kept], exact)
    return front


def _thin(cost: np.ndarray, objective: np.ndarray) -> np.ndarray:
    """Indices of what nothing dominates, by cost."""
    order = np.lexsort((objective, cost))
    best = np.minimum.accumulate(objective[order])
    first = np.concatenate([[True], objective[order][1:] < best[:-1]])
    return order[first]


def solve_pareto(problem: Problem, width: int = WIDTH) -> Solution:
    """The best solution within the one budget of an additive problem.

    Raises:
        ConstraintError: nothing meets it. ValueError: fusions, transitions or several budgets.
    """
    if not problem.additive or len(problem.rows) != 1:
        raise ValueError("the Pareto program takes additive problems with one budget; the integer program takes others")
    (row,) = problem.rows
    front = pareto_front(problem.objective, row.table, width)
    within = np.flatnonzero(front.cost <= row.bound + 1e-9 * max(1.0, abs(row.bound)))
    if not within.size:
        raise unreachable(problem)
    at = int(within[-1])
    choices = tuple(int(c) for c in front.choices[at])
    value = float(front.objective[at])
    bound, note = (value, "exact front") if front.exact else (-np.inf, "front thinned to buckets of cost")
    others = tuple(tuple(int(c) for c in front.choices[i]) for i in within[-6:-1][::-1])
    return Solution(choices, Certificate("pareto", value, bound, 0, note), others)
