"""Sequential quadratic programs: how errors of the outputs add up makes the next problem, interactions included.

A sum of sensitivities takes what two groups lose together for what each loses alone. Where the loss is the energy of
the outputs' error and the error of several changes is about the sum of theirs, it is a quadratic form instead,

    loss(x) = |e + sum_g d_g(x_g)|^2,

e the error at the solution at hand, d_g(c) what group g at choice c adds to it. One run per change gives all of them,
and their inner products are the interactions of all pairs. (CLADO, Deng et al., arXiv:2307.05657, minimises such a form
with interactions that are measured pair by pair.) The form is exact for single changes. It is minimised by exchange of
one or two changes at a time; solutions along that path, which leave the measured point ever farther, are measured, the
best is the next to start from, and it ends where none is better.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from qcompiler.search.solvers.base import Certificate, Problem, Solution

Measure = Callable[[Sequence[tuple[int, ...]]], Sequence[float]]
Change = tuple[int, int]
"""(group, its new choice)."""
Around = Callable[[tuple[int, ...], Sequence[Change]], np.ndarray]
"""(solution, changes) -> inner products [1 + changes, 1 + changes] of the error there and of what each change adds."""
PATH = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Exchanges after which the solution is measured, and after the last."""


def solve_quadratic(
    problem: Problem, start: Sequence[int], around: Around, measure: Measure, steps: int = 1
) -> Solution:
    """Improve a feasible solution.

    Args:
        problem: its budgets; the objective is not used, `around` and `measure` are.
        start: feasible.
        around: changes are to a group's next choice up or down; one of them alone need not be feasible.
        measure: losses of a batch, in the unit of `around`.
        steps: quadratic programs at most.
    """
    assert problem.is_feasible(start), "the search starts from a solution within the budgets"
    parent = tuple(start)
    (loss,) = measure([parent])
    evaluations, kept = 1, [parent]
    for _ in range(steps):
        changes = [
            (g, c) for g, row in enumerate(problem.objective) for c in (parent[g] - 1, parent[g] + 1) if 0 <= c < len(row)
        ]  # fmt: skip
        products = around(parent, changes)
        evaluations += len(changes)
        path = exchanged(problem, parent, changes, products)
        proposals = [path[i - 1] for i in PATH if i < len(path)] + path[-1:]
        if not proposals:
            break
        losses = measure(proposals)
        evaluations += len(proposals)
        at = int(np.argmin(losses))
        if losses[at] >= loss:
            break
        parent, loss = proposals[at], float(losses[at])
        kept.append(parent)
    note = "measured; no bound"
    return Solution(parent, Certificate("quadratic", float(loss), -np.inf, evaluations, note), tuple(kept[-5:-1][::-1]))


def exchanged(
    problem: Problem, parent: tuple[int, ...], changes: Sequence[Change], products: np.ndarray
) -> list[tuple[int, ...]]:
    """Feasible solutions on the way to a minimum of the quadratic form, each one or two groups from the one before."""
    linear, form = products[0, 1:], products[1:, 1:]
    own = [[i for i, (g, _) in enumerate(changes) if g == group] for group in range(len(parent))]
    costs = np.array([[row.table[g][c] - row.table[g][parent[g]] for g, c in changes] for row in problem.rows])
    costs = costs.reshape(len(problem.rows), len(changes))
    room = np.array([r.bound + 1e-9 * max(1.0, abs(r.bound)) - problem.value(parent, r.name) for r in problem.rows])
    taken = np.zeros(len(changes))
    path: list[tuple[int, ...]] = []
    while True:
        groups, moves = _moves(own, taken)
        gain = moves @ (2 * (linear + form @ taken))
        cross = moves @ form @ moves.T
        both = gain[:, None] + gain + 2 * cross + np.diag(cross)[:, None] + np.diag(cross)
        spent = costs @ taken
        cost = np.einsum("rn,mn->rm", costs, moves) + 0.0
        fits = (spent[:, None, None] + cost[:, :, None] + cost[:, None, :] <= room[:, None, None]).all(0)
        both[~fits | (groups[:, None] == groups)] = np.inf
        first, second = np.unravel_index(int(np.argmin(both)), both.shape)
        if not both[first, second] < -1e-9 * products[0, 0]:
            return path
        taken = taken + moves[first] + moves[second]
        solution = list(parent)
        for i in np.flatnonzero(taken > 0.5):
            solution[changes[i][0]] = changes[i][1]
        path.append(tuple(solution))


def _moves(own: list[list[int]], taken: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(group, change of `taken`) of everything that one group can do; the first is to stay, group -1."""
    groups, moves = [-1], [np.zeros(len(taken))]
    for group, members in enumerate(own):
        here = next((i for i in members if taken[i] > 0.5), None)
        for to in (None, *members):
            if to == here:
                continue
            move = np.zeros(len(taken))
            if here is not None:
                move[here] = -1
            if to is not None:
                move[to] = 1
            groups.append(group)
            moves.append(move)
    return np.array(groups), np.array(moves)
