"""Gradient-boosted trees (xgboost) whose prediction for a configuration is the sum over its rows.

Models of different depth have different numbers of rows and share one booster (the pack-sum of TVM's cost model). The
squared error of a sum has the same gradient for each of its n rows; a second derivative of n per row keeps a boosting
step from overshooting when all rows move together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qcompiler.search.features import Row, matrix

MONOTONE = {
    "noise_sum": 1, "noise_max": 1, "weight_noise_sum": 1, "group_noise": 1, "group_weight_noise": 1,
    "group_bits": -1, "group_activation_bits": -1,
}  # fmt: skip
"""More noise never helps and more bits never hurt, whatever a few noisy trials say."""


@dataclass(frozen=True)
class Trees:
    """Settings of a booster."""

    rounds: int = 120
    depth: int = 5
    eta: float = 0.15
    least_weight: float = 2.0
    subsample: float = 0.8


class PackSum:
    """A booster over rows. Same data and seed, same predictions (one thread, exact hist bins)."""

    def __init__(self, settings: Trees, seed: int, monotone: Mapping[str, int] = MONOTONE) -> None:
        self.settings, self.seed, self.monotone = settings, seed, monotone
        self._booster: Any = None
        self._names: list[str] = []

    def fit(self, packs: Sequence[Sequence[Row]], labels: Sequence[float], weights: Sequence[float] | None = None) -> None:
        """Learn from configurations, each a pack of rows with one label.

        Args:
            packs: at least one.
            labels: what the sums should be.
            weights: of the packs, 1 by default.
        """
        import xgboost

        self._names = sorted({n for pack in packs for row in pack for n in row})
        of_pack = np.repeat(np.arange(len(packs)), [len(p) for p in packs])
        sizes = np.bincount(of_pack)[of_pack].astype(float)
        target = np.asarray(labels, float)
        weight = np.ones(len(packs)) if weights is None else np.asarray(weights, float)

        def gradients(predicted: np.ndarray, _: Any) -> tuple[np.ndarray, np.ndarray]:
            error = np.bincount(of_pack, predicted, len(packs)) - target
            return (weight * error)[of_pack], weight[of_pack] * sizes

        single = len(of_pack) == len(packs)  # one row each: xgboost's own squared error is the same, and faster
        data = xgboost.DMatrix(self._matrix(packs), target if single else None, weight=weight if single else None)
        parameters = {
            "max_depth": self.settings.depth, "eta": self.settings.eta, "subsample": self.settings.subsample,
            "min_child_weight": self.settings.least_weight, "seed": self.seed, "nthread": 1, "base_score": 0.0,
            "disable_default_eval_metric": 1, "tree_method": "hist",
            "monotone_constraints": tuple(self.monotone.get(n, 0) for n in self._names),
        }  # fmt: skip
        objective = {"objective": "reg:squarederror"} if single else {}
        own = None if single else gradients
        self._booster = xgboost.train({**parameters, **objective}, data, self.settings.rounds, obj=own)

    def predict(self, packs: Sequence[Sequence[Row]]) -> np.ndarray:
        """Sums for configurations, float64."""
        import xgboost

        of_pack = np.repeat(np.arange(len(packs)), [len(p) for p in packs])
        single = self._booster.predict(xgboost.DMatrix(self._matrix(packs)), output_margin=True)
        return np.bincount(of_pack, single, len(packs))

    def _matrix(self, packs: Sequence[Sequence[Row]]) -> np.ndarray:
        return matrix([row for pack in packs for row in pack], self._names)
