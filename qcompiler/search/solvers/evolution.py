"""Evolutionary level switching: one parent, offspring that trade one group's level for another's, staged selection.

(EvoPress, Sieberling et al., arXiv:2410.14649, section 3: a (1 + lambda) elitist search whose mutation raises and
lowers as many levels and so keeps the budget; survivors are chosen on more and more data.) For losses that are not
additive. Groups of unequal cost are allowed: a swap that breaks the budget is drawn again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from qcompiler.search.solvers.base import Certificate, Problem, Solution

Measure = Callable[[Sequence[tuple[int, ...]], int], Sequence[float]]
"""(solutions, stage) -> their losses, measured on more data in later stages."""


@dataclass(frozen=True)
class Evolution:
    """Settings.

    Attributes:
        generations: how often offspring are made.
        offspring: per generation.
        survivors: kept after each stage; the last is 1. One stage per entry.
        swaps: most swaps of a mutation (the smaller of two draws from 1..swaps).
        tries: draws of one offspring before a smaller mutation is taken.
    """

    generations: int = 20
    offspring: int = 16
    survivors: tuple[int, ...] = (4, 1)
    swaps: int = 3
    tries: int = 200


def solve_evolution(
    problem: Problem, start: Sequence[int], measure: Measure, settings: Evolution, seed: int = 0
) -> Solution:
    """Improve a feasible solution.

    Args:
        problem: its budgets; the objective is not used, `measure` is.
        start: feasible.
        measure: losses of a batch.
        settings: sizes.
        seed: of the mutations.
    """
    assert problem.is_feasible(start), "evolution starts from a solution within the budgets"
    rng = np.random.default_rng([seed, 29])
    last = len(settings.survivors) - 1
    parent = tuple(start)
    (loss,) = measure([parent], last)
    evaluations, kept = 1, [parent]
    for _ in range(settings.generations):
        pool = list(dict.fromkeys(_mutated(problem, parent, rng, settings) for _ in range(settings.offspring)))
        pool = [p for p in pool if p != parent]
        if not pool:
            break
        scores: Sequence[float] = []
        for stage, survivors in enumerate(settings.survivors):
            scores = measure(pool, stage)
            evaluations += len(pool)
            order = np.argsort(scores, kind="stable")[:survivors]
            pool, scores = [pool[i] for i in order], [scores[i] for i in order]
        if scores[0] < loss:
            parent, loss = pool[0], float(scores[0])
            kept.append(parent)
    note = "measured; no bound"
    return Solution(parent, Certificate("evolution", float(loss), -np.inf, evaluations, note), tuple(kept[-5:-1][::-1]))


def _mutated(
    problem: Problem, parent: tuple[int, ...], rng: np.random.Generator, settings: Evolution
) -> tuple[int, ...]:
    groups = [g for g, row in enumerate(problem.objective) if len(row) > 1]
    count = int(min(rng.integers(1, settings.swaps + 1), rng.integers(1, settings.swaps + 1)))
    for _ in range(settings.tries):
        child = list(parent)
        for _ in range(count):
            for g in rng.choice(groups, size=min(2, len(groups)), replace=False):
                others = [c for c in range(len(problem.objective[g])) if c != child[g]]
                child[g] = int(rng.choice(others))
        if problem.is_feasible(child):
            return tuple(child)
    return parent
