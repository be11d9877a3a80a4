"""Rows of activations, kept per calibration sample, for scoring choices on held-out samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from qcompiler.calibration import Observation, Observer, Samples, collect
from qcompiler.executors.torch_executor import TorchExecutor
from qcompiler.ir import Graph, Value


@dataclass
class KeptRows(Observer):
    """Up to `per_sample` evenly spaced rows [n, K] of each sample; padding left out."""

    per_sample: int
    rows: list[np.ndarray] = field(default_factory=list, init=False, compare=False)

    def _update(self, observation: Observation) -> None:
        observation.bounds()  # refuses NaN and Inf
        for part in observation.data.split(observation.segments):
            flat = part.reshape(-1, part.shape[-1])
            if len(flat):
                index = torch.linspace(0, len(flat) - 1, min(self.per_sample, len(flat))).round().long()
                self.rows.append(flat[index.unique()].cpu().numpy().copy())

    def _merge(self, other: KeptRows) -> None:
        self.rows += other.rows


def collect_rows(
    graph: Graph, values: Sequence[Value], samples: Samples, limit: int
) -> dict[Value, list[np.ndarray]]:
    """Rows of each value, one array per sample, at most about `limit` rows per value in all.

    One run over the samples, of which at most `limit` (evenly spaced) are used.
    """
    if not values:
        return {}
    if len(samples) > limit:
        samples = samples.select([int(i) for i in np.linspace(0, len(samples) - 1, limit).round()])
    per_sample = max(1, limit // len(samples))
    requests = {v: [KeptRows(per_sample)] for v in values}
    collect(graph, samples, requests, TorchExecutor(graph))
    return {v: kept[0].rows for v, kept in requests.items()}
