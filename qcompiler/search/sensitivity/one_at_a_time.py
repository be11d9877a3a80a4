"""Providers that run the network with one group changed: what that alone does to the outputs."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from qcompiler.search.losses import Accuracy
from qcompiler.search.sensitivity.base import Provider, Subject, zeros


class _OneAtATime(Provider):
    """Every other group stays at the reference; differences below zero, which are noise, count as zero."""

    @abstractmethod
    def figure(self, found: Accuracy) -> float:
        """What is compared."""

    def rows(self, study: Subject) -> tuple[list[np.ndarray], list[np.ndarray], float]:
        space, evaluator = study.space, study.evaluator
        before = evaluator.accuracy(study.reference)
        table, error, runs = zeros(space), zeros(space), 1
        for at, group in enumerate(space.groups):
            for i in range(len(group.choices)):
                config = space.canonical(study.with_choice(at, i))
                if config == study.reference or not space.is_legal(config):
                    continue
                found = evaluator.accuracy(config)
                runs += 1
                table[at][i] = max(0.0, self.figure(found) - self.figure(before))
                error[at][i] = float(np.std(found.noise - before.noise) / np.sqrt(len(found.noise)))
        return table, error, float(runs)


class OutputDivergence(_OneAtATime):
    """KL divergence of the output distribution (ZeroQ, arXiv:2001.00281, section 3.2: one layer at a time)."""

    name = "kl"
    needs = "data, one run per group and choice"

    def figure(self, found: Accuracy) -> float:
        return found.kl


class MeasuredLoss(_OneAtATime):
    """The loss that trials are judged by (AdaQuant's integer program, arXiv:2006.10518, section 4, measures so)."""

    name = "loss"
    needs = "data, one run per group and choice"

    def figure(self, found: Accuracy) -> float:
        return found.loss


class MaskedDivergence(Provider):
    """KL divergence of the outputs when a random part of a group's weights is set to zero, no gradients needed.

    (OHQ, arXiv:2309.01945, masks parts of a layer to rank layers on the device.) To first order the divergence is
    quadratic in the change of the weights, so the result is scaled by the energy of the rounding error of a choice
    over the energy that was masked.
    """

    name = "mask"
    needs = "data, `masks` runs per group"

    def __init__(self, masks: int = 2, share: float = 0.1) -> None:
        self.masks, self.share = masks, share

    def rows(self, study: Subject) -> tuple[list[np.ndarray], list[np.ndarray], float]:
        from qcompiler.passes.quantize.plan import QuantPlan
        from qcompiler.passes.rounding.sites import weight_of

        space, graph = study.space, study.branch.graph
        table, error = zeros(space), zeros(space)
        rng = np.random.default_rng([study.evaluator.workload.seed, 71])
        for at, group in enumerate(space.groups):
            response = []
            for _ in range(self.masks):
                plan, energy = QuantPlan(graph), 0.0
                for node in study.nodes(group):
                    weight = weight_of(node)
                    kept = rng.random(weight.shape) >= self.share
                    plan.weights[node] = _Masked(weight * kept)  # type: ignore[assignment]
                    energy += float(np.square(weight * ~kept, dtype=np.float64).sum())
                response.append(study.evaluator.of_plan(plan).kl / max(energy, 1e-30))
            for i in range(len(group.choices)):
                noise = study.weight_noise(group, i)
                table[at][i] = noise * float(np.mean(response))
                error[at][i] = noise * float(np.std(response)) / np.sqrt(self.masks)
        return table, error, float(self.masks * len(space.groups))


class _Masked:
    """Stands for a rounded weight in a plan: a real one."""

    def __init__(self, weight: np.ndarray) -> None:
        self._weight = weight

    def real(self) -> np.ndarray:
        """As `WeightCodes.real`."""
        return self._weight
