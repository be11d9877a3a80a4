"""Bisection on the sorted list: how many of the least sensitive groups may go to the next precision.

For every precision in turn, groups sorted by what the step to it adds to the loss are lowered from the front of the
list, and bisection finds the largest number that keeps the limit: at most ceil(log2 L) + 1 measured configurations
per precision (inter-layer Hessian method, arXiv:2306.04879, section 3). It assumes that the loss grows along the
list; each count that is kept has been measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from qcompiler.search.solvers.base import Certificate, Solution, Table

Keeps = Callable[[tuple[int, ...]], bool]


def solve_bisection(
    objective: Table, levels: Sequence[Sequence[int]], keeps: Keeps, start: Sequence[int] | None = None
) -> Solution:
    """Lower groups as far as the limit allows.

    Args:
        objective: sensitivity by group and choice.
        levels: choices of each group from the widest down; a group with fewer levels stays at its last.
        keeps: measures a configuration and says whether the limit holds.
        start: where to begin, default every group at its first level. Taken to keep the limit.
    """
    current = list(start or [level[0] for level in levels])
    evaluations = 0
    for step in range(1, max(len(level) for level in levels)):
        movable = [g for g, level in enumerate(levels) if len(level) > step and current[g] == level[step - 1]]
        added = {g: objective[g][levels[g][step]] - objective[g][current[g]] for g in movable}
        order = sorted(movable, key=lambda g: (added[g], g))
        low, high = 0, len(order)  # `low` groups are known to keep the limit
        while low < high:
            middle = (low + high + 1) // 2
            evaluations += 1
            if keeps(_lowered(current, order[:middle], levels, step)):
                low = middle
            else:
                high = middle - 1
        current = list(_lowered(current, order[:low], levels, step))
    value = float(sum(row[c] for row, c in zip(objective, current, strict=True)))
    note = "monotone loss along the sorted list is assumed"
    return Solution(tuple(current), Certificate("bisection", value, -np.inf, evaluations, note))


def _lowered(current: Sequence[int], which: Sequence[int], levels: Sequence[Sequence[int]], step: int) -> tuple[int, ...]:
    chosen = set(which)
    return tuple(levels[g][step] if g in chosen else c for g, c in enumerate(current))
