"""Cost models: log loss of a configuration, and latency or the like as a factor on a formula; both with transfer.

Both rank configurations of one model. What is learned from other models is their regret, log loss minus the least
log loss of that model, since absolute losses differ by orders of magnitude between models. Own trials correct that
prior: a second, small booster learns what it misses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qcompiler.metrics import spearman
from qcompiler.search.boost import MONOTONE, PackSum, Trees
from qcompiler.search.features import Row

PRIOR = Trees()
OWN = Trees(rounds=40, depth=3, eta=0.2, least_weight=1.0, subsample=1.0)
FEWEST = 4
"""Own trials below which the correction is a constant."""
USEFUL = 0.2
"""Rank correlation on left-out models below which other models' trials are not used."""
FLOOR = 1e-12


@dataclass(frozen=True)
class Corpus:
    """The trials of one other search.

    Attributes:
        name: of the study.
        packs: rows of each configuration.
        losses: measured.
    """

    name: str
    packs: Sequence[Sequence[Row]]
    losses: Sequence[float]

    @property
    def regret(self) -> np.ndarray:
        """Log loss minus the least."""
        logs = np.log(np.maximum(self.losses, FLOOR))
        return logs - logs.min()


class AccuracyModel:
    """Predicts the log loss of configurations up to a constant.

    Args:
        corpora: other searches; empty for a model from scratch.
        seed: of the boosters.
        check: compute `held_out`, and do without transfer where it is poor.
        monotone: signs by feature.

    Attributes:
        held_out: rank correlation of the prior on each corpus, learned from the others; {} with fewer than two.
        transfers: the prior is used.
    """

    def __init__(
        self,
        corpora: Sequence[Corpus] = (),
        seed: int = 0,
        check: bool = True,
        monotone: Mapping[str, int] = MONOTONE,
    ) -> None:
        self.seed, self.monotone = seed, monotone
        self.held_out = _held_out(corpora, seed) if check and len(corpora) > 1 else {}
        mean = float(np.nanmean(list(self.held_out.values()))) if self.held_out else 1.0
        self.transfers = bool(corpora) and mean >= USEFUL
        self._prior = _fit_prior(corpora, seed, monotone) if self.transfers else None
        self._own: PackSum | None = None
        self._offset = 0.0

    def fit(self, packs: Sequence[Sequence[Row]], losses: Sequence[float], prior: np.ndarray | None = None) -> None:
        """Learn from this search's own trials; replaces what earlier calls learned. `prior` as in `predict`."""
        self._own = None
        residual = np.log(np.maximum(losses, FLOOR)) - (self.prior(packs) if prior is None else prior)
        self._offset = float(residual.mean())
        if len(packs) >= FEWEST:
            self._own = PackSum(OWN, self.seed, self.monotone)
            self._own.fit(packs, residual - self._offset)

    def predict(self, packs: Sequence[Sequence[Row]], prior: np.ndarray | None = None) -> np.ndarray:
        """Log losses, float64; without own trials, regrets. `prior` of the packs, where it is known already."""
        found = (self.prior(packs) if prior is None else prior) + self._offset
        return found if self._own is None else found + self._own.predict(packs)

    def prior(self, packs: Sequence[Sequence[Row]]) -> np.ndarray:
        """Regrets as other searches have them; 0 without any. Own trials do not change it."""
        return np.zeros(len(packs)) if self._prior is None else self._prior.predict(packs)


def _fit_prior(corpora: Sequence[Corpus], seed: int, monotone: Mapping[str, int] = MONOTONE) -> PackSum:
    """Every corpus counts the same, however many trials it has."""
    model = PackSum(PRIOR, seed, monotone)
    weights = np.concatenate([np.full(len(c.packs), 1 / len(c.packs)) for c in corpora])
    packs = [p for c in corpora for p in c.packs]
    model.fit(packs, np.concatenate([c.regret for c in corpora]), weights / weights.mean())
    return model


def _held_out(corpora: Sequence[Corpus], seed: int) -> dict[str, float]:
    found = {}
    for i, corpus in enumerate(corpora):
        rest = [c for j, c in enumerate(corpora) if j != i]
        found[corpus.name] = spearman(_fit_prior(rest, seed).predict(corpus.packs), corpus.regret)
    return found


OWN_WEIGHT = 3.0
"""How much a measurement of this model counts beside one of another model."""


class LatencyModel:
    """Predicts a cost as analytic estimate x exp(correction), the correction learned from measurements.

    With fewer than `FEWEST` measurements the correction is their mean in logarithms.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self._offset = 0.0
        self._model: PackSum | None = None

    def fit(
        self, rows: Sequence[Row], analytic: Sequence[float], measured: Sequence[float], own: int | None = None
    ) -> None:
        """Learn from measured configurations.

        Args:
            rows, analytic, measured: of each.
            own: so many of them, the first, are of this model and not of others; by default all.

        Raises:
            ValueError: a cost that is not above 0.
        """
        if min([*analytic, *measured], default=1.0) <= 0:
            raise ValueError("costs must be above 0")
        ratio = np.log(np.asarray(measured, float) / np.asarray(analytic, float))
        weights = np.ones(ratio.size)
        weights[: ratio.size if own is None else own] = OWN_WEIGHT
        self._offset = float(np.average(ratio, weights=weights)) if ratio.size else 0.0
        self._model = None
        if ratio.size >= FEWEST:
            self._model = PackSum(OWN, self.seed, monotone={})
            self._model.fit([[r] for r in rows], ratio - self._offset, weights / weights.mean())

    def predict(self, rows: Sequence[Row], analytic: Sequence[float]) -> np.ndarray:
        """Costs in the unit of what was measured."""
        correction = np.zeros(len(rows)) if self._model is None else self._model.predict([[r] for r in rows])
        return np.asarray(analytic, float) * np.exp(self._offset + correction)
