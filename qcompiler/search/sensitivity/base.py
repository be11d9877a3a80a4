"""What a sensitivity provider is: for each group of layers and each choice, how much loss that choice adds."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from qcompiler.search.recipes import to_recipe

if TYPE_CHECKING:
    from qcompiler.ir import Node
    from qcompiler.passes.quantize.plan import QuantPlan
    from qcompiler.search.branch import Branch
    from qcompiler.search.fast import FastEvaluator
    from qcompiler.search.groups import Group
    from qcompiler.search.space import Config, Space


@dataclass(frozen=True)
class Sensitivity:
    """Predicted loss by group and choice; units differ between providers, only ratios within one mean something.

    Attributes:
        provider: name.
        table: per group, one number per choice of that group, >= 0.
        error: standard errors, in the same form; zeros where the provider computes and does not estimate.
        forwards: runs of the network over the judged samples (or as many as the provider used).
        seconds: spent.
    """

    provider: str
    table: tuple[np.ndarray, ...]
    error: tuple[np.ndarray, ...]
    forwards: float
    seconds: float

    def of(self, space: Space, config: Config) -> float:
        """The sum over the groups: what an additive model predicts for a configuration."""
        places = config[len(space.knobs) :]
        return float(sum(row[i] for row, i in zip(self.table, places, strict=True)))


class Provider(ABC):
    """One way to estimate.

    Attributes:
        name: on the command line and in reports.
        needs: `weights`, `data`, `gradients`; in words for the table of providers.
    """

    name: ClassVar[str]
    needs: ClassVar[str]

    @abstractmethod
    def rows(self, study: Subject) -> tuple[list[np.ndarray], list[np.ndarray], float]:
        """(predictions, standard errors, forward runs), each list with one array per group."""

    def estimate(self, evaluator: FastEvaluator, reference: Config) -> Sensitivity:
        """Sensitivities around a reference configuration, usually the widest one.

        Args:
            evaluator: of the search.
            reference: global knobs are taken from it, and for providers that run the network, the other groups.
        """
        start = time.perf_counter()
        table, error, forwards = self.rows(Subject(evaluator, reference))
        return Sensitivity(self.name, tuple(table), tuple(error), forwards, time.perf_counter() - start)


@dataclass
class Subject:
    """The model as providers look at it: nodes of each group, codes of each choice, samples to run."""

    evaluator: FastEvaluator
    reference: Config
    _plans: dict[str, QuantPlan] = field(default_factory=dict)

    @property
    def space(self) -> Space:
        """The search space."""
        return self.evaluator.space

    @property
    def branch(self) -> Branch:
        """The transformed graph of the reference configuration."""
        return self.evaluator.branch(to_recipe(self.space, self.reference, self.evaluator.workload.recipe))

    def nodes(self, group: Group) -> list[Node]:
        """The layers of a group in the transformed graph."""
        members = set(group.members)
        return [n for n in self.branch.graph.nodes if (n.origin.module, n.op) in members]

    def with_choice(self, group: int, choice: int) -> Config:
        """The reference with one group at another choice."""
        place = len(self.space.knobs) + group
        return (*self.reference[:place], choice, *self.reference[place + 1 :])

    def plan_of(self, group: Group, choice: int) -> QuantPlan | None:
        """A plan that has this group at this choice (and every group that offers it); None for float.

        Codes of a layer depend on its own choice only, so one plan per choice serves all groups.
        """
        chosen = group.choices[choice]
        if chosen.scheme == "float":
            return None
        if chosen.name not in self._plans:
            uniform = self.space.uniform(chosen.name)
            config = (*self.reference[: len(self.space.knobs)], *uniform[len(self.space.knobs) :])
            recipe = to_recipe(self.space, config, self.evaluator.workload.recipe)
            self._plans[chosen.name] = self.branch.plan(recipe)
        return self._plans[chosen.name]

    def samples(self, count: int) -> Iterator[list[np.ndarray]]:
        """The first calibration samples, one at a time."""
        work = self.evaluator.workload
        for i in range(min(count, len(work.calibration))):
            yield [np.asarray(a) for a in work.calibration[i]]

    def weight_noise(self, group: Group, choice: int) -> float:
        """Squared error that the choice puts on the weights of a group: sum (Wq - W)^2."""
        from qcompiler.passes.rounding.sites import weight_of

        plan = self.plan_of(group, choice)
        if plan is None:
            return 0.0
        total = 0.0
        for node in self.nodes(group):
            error = plan.weights[node].real().astype(np.float64) - weight_of(node)
            total += float(np.square(error).sum())
        return total


def zeros(space: Space) -> list[np.ndarray]:
    """One zero per group and choice."""
    return [np.zeros(len(g.choices)) for g in space.groups]
