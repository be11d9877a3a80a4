"""Cross-layer equalization: scale the channels between layers so that their ranges become alike.

    producer rows  W1[c] *= s_c, b1[c] *= s_c;   reader columns  W2[:, c] /= s_c
    s_c = r2_c^alpha / r1_c^(1 - alpha),   r1_c = largest |x_c| seen (or |W1[c]|),   r2_c = largest |W2[:, c]|

(Nagel et al., arXiv:1906.04721, section 4.1; r1 from weights and alpha = 1/2 is theirs. With weights quantized per
channel, what is left to gain is the per-tensor range of the activation in between, hence r1 from data.)

`channel_groups` finds which values share factors, `fold` multiplies them in.

EXACT: the fold is computed in float64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import Field

from qcompiler.calibration import MinMax, Observer, Samples, collect, quant_params_from_range
from qcompiler.executors.torch_executor import TorchExecutor
from qcompiler.ir import DType, Graph, Node, QuantParams, Value
from qcompiler.passes.base import Context, Kind, Note, Pass, PassConfig, Result
from qcompiler.passes.quantize.measured_error import ErrorMeter, split_samples
from qcompiler.passes.quantize.plan import FLOAT, STATIC, NodePlan, QuantPlan
from qcompiler.passes.rounding.round_nearest import quantize_weight

from .channel_groups import ChannelGroup, channel_axis, constant_weight, find_channel_groups, is_depthwise
from .fold import apply_channel_factors

DEAD = 1e-6
"""Channels below this share of the widest are left alone: their factor would be noise."""


class EqualizeConfig(PassConfig):
    """When and how far.

    when: "auto" compares the error of rounding the layers and values concerned, on samples held back, and needs
    `min_gain_db`; "always" does not. alpha: share of the range that moves into the readers' weights. statistic: where
    a channel's range is taken from. samples: most samples looked at. limit: factors stay within [1 / limit, limit].
    """

    when: Literal["auto", "always"] = "auto"
    min_gain_db: float = Field(0.3, ge=0)
    alpha: float = Field(0.5, ge=0, le=1, json_schema_extra={"search": [0.3, 0.5, 0.7]})
    statistic: Literal["activations", "weights"] = "activations"
    samples: int = Field(8, ge=1)
    limit: float = Field(64.0, gt=1)


class EqualizeLayers(Pass):
    """See the module docstring."""

    name = "equalize_layers"
    kind = Kind.EXACT

    def __init__(self, config: EqualizeConfig | None = None) -> None:
        self.config = config or EqualizeConfig()

    def run(self, graph: Graph, context: Context) -> Result:
        notes: list[Note] = []
        groups = list(find_channel_groups(graph, notes))
        if not groups:
            return Result(graph, False, tuple(notes))
        fitted, judged = (None, None) if context.samples is None else split_samples(context.samples)
        extent = Extent(graph, groups, None if fitted is None else first_samples(fitted, self.config.samples))
        factors: dict[Value, np.ndarray] = {}
        for group in groups:
            s = self.factors(group, extent)
            taken = bool((s != 1).any())
            factors.update(dict.fromkeys(group.values, s))
            figures = {"largest": float(s.max()), "smallest": float(s.min())}
            notes.append(Note(group.producers[0].where(), taken, "" if taken else "ranges are equal already", figures))
        result = apply_channel_factors(graph, factors, self.name)
        if result is not graph and not self._pays(graph, result, extent, factors, judged, context, notes):
            result = graph
            notes = [replace(n, taken=False, reason=n.reason or "no gain on held-back samples") for n in notes]
        return Result(result, result is not graph, tuple(notes))

    def _pays(
        self,
        graph: Graph,
        equalized: Graph,
        extent: Extent,
        factors: Mapping[Value, np.ndarray],
        judged: Samples | None,
        context: Context,
        notes: list[Note],
    ) -> bool:
        """Measured, or replayed from a lock; recorded as a decision."""
        if self.config.when == "always":
            return True
        locked = (context.locked or {}).get(self.name)
        if locked is not None:
            context.decisions[self.name] = locked
            return bool(locked["applied"])
        if judged is None:
            return False
        meter = ErrorMeter(graph, judged)
        before, after = meter.sqnr_db(extent.plan(graph, {})), meter.sqnr_db(extent.plan(equalized, factors))
        figures = {"sqnr_db_before": round(before, 2), "sqnr_db_after": round(after, 2)}
        applied = after >= before + self.config.min_gain_db
        notes.append(Note("all groups", applied, "" if applied else "no gain on held-back samples", figures))
        context.decisions[self.name] = {"applied": applied, **figures}
        return applied

    def factors(self, group: ChannelGroup, extent: Extent) -> np.ndarray:
        """S [channels], float64; 1 for channels that nothing is known about."""
        by_weights = self.config.statistic == "weights" or not extent.bounds
        first = np.max([_row_peaks(n) if by_weights else extent.peak(n.output) for n in group.producers], 0)
        second = np.max([_column_peaks(n) for n in group.readers], 0)
        alive = (first > DEAD * first.max(initial=0)) & (second > DEAD * second.max(initial=0))
        s = np.ones(group.channels)
        if alive.any():
            s[alive] = second[alive] ** self.config.alpha / first[alive] ** (1 - self.config.alpha)
            s[alive] /= np.exp(np.log(s[alive]).mean())
        return np.clip(s, 1 / self.config.limit, self.config.limit)


class Extent:
    """Per-channel bounds of what the layers of some groups read and write, from one sweep; none without samples.

    Attributes:
        layers: places in the graph of all producers and readers.
        bounds: value -> (smallest, largest) per channel, float64.
    """

    def __init__(self, graph: Graph, groups: Sequence[ChannelGroup], samples: Samples | None) -> None:
        members = {n for g in groups for n in (*g.producers, *g.readers)}
        self.graph = graph
        self.layers = [i for i, n in enumerate(graph.nodes) if n in members]
        self.bounds: dict[Value, tuple[np.ndarray, np.ndarray]] = {}
        if samples is None:
            return
        requests: dict[Value, list[Observer]] = {n.output: [MinMax(axis=channel_axis(n))] for g in groups for n in g.producers}
        for layer in (graph.nodes[i] for i in self.layers):
            if layer.inputs[0] is not None:
                requests.setdefault(layer.inputs[0], [MinMax(axis=channel_axis(layer))])
        found = collect(graph, samples, requests, TorchExecutor(graph))
        for value in requests:
            seen = found.get(value, MinMax)
            self.bounds[value] = np.asarray(seen.lo, np.float64), np.asarray(seen.hi, np.float64)

    def peak(self, value: Value) -> np.ndarray:
        """Largest magnitude per channel."""
        low, high = self.bounds[value]
        return np.maximum(np.abs(low), np.abs(high))

    def plan(self, graph: Graph, factors: Mapping[Value, np.ndarray]) -> QuantPlan:
        """Rounds the weights of the layers and what they read, nothing else; `graph` has the factors folded in."""
        plan = QuantPlan(graph, {n: NodePlan(FLOAT) for n in graph.nodes})
        for index in self.layers:
            old, node = self.graph.nodes[index].inputs[0], graph.nodes[index]
            value = node.inputs[0]
            assert old is not None and value is not None
            low, high = (b * factors.get(old, 1.0) for b in self.bounds[old])
            scale, zero_point = quant_params_from_range(float(low.min()), float(high.max()), DType.uint8, False)
            plan.activations[value] = QuantParams(DType.uint8, scale, np.int32(zero_point))
            plan.nodes[node] = NodePlan(STATIC, weight_dtype=DType.int8)
            plan.weights[node] = quantize_weight(constant_weight(node), np.maximum(_row_peaks(node) / 127, 1e-30), DType.int8)
        return plan


def first_samples(samples: Samples, count: int) -> Samples:
    """At most `count` samples, evenly spaced."""
    count = min(count, len(samples))
    return samples.select([i * len(samples) // count for i in range(count)])


def _row_peaks(node: Node) -> np.ndarray:
    weight = constant_weight(node)
    return np.abs(weight.reshape(weight.shape[0], -1)).max(1).astype(np.float64)


def _column_peaks(node: Node) -> np.ndarray:
    weight = np.abs(constant_weight(node)).astype(np.float64)
    axis = 0 if is_depthwise(node) else 1
    return np.asarray(weight.max(tuple(i for i in range(weight.ndim) if i != axis)))
