"""The smallest arena by mixed-integer programming.

    minimize   M
    subject to x_b + size_b <= M                                  for every buffer
               x_b >= x_a + gap(a, b) - B (1 - p)                 for every pair live together: one of
               x_a >= x_b + gap(b, a) - B (1 - q)                 a below b, b below a,
               |x_a - x_b| <= B (1 - r)                           or, where allowed, at the same place
               p + q (+ r) >= 1,  x >= 0, p, q, r in {0, 1}

B is the size of a plan that is known already. All sizes are divided by their greatest common divisor, which keeps
the numbers small for the solver.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from qcompiler.targets.mcu.memory_plan import Buffer, _Problem


def solve_exactly(problem: _Problem, bound: int, known: int, nodes: int) -> dict[Buffer, int] | None:
    """Offsets of a plan smaller than `known`, or None if there is none or it was not found within `nodes` nodes.

    Args:
        problem: sizes and gaps.
        bound: the plan cannot be smaller.
        known: size of the plan to beat.
        nodes: limit of the branch and bound; a limit in time would make the plan depend on the machine.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    buffers = problem.buffers
    gaps = [problem.gap(a, b) for pair in problem.pairs for a, b in (pair, pair[::-1])]
    unit = math.gcd(*problem.sizes.values(), *(g for g in gaps if g))
    big = known // unit
    place = {b: i for i, b in enumerate(buffers)}
    count = len(buffers) + 1
    top = len(buffers)
    rows: list[dict[int, float]] = []
    least: list[float] = []

    def at_least(row: dict[int, float], value: float) -> None:
        rows.append(row)
        least.append(value)

    for b in buffers:
        at_least({top: 1, place[b]: -1}, problem.sizes[b] // unit)
    for a, b in problem.pairs:
        below, above = count, count + 1
        count += 2
        for low, high, chosen in ((a, b, below), (b, a, above)):
            at_least({place[high]: 1, place[low]: -1, chosen: -big}, problem.gap(low, high) // unit - big)
        choices = {below: 1.0, above: 1.0}
        if problem.may_coincide(a, b):
            same, count = count, count + 1
            choices[same] = 1.0
            at_least({place[a]: 1, place[b]: -1, same: -big}, -big)
            at_least({place[b]: 1, place[a]: -1, same: -big}, -big)
        at_least(choices, 1)
    matrix = csr_array(
        (
            [v for row in rows for v in row.values()],
            ([i for i, row in enumerate(rows) for _ in row], [j for row in rows for j in row]),
        ),
        shape=(len(rows), count),
    )
    integer = np.ones(count)
    upper = np.array([big] * (top + 1) + [1] * (count - top - 1), float)
    lower = np.zeros(count)
    lower[top] = bound // unit
    cost = np.zeros(count)
    cost[top] = 1
    found = milp(
        cost,
        constraints=LinearConstraint(matrix, lb=np.array(least)),
        bounds=Bounds(lower, upper),
        integrality=integer,
        options={"node_limit": nodes, "mip_rel_gap": 0.0},
    )
    if found.x is None:
        return None
    offsets = {b: round(found.x[place[b]]) * unit for b in buffers}
    return offsets if problem.extent(offsets) < known else None
