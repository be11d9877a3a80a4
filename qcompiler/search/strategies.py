"""How a search chooses its trials: guided by a cost model, or by one solver alone.

| name | trials | where |
|---|---|---|
| `guided` | generations proposed by boosted trees from the additive front, neighbours of the best, random ones | any limit |
| `ilp` | the integer program's best solutions, one after the other; for a limited drop, of a sweep of budgets | any limit |
| `pareto` | points of the exact additive front, those nearest to the limit first | any limit |
| `greedy` | the greedy solutions for a sweep of budgets | any limit |
| `evolution` | offspring of the best one within the budget (EvoPress) | a limit on a cost |
| `bisection` | along the sorted list of sensitivities | a limit on the drop |

All are judged by the same trials, which a store may hold already; each gives certificates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from qcompiler.errors import ConstraintError, UsageError, did_you_mean
from qcompiler.search.solvers import (
    Certificate,
    Evolution,
    Problem,
    Row,
    Solution,
    best_solutions,
    pareto_front,
    solve_bisection,
    solve_evolution,
    solve_greedy,
    solve_ilp,
)

if TYPE_CHECKING:
    from qcompiler.search.goal import Goal
    from qcompiler.search.guided import Aim, Guide
    from qcompiler.search.sensitivity import Sensitivity
    from qcompiler.search.space import Config, Space
    from qcompiler.search.store import Trial


class Stop(Exception):
    """There is no budget for another trial; says of what."""


@dataclass
class Board:
    """What a strategy may use.

    Attributes:
        space, goal, sensitivity: the problem.
        guide: proposes by model.
        baseline: the configuration of the recipe as it is.
        generation: trials that are asked for together.
        trials: accuracy trials in all.
        seed: of random choices.
        aim: what counts, with what is known by now.
        measure: run accuracy trials; those that were run before cost nothing. Raises Stop.
        between: called after a generation.
        certificates: what solvers proved, the last one of the answer.
    """

    space: Space
    goal: Goal
    sensitivity: Sensitivity
    guide: Guide
    baseline: Config
    generation: int
    trials: int
    seed: int
    aim: Callable[[], Aim]
    measure: Callable[[Sequence[Config]], list[Trial]]
    between: Callable[[], None]
    certificates: list[Certificate] = field(default_factory=list)

    def config(self, choices: Sequence[int]) -> Config:
        """Choices of the groups with the first option of every knob."""
        return self.space.canonical((*(0 for _ in self.space.knobs), *choices))

    def table(self) -> list[np.ndarray]:
        """The formula of the cost that counts."""
        return list(self.aim().table)

    def problem(self) -> Problem:
        """The additive problem within the limit on a cost."""
        aim = self.aim()
        return Problem(self.sensitivity.table, (Row(aim.cost, self.table(), aim.bound),))

    def run(self, solutions: Sequence[Sequence[int]]) -> list[Trial]:
        """Trials of solutions, in generations; illegal ones are left out."""
        configs = [c for c in dict.fromkeys(map(self.config, solutions)) if self.space.is_legal(c)]
        found: list[Trial] = []
        for at in range(0, len(configs), self.generation):
            found += self.measure(configs[at : at + self.generation])
            self.between()
        return found


def run_guided(board: Board) -> None:
    """Generations proposed by the cost model."""
    guide, generation = board.guide, 0
    while True:
        aim = board.aim()
        if generation == 0:
            batch = guide.first(aim, board.baseline, board.generation)
        else:
            guide.learn()
            batch = guide.propose(aim, board.generation, generation)
        if not batch:
            raise Stop("exhausted")
        board.measure(batch)
        board.between()
        generation += 1


def run_ilp(board: Board) -> None:
    """Best solutions within the limit, or for a limited drop, of budgets that close in on it."""
    if board.aim().limit is None:
        _sweep(board, solve_ilp)
        return
    count = min(board.trials, 4 * board.generation)
    found = best_solutions(board.problem(), count)
    board.certificates.append(found[0].certificate)
    board.run([s.choices for s in found])


def run_greedy(board: Board) -> None:
    """Greedy solutions at the limit and below it, or of budgets that close in on it."""
    if board.aim().limit is None:
        _sweep(board, solve_greedy)
        return
    problem = board.problem()
    (row,) = problem.rows
    least = sum(float(np.min(t)) for t in row.table)
    found: list[Solution] = []
    for share in np.linspace(1, 0, 4 * board.generation, endpoint=False):
        found.append(solve_greedy(replace(problem, rows=(replace(row, bound=least + share * (row.bound - least)),))))
    board.certificates.append(found[0].certificate)
    board.run([c for s in found for c in (s.choices, *s.others)])


def run_pareto(board: Board) -> None:
    """Points of the additive front: those within the limit, dearest first; or all, from both sides of the limit."""
    aim, table = board.aim(), board.table()
    front = pareto_front(board.sensitivity.table, table)
    rows = [tuple(int(c) for c in row) for row in front.choices]
    note = "exact front" if front.exact else "front thinned to buckets of cost"
    if aim.limit is not None:
        within = np.flatnonzero(front.cost <= aim.bound * (1 + 1e-9))[::-1]
        if not within.size:
            raise ConstraintError(f"no configuration has {aim.cost} within the limit")
        value = float(front.objective[within[0]])
        board.certificates.append(Certificate("pareto", value, value if front.exact else -np.inf, 0, note))
        board.run([rows[i] for i in within[: board.trials]])
        return
    low, high = 0, len(rows) - 1  # loss falls along the front: the cheapest point that keeps the limit is looked for
    while low <= high:
        spaced = np.unique(np.linspace(low, high, board.generation).round().astype(int))
        trials = board.run([rows[i] for i in spaced])
        kept = [int(i) for i, t in zip(spaced, trials, strict=False) if board.goal.meets(t)]
        lost = [int(i) for i, t in zip(spaced, trials, strict=False) if not board.goal.meets(t)]
        if not kept or len(spaced) == high - low + 1:
            break
        low, high = max([i for i in lost if i < min(kept)], default=low - 1) + 1, min(kept) - 1
        value = float(front.objective[min(kept)])
        board.certificates.append(Certificate("pareto", value, value if front.exact else -np.inf, 0, note))


def _sweep(board: Board, solve: Callable[[Problem], Solution]) -> None:
    """Least sensitivity for budgets of the cost between which the limit on the drop is closed in."""
    table = board.table()
    low = sum(float(np.min(t)) for t in table)
    high = sum(float(t[np.argmin(s)]) for t, s in zip(table, board.sensitivity.table, strict=True))
    for _ in range(max(1, board.trials // board.generation)):
        budgets = np.linspace(low, high, board.generation)
        found = [solve(Problem(board.sensitivity.table, (Row("cost", table, float(b)),))) for b in budgets]
        trials = {t.key: t for t in board.run([s.choices for s in found])}
        keeps = [
            (t := trials.get(board.space.key(board.config(s.choices)))) is not None and board.goal.meets(t) for s in found
        ]
        at = keeps.index(True) if True in keeps else len(keeps) - 1
        board.certificates.append(found[at].certificate)
        low, high = float(budgets[max(0, at - 1)]), float(budgets[at])
        if high - low < 1e-6 * high:
            break


def run_evolution(board: Board) -> None:
    """Offspring of the integer program's solution; losses are measured."""
    problem = board.problem()
    start = solve_ilp(problem)
    board.certificates.append(start.certificate)

    def measure(solutions: Sequence[tuple[int, ...]], stage: int) -> list[float]:
        configs = [board.config(s) for s in solutions]
        legal = [c for c in dict.fromkeys(configs) if board.space.is_legal(c)]
        losses = {t.key: t.value("loss") for t in board.measure(legal)}
        board.between()
        return [losses.get(board.space.key(c), float("inf")) for c in configs]

    generations = max(1, (board.trials - 1) // board.generation)
    settings = Evolution(generations, board.generation, (1,))
    board.certificates.append(solve_evolution(problem, start.choices, measure, settings, board.seed).certificate)


def run_bisection(board: Board) -> None:
    """Lower as many of the least sensitive groups as the limit on the drop allows, precision by precision."""
    table = board.table()
    levels = [list(np.argsort(-row, kind="stable")) for row in table]

    def keeps(choices: tuple[int, ...]) -> bool:
        config = board.config(choices)
        if not board.space.is_legal(config):
            return False
        (trial,) = board.measure([config])
        board.between()
        return board.goal.meets(trial)

    board.certificates.append(solve_bisection(board.sensitivity.table, levels, keeps).certificate)


STRATEGIES: dict[str, Callable[[Board], None]] = {
    "guided": run_guided,
    "ilp": run_ilp,
    "pareto": run_pareto,
    "greedy": run_greedy,
    "evolution": run_evolution,
    "bisection": run_bisection,
}


def check_strategy(name: str, limit: str) -> None:
    """Whether a strategy suits a limit.

    Raises:
        UsageError: unknown name, or it does not; with those that do.
    """
    if name not in STRATEGIES:
        raise UsageError(f"unknown solver {name!r}; known: {', '.join(STRATEGIES)}.{did_you_mean(name, STRATEGIES)}")
    only = {"evolution": "a limit on a cost (--max-size, --max-latency, ...)", "bisection": "a limit on the drop (--max-drop)"}
    unfit = "evolution" if limit == "drop" else "bisection"
    if name == unfit:
        others = ", ".join(s for s in STRATEGIES if s != unfit)
        raise UsageError(f"the solver {name} takes {only[name]}; with this limit use one of {others}")
