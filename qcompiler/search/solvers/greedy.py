"""Greedy by ratio: take the cheapest loss per saving until the budget holds; its bound is the relaxation's.

For one budget the steps along each group's lower convex hull, in order of loss per saved cost, solve the linear
relaxation of the multiple-choice knapsack exactly (Sinha and Zoltners 1979); stopping at the first step that reaches
the budget gives an integral solution that is at most one step above the bound.
"""

from __future__ import annotations

import numpy as np

from qcompiler.search.solvers.base import Certificate, Problem, Solution, unreachable


def solve_greedy(problem: Problem) -> Solution:
    """A solution of an additive problem with one budget, in O(n log n).

    Raises:
        ConstraintError: nothing meets the budget. ValueError: fusions, transitions or several budgets.
    """
    if not problem.additive or len(problem.rows) != 1:
        raise ValueError("greedy takes additive problems with one budget; the integer program takes others")
    (row,) = problem.rows
    choices, steps = [], []
    for g, (loss, cost) in enumerate(zip(problem.objective, row.table, strict=True)):
        hull = _hull(np.asarray(loss, float), np.asarray(cost, float))
        choices.append(hull[0])
        for a, b in zip(hull, hull[1:], strict=False):
            steps.append(((loss[b] - loss[a]) / (cost[a] - cost[b]), g, b, cost[a] - cost[b], loss[b] - loss[a]))
    spent = sum(float(row.table[g][c]) for g, c in enumerate(choices))
    bound = value = sum(float(problem.objective[g][c]) for g, c in enumerate(choices))
    limit = row.bound + 1e-9 * max(1.0, abs(row.bound))
    taken = []
    for _, g, choice, saved, lost in sorted(steps, key=lambda s: (s[0], s[1])):
        if spent <= limit:
            break
        bound = value + lost * min(1.0, (spent - row.bound) / saved)  # the last step in part
        choices[g], spent, value = choice, spent - saved, value + lost
        taken.append(tuple(choices))
    if spent > limit:
        raise unreachable(problem)
    return Solution(tuple(choices), Certificate("greedy", value, bound, 0, "linear relaxation"), tuple(taken[-4:-1]))


def _hull(loss: np.ndarray, cost: np.ndarray) -> list[int]:
    """Choices on the lower convex hull, from the least loss to the least cost."""
    hull: list[int] = []
    for i in np.lexsort((cost, loss)):
        if hull and cost[i] >= cost[hull[-1]]:
            continue  # more loss and no saving
        while len(hull) > 1:
            a, b = hull[-2], hull[-1]
            # b is above the line from a to i: its step costs more per saving than the two together
            if (loss[b] - loss[a]) * (cost[a] - cost[i]) >= (loss[i] - loss[a]) * (cost[a] - cost[b]):
                hull.pop()
            else:
                break
        hull.append(int(i))
    return hull
