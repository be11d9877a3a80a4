"""An additive problem, its solutions, and the certificate that every solver gives with one.

    minimise  sum_g objective[g][x_g]  +  fusion gains  +  transition costs
    such that sum_g row.table[g][x_g]  +  fusion gains  +  transition costs  <= row.bound    for every row

x_g is the choice of group g. Loss and costs are additive here by assumption; what a configuration really loses is
measured afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from qcompiler.errors import ConstraintError

Table = Sequence[np.ndarray]
OBJECTIVE = "objective"


@dataclass(frozen=True)
class Row:
    """A budget: a table of costs and what their sum may be at most."""

    name: str
    table: Table
    bound: float


@dataclass(frozen=True)
class Fusion:
    """Groups that become one kernel where each has one of its `choices`: what that saves.

    Attributes:
        choices: group -> choices that fuse.
        gains: name of a row, or `OBJECTIVE` -> what is saved there, >= 0.
    """

    choices: Mapping[int, frozenset[int]]
    gains: Mapping[str, float]


@dataclass(frozen=True)
class Transition:
    """Two groups where a value goes from one to the other: what a change of format between them costs.

    Attributes:
        first, second: groups.
        formats: for each of both, the format of every choice.
        costs: name of a row, or `OBJECTIVE` -> cost where the formats differ, >= 0.
    """

    first: int
    second: int
    formats: tuple[tuple[str, ...], tuple[str, ...]]
    costs: Mapping[str, float]


@dataclass(frozen=True)
class Problem:
    """See the module docstring."""

    objective: Table
    rows: tuple[Row, ...] = ()
    fusions: tuple[Fusion, ...] = ()
    transitions: tuple[Transition, ...] = ()

    def value(self, choices: Sequence[int], name: str = OBJECTIVE) -> float:
        """Objective or a row's sum at a solution, fusions and transitions included."""
        table = self.objective if name == OBJECTIVE else next(r.table for r in self.rows if r.name == name)
        total = float(sum(row[c] for row, c in zip(table, choices, strict=True)))
        for fusion in self.fusions:
            if all(choices[g] in allowed for g, allowed in fusion.choices.items()):
                total -= fusion.gains.get(name, 0.0)
        for edge in self.transitions:
            if edge.formats[0][choices[edge.first]] != edge.formats[1][choices[edge.second]]:
                total += edge.costs.get(name, 0.0)
        return total

    def is_feasible(self, choices: Sequence[int]) -> bool:
        """True if every budget holds (to 1e-9 of it, which sums of floats need)."""
        return all(self.value(choices, r.name) <= r.bound + 1e-9 * max(1.0, abs(r.bound)) for r in self.rows)

    @property
    def additive(self) -> bool:
        """True without fusions and transitions."""
        return not self.fusions and not self.transitions


@dataclass(frozen=True)
class Certificate:
    """What is known about how good a solution is.

    Attributes:
        solver: name.
        objective: of the solution, as the problem adds it up (or as measured, for solvers that measure).
        bound: no solution is below this; -inf where the solver knows none.
        evaluations: of the network; 0 for solvers that only add.
        note: in words, what the bound rests on.
    """

    solver: str
    objective: float
    bound: float = -np.inf
    evaluations: int = 0
    note: str = ""

    @property
    def gap(self) -> float:
        """(objective - bound) / |objective|: 0 is proven best; inf if there is no bound."""
        if self.objective <= self.bound:
            return 0.0
        return (self.objective - self.bound) / max(abs(self.objective), 1e-12)


@dataclass(frozen=True)
class Solution:
    """Choices per group, best first: the solution, and others that a solver came across and that are worth a trial."""

    choices: tuple[int, ...]
    certificate: Certificate
    others: tuple[tuple[int, ...], ...] = field(default=())


def unreachable(problem: Problem) -> ConstraintError:
    """The error for budgets that nothing meets: the least reachable value of each row."""
    least = [f"{r.name} {sum(float(t.min()) for t in r.table):.6g} (limit {r.bound:.6g})" for r in problem.rows]
    return ConstraintError(f"no configuration keeps the limits; the least reachable by itself is {', '.join(least)}")
