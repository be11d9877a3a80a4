"""Rows of activations, kept per calibration sample, for scoring choices on held-out samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from qcompiler.calibration import Observation, Observer, Samples, collect
from qcompiler.executors.torch_executor import TorchExecutor
from qcompiler.ir import Graph, Value

MAX_SAMPLES = 32
"""Samples that factors are chosen on; every one costs a run of the network."""


@dataclass(frozen=True)
class SampleRows:
    """Some rows [n, K] of one sample, and the extrema [K] over all of its rows."""

    rows: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @staticmethod
    def of(rows: np.ndarray) -> SampleRows:
        """All rows of a sample."""
        return SampleRows(rows, rows.min(0), rows.max(0))


@dataclass
class KeptRows(Observer):
    """Up to `per_sample` evenly spaced rows of each sample; padding left out."""

    per_sample: int
    samples: list[SampleRows] = field(default_factory=list, init=False, compare=False)

    def _update(self, observation: Observation) -> None:
        observation.bounds()  # refuses NaN and Inf
        for part in observation.data.split(observation.segments):
            flat = part.reshape(-1, part.shape[-1])
            if len(flat):
                index = torch.linspace(0, len(flat) - 1, min(self.per_sample, len(flat))).round().long()
                low, high = flat.amin(0).cpu().numpy(), flat.amax(0).cpu().numpy()
                self.samples.append(SampleRows(flat[index.unique()].cpu().numpy().copy(), low, high))

    def _merge(self, other: KeptRows) -> None:
        self.samples += other.samples


def collect_rows(
    graph: Graph, values: Sequence[Value], samples: Samples, limit: int
) -> dict[Value, list[SampleRows]]:
    """Rows of each value by sample, at most about `limit` rows per value in all.

    One run over the samples, of which at most `MAX_SAMPLES` (evenly spaced) are used.
    """
    if not values:
        return {}
    most = min(limit, MAX_SAMPLES)
    if len(samples) > most:
        samples = samples.select([int(i) for i in np.linspace(0, len(samples) - 1, most).round()])
    per_sample = max(1, limit // len(samples))
    requests = {v: [KeptRows(per_sample)] for v in values}
    collect(graph, samples, requests, TorchExecutor(graph))
    return {v: kept[0].samples for v, kept in requests.items()}
