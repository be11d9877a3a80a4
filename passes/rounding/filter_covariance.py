"""Covariance of what short filters read, thinned: cheap enough for the one calibration sweep.

A filter of K numbers has K^2 covariances; a thousand patches from a few dozen samples determine them. Neighbouring
patches say nearly the same, so spaced ones are taken, and only of every few samples.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from qcompiler.calibration import LinearInput, Observation, Observer
from qcompiler.calibration.moments import LayerInput, layer_rows

if TYPE_CHECKING:
    from typing import Self


@dataclass
class FilterCovariance(Observer):
    """Covariance per group of channels, over `patches` output positions of every `every`-th sample.

    Sums run in float32 around the mean of the first tensor observed.
    """

    layer: LayerInput = LinearInput()
    patches: int = 36
    every: int = 1
    rows: int = field(default=0, init=False, repr=False)
    _centre: Any = field(default=None, init=False, repr=False)
    _sum: Any = field(default=None, init=False, repr=False)
    _gram: Any = field(default=None, init=False, repr=False)

    def _update(self, observation: Observation) -> None:
        parts = observation.data.split(observation.segments)
        ids = observation.sample_ids if len(parts) == len(observation.sample_ids) else observation.sample_ids[:1]
        for part, index in zip(parts, ids):
            if index % self.every == 0 and part.numel():
                for rows in layer_rows(Observation(part, name=observation.name), self.layer, self.patches):
                    self._add(rows)

    def _add(self, rows: torch.Tensor) -> None:
        if self._gram is None:
            self._centre = rows.mean(1, keepdim=True)
            self._sum = torch.zeros_like(self._centre)
            self._gram = rows.new_zeros(len(rows), rows.shape[2], rows.shape[2])
        centred = rows - self._centre
        self._sum += centred.sum(1, keepdim=True)
        self._gram.baddbmm_(centred.transpose(1, 2), centred)
        self.rows += rows.shape[1]

    def _merge(self, other: Self) -> None:
        if self._gram is None:
            self._centre, self._sum, self._gram = other._centre, other._sum.clone(), other._gram.clone()
        else:
            shift = other._centre - self._centre
            crossed = other._sum.transpose(1, 2) @ shift
            self._gram += other._gram + crossed + crossed.transpose(1, 2)
            self._gram += other.rows * shift.transpose(1, 2) @ shift
            self._sum += other._sum + other.rows * shift
        self.rows += other.rows

    @property
    def covariance(self) -> np.ndarray:
        """E[(x - mean)(x - mean)^T], float64 [groups, K, K]."""
        self.require_data()
        mean = (self._sum / self.rows).double()
        return np.asarray((self._gram.double() / self.rows - mean.transpose(1, 2) @ mean).numpy())
