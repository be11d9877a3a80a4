"""Rows of activations, kept per calibration sample, for scoring choices on held-out samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from qcompiler.calibration import Observation, Observer, Samples, collect
from qcompiler.errors import UsageError
from qcompiler.executors.torch_executor import TorchExecutor
from qcompiler.ir import Graph, Value, drop_dead_nodes

if TYPE_CHECKING:
    from qcompiler.passes.base import Context

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


SITE_ROWS = "site_rows"
"""Key in `context.tables`: rows that an earlier pass collected of values the graph still has."""


def rows_of(graph: Graph, values: Sequence[Value], context: Context, limit: int) -> dict[Value, list[SampleRows]]:
    """Rows of each value, from an earlier pass where it left them, else collected now.

    Raises:
        UsageError: there is no calibration data.
    """
    kept: dict[Value, list[SampleRows]] = context.tables.pop(SITE_ROWS, {})
    missing = [v for v in values if v not in kept]
    if missing and context.samples is None:
        raise UsageError("choosing factors needs calibration data; give some, or switch `smooth` off")
    found = collect_rows(graph, missing, context.samples, limit)
    return {v: kept.get(v) or found[v] for v in values}


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
    part = leading_part(graph, values)
    collect(part, samples, requests, TorchExecutor(part))
    return {v: kept[0].samples for v, kept in requests.items()}


def leading_part(graph: Graph, values: Sequence[Value]) -> Graph:
    """What computes some values, and nothing after it: a language model's head is a fifth of the work."""
    names = [f"value_{i}" for i in range(len(values))]
    return drop_dead_nodes(Graph(graph.name, graph.inputs, graph.nodes, values, names, graph.level))
