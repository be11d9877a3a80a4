"""Proposals by model: perturbed solutions of the additive problem, neighbours of the best, and random configurations.

A generation has a fixed size and is collected whole before the model learns from it, so that what is proposed does
not depend on how many workers there are or which of them is first.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from qcompiler.errors import ConstraintError
from qcompiler.search.chance import Chance, chance_of_keeping
from qcompiler.search.cost_models import AccuracyModel
from qcompiler.search.solvers import Certificate, Problem, Row, pareto_front, solve_ilp

if TYPE_CHECKING:
    from qcompiler.search.features import Features
    from qcompiler.search.sensitivity import Sensitivity
    from qcompiler.search.space import Config, Space

POOL = 160
"""Candidates that the model ranks for one generation."""
FRONT = 24
"""Points of the additive front among them, and runs of exact layers."""
SPANS = 3
"""Lengths of such runs in the first generation."""
EXPLORE = 0.1
"""Share of a generation that is random, rounded to at least one where it has five or more."""


@dataclass(frozen=True)
class Aim:
    """How candidates compare before they are run.

    Attributes:
        cost: name of the cost that counts.
        estimate: that cost of a configuration, as well as it is known by now.
        table: its formula, by group and choice.
        limit: what the estimate may be, for a search that minimises loss; None for one that minimises the cost.
        bound: the same limit on the formula.
        chance: that a log loss keeps the limit, for a search that minimises the cost.
        worth: the cost above which nothing is gained, for such a search.
    """

    cost: str
    estimate: Callable[[Config], float]
    table: Sequence[np.ndarray]
    limit: float | None = None
    bound: float = np.inf
    chance: Chance = chance_of_keeping((), ())
    worth: float = np.inf


class Guide:
    """Proposes generations.

    Args:
        space: of the search.
        features: rows of configurations.
        model: learns from `observe`.
        sensitivity: of the additive problem that candidates start from.
        seed: of every random choice.

    Attributes:
        seen: loss of every configuration that was run, None for one that failed.
        certificate: of the additive problem's solution within the limit, where there is a limit on a cost.
    """

    def __init__(
        self, space: Space, features: Features, model: AccuracyModel, sensitivity: Sensitivity, seed: int
    ) -> None:
        self.space, self.features, self.model, self.sensitivity = space, features, model, sensitivity
        self.seed = seed
        self.certificate: Certificate | None = None
        self.seen: dict[Config, float | None] = {}
        self._recipe: Config | None = None

    def observe(self, config: Config, loss: float | None) -> None:
        """A result; None for a trial that failed."""
        self.seen[config] = loss

    def learn(self) -> None:
        """Fit the model to all that was observed."""
        done = [(c, v) for c, v in self.seen.items() if v is not None]
        if done:
            self.model.fit([self.features.rows(c) for c, _ in done], [v for _, v in done])

    def solutions(self, aim: Aim, count: int) -> list[Config]:
        """Configurations along the front of the additive problem, those nearest to the aim first."""
        table = aim.table
        front = pareto_front(self.sensitivity.table, table, width=2000)
        head = self._best_knobs(aim)
        if aim.limit is not None:
            try:
                solution = solve_ilp(Problem(self.sensitivity.table, (Row(aim.cost, table, aim.bound),)))
                best = solution.choices
                self.certificate = solution.certificate
            except ConstraintError:
                best = tuple(int(np.argmin(t)) for t in table)
            distance = np.abs(front.cost - sum(t[c] for t, c in zip(table, best, strict=True)))
            order = [best, *(tuple(int(c) for c in front.choices[i]) for i in np.argsort(distance, kind="stable"))]
        else:
            order = [tuple(int(c) for c in row) for row in front.choices]
        configs = [c for c in dict.fromkeys(self.space.canonical((*head, *c)) for c in order) if self.space.is_legal(c)]
        if aim.limit is None:  # nobody knows yet where along the front the limit is
            spaced = np.unique(np.linspace(0, len(configs) - 1, min(count, len(configs))).round().astype(int))
            configs = [configs[i] for i in spaced]
        return configs[:count]

    def first(self, aim: Aim, baseline: Config, size: int) -> list[Config]:
        """The first generation: the recipe as it is, and the additive front.

        Where the drop is limited, a third is the recipe with another option of one global knob, which costs nothing
        when it runs and may be all that the limit asks for, and a third has the first or the last layers exact.
        """
        self._recipe = baseline
        along = self.solutions(aim, size)
        if aim.limit is None:
            turns = itertools.zip_longest(self._other_knobs(baseline), self._spans(baseline, SPANS), along)
            along = [c for turn in turns for c in turn if c is not None]
        return list(dict.fromkeys([baseline, *along]))[:size]

    def _spans(self, config: Config, count: int) -> list[Config]:
        """The configuration with its first or last groups at their least sensitive choice, `count` lengths of each.

        Sensitivities are a layer's own. What is stored between two exact layers is exact too, and nothing is converted
        there, so that a run of them is worth more than as many apart. Short runs are tried more densely: they cost least,
        and the first layers of a network often read so few channels that they are no slower on real numbers.
        """
        head, groups = len(self.space.knobs), len(self.space.groups)
        exact = tuple(int(np.argmin(row)) for row in self.sensitivity.table)
        found: dict[Config, None] = {}
        for length in np.unique(np.geomspace(1, groups, count + 2).round().astype(int)[1:-1]):
            for first, last in ((0, length), (groups - length, groups)):
                tail = (e if first <= g < last else c for g, (e, c) in enumerate(zip(exact, config[head:], strict=True)))
                found.setdefault(self.space.canonical((*config[:head], *tail)))
        return [c for c in found if self.space.is_legal(c)]

    def _other_knobs(self, config: Config) -> list[Config]:
        """The configurations that differ in one global knob; first those of different knobs, then more options of each."""
        found: dict[Config, None] = {}
        for step in range(1, max((len(k.options) for k in self.space.knobs), default=1)):
            for place, knob in enumerate(self.space.knobs):
                changed = (*config[:place], (config[place] + step) % len(knob.options), *config[place + 1 :])
                found.setdefault(self.space.canonical(changed))
        found.pop(config, None)
        return [c for c in found if self.space.is_legal(c)]

    def _best_knobs(self, aim: Aim) -> Config:
        """Options of the global knobs in the best configuration so far; the first ones before there is any."""
        done = [c for c, v in self.seen.items() if v is not None]
        count = len(self.space.knobs)
        return min(done, key=lambda c: self._value(c, aim))[:count] if done else (0,) * count

    def propose(self, aim: Aim, size: int, generation: int) -> list[Config]:
        """`size` new configurations, fewer where the space has no more."""
        rng = np.random.default_rng([self.seed, 43, generation])
        pool = self._pool(aim, rng)
        explored = max(1, round(EXPLORE * size)) if size >= 5 else 0
        chosen: list[Config] = []
        if pool:
            scores = self._scores(pool, aim)
            for at in np.argsort(scores, kind="stable"):
                if len(chosen) >= size - explored:
                    break
                chosen.append(pool[at])
        taken = {*self.seen, *chosen}
        for config in self.space.enumerate(int(rng.integers(2**31))):
            if len(chosen) >= size:
                break
            if config not in taken:
                chosen.append(config)
                taken.add(config)
        return chosen

    def _pool(self, aim: Aim, rng: np.random.Generator) -> list[Config]:
        done = [c for c, v in self.seen.items() if v is not None]
        best = sorted(done, key=lambda c: self._value(c, aim))[:4]
        found: dict[Config, None] = {}
        for config in best:
            found |= dict.fromkeys(self._other_knobs(config))
        if self._recipe is not None and aim.limit is None:
            tail = self._recipe[len(self.space.knobs) :]
            found |= dict.fromkeys(self._spans((*self._best_knobs(aim), *tail), FRONT // 2))
        for config in best:
            around = self.space.neighbours(config)
            for i in rng.permutation(len(around))[: POOL // 8]:
                found.setdefault(around[i])
        along = self.solutions(aim, FRONT)
        for config in (*best, *along):
            found.setdefault(config)
        for config in (*best, *along[:: max(1, len(along) // 8)]):
            for _ in range(POOL // 20):
                found.setdefault(self.space.mutate(config, rng, int(rng.integers(1, 4))))
        for config in self.space.sample(rng, POOL // 4):
            found.setdefault(config)
        fresh = [c for c in found if c not in self.seen]
        within = [c for c in fresh if aim.limit is None or aim.estimate(c) <= aim.limit]
        return (within or fresh)[:POOL]

    def _value(self, config: Config, aim: Aim) -> tuple[float, float]:
        loss = float(np.log(max(self.seen[config] or 0.0, 1e-12)))
        return self._key(loss, aim.estimate(config), aim)

    def _key(self, loss: float, cost: float, aim: Aim) -> tuple[float, float]:
        """Within a limit on the cost the loss; within one on the drop what may be gained, times the chance that it is."""
        if aim.limit is not None:
            return (0.0 if cost <= aim.limit else cost / aim.limit), loss
        return -float(aim.chance([loss])[0]) * max(0.0, aim.worth - cost), cost

    def _scores(self, pool: Sequence[Config], aim: Aim) -> np.ndarray:
        """One number per candidate, the smaller the better."""
        losses = self.model.predict([self.features.rows(c) for c in pool])
        keys = [self._key(float(v), aim.estimate(c), aim) for v, c in zip(losses, pool, strict=True)]
        order = sorted(range(len(pool)), key=lambda i: keys[i])
        scores = np.empty(len(pool))
        scores[order] = np.arange(len(pool))
        return scores
