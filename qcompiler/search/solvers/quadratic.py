"""Sequential quadratic programs: how errors of the outputs add up makes the next problem, interactions included.

A sum of sensitivities takes what two groups lose together for what each loses alone. Where the loss is the energy of
the outputs' error and the error of several changes is about the sum of theirs, it is a quadratic form instead,

    loss(x) = |e + sum_g d_g(x_g)|^2,

e the error at the solution at hand, d_g(c) what group g at choice c adds to it. One run per change gives all of them,
and their inner products are the interactions of all pairs. (CLADO, Deng et al., arXiv:2307.05657, minimises such a form
with interactions that are measured pair by pair.) The form is exact for single changes. It is minimised by exchange of
one or two changes at a time, then from states that were changed at random (iterated local search). Solutions along the
first path, which leave the measured point ever farther, and the minima are measured, the best is the next to start from,
and it ends where none is better.
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
KICKS, SEEDS, KICKED = 150, 3, 4
"""Restarts of a search on the form, searches, and most groups that a restart changes."""
WORSE = 0.002
"""A minimum that is so much worse is gone on from as well, of its value."""


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
        form = Form(problem, parent, changes, around(parent, changes))
        evaluations += len(changes)
        path = form.descended(np.zeros(len(changes)))
        states = [path[i - 1] for i in PATH if i < len(path)] + path[-1:] + [form.kicked(KICKS, seed) for seed in range(SEEDS)]
        proposals = [s for s in dict.fromkeys(form.solution(t) for t in states) if s != parent]
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


class Form:
    """The quadratic form around a solution, and moves on it. A state is 0 or 1 per change, at most one 1 per group."""

    def __init__(
        self, problem: Problem, parent: tuple[int, ...], changes: Sequence[Change], products: np.ndarray
    ) -> None:
        self.parent, self.changes = parent, changes
        self.loss, self.linear, self.form = float(products[0, 0]), products[0, 1:], products[1:, 1:]
        self.own = [[i for i, (g, _) in enumerate(changes) if g == group] for group in range(len(parent))]
        costs = [[row.table[g][c] - row.table[g][parent[g]] for g, c in changes] for row in problem.rows]
        self.costs = np.array(costs, float).reshape(len(problem.rows), len(changes))
        self.room = np.array(
            [r.bound + 1e-9 * max(1.0, abs(r.bound)) - problem.value(parent, r.name) for r in problem.rows]
        )

    def value(self, taken: np.ndarray) -> float:
        """The form at a state."""
        return float(self.loss + 2 * self.linear @ taken + taken @ self.form @ taken)

    def solution(self, taken: np.ndarray) -> tuple[int, ...]:
        """What a state stands for."""
        found = list(self.parent)
        for i in np.flatnonzero(taken > 0.5):
            group, choice = self.changes[int(i)]
            found[group] = choice
        return tuple(found)

    def descended(self, taken: np.ndarray) -> list[np.ndarray]:
        """Feasible states on the way from a feasible one to a minimum, each one or two groups from the one before."""
        path: list[np.ndarray] = []
        while True:
            groups, moves = self._moves(taken)
            gain = moves @ (2 * (self.linear + self.form @ taken))
            cross = moves @ self.form @ moves.T
            gain = gain + np.diag(cross)
            both = gain[:, None] + gain + 2 * cross
            spent, cost = self.costs @ taken, self.costs @ moves.T
            fits = (spent[:, None, None] + cost[:, :, None] + cost[:, None, :] <= self.room[:, None, None]).all(0)
            both[~fits | (groups[:, None] == groups)] = np.inf
            first, second = np.unravel_index(int(np.argmin(both)), both.shape)
            if not both[first, second] < -1e-9 * self.loss:
                return path
            taken = taken + moves[first] + moves[second]
            path.append(taken)

    def kicked(self, kicks: int, seed: int) -> np.ndarray:
        """The best of the minima that descent reaches, a few groups changed at random from the last good one each time."""
        rng = np.random.default_rng([seed, 31])
        stay = np.zeros(len(self.changes))
        best: np.ndarray = ([stay] + self.descended(stay))[-1]
        here = best
        for _ in range(kicks):
            taken = here.copy()
            for group in rng.choice(len(self.own), min(len(self.own), int(rng.integers(1, KICKED + 1))), replace=False):
                taken[self.own[group]] = 0
                to = int(rng.integers(-1, len(self.own[group])))
                if to >= 0:
                    taken[self.own[group][to]] = 1
            repaired = self._repaired(taken)
            if repaired is None:
                continue
            taken = ([repaired] + self.descended(repaired))[-1]
            if self.value(taken) < self.value(here) + WORSE * abs(self.value(here)):
                here = taken
            if self.value(taken) < self.value(best):
                best = taken
        return best

    def _repaired(self, taken: np.ndarray) -> np.ndarray | None:
        """A state within the budgets: groups changed one by one, least loss per cost first; None where that fails."""
        for _ in range(2 * len(self.own)):
            over = self.costs @ taken - self.room
            if not (over > 0).any():
                return taken
            _, moves = self._moves(taken)
            cost = moves @ self.costs[int(np.argmax(over / np.abs(self.costs).max(1, initial=1e-30)))]
            gain = moves @ (2 * (self.linear + self.form @ taken)) + np.einsum("ij,jk,ik->i", moves, self.form, moves)
            score = np.where(cost < 0, gain / np.where(cost < 0, -cost, 1.0), np.inf)
            if not np.isfinite(score).any():
                return None
            taken = taken + moves[int(np.argmin(score))]
        return None

    def _moves(self, taken: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(group, change of the state) of everything that one group can do; the first is to stay, group -1."""
        groups, moves = [-1], [np.zeros(len(taken))]
        for group, members in enumerate(self.own):
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
