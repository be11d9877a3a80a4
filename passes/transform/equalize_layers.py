"""Cross-layer equalization: scale the channels between layers so that their ranges become alike.

    producer rows  W1[c] *= s_c, b1[c] *= s_c;   reader columns  W2[:, c] /= s_c
    s_c = r2_c^alpha / r1_c^(1 - alpha),   r1_c = largest |x_c| seen (or |W1[c]|),   r2_c = largest |W2[:, c]|

(Nagel et al., arXiv:1906.04721, section 4.1; r1 from weights and alpha = 1/2 is theirs. With weights quantized per
channel, what is left to gain is the per-tensor range of the activation in between, hence r1 from data.)

What lies between must commute with a positive factor per channel: nothing, relu, sums, pooling. Values joined by
sums share one factor, so a residual stream is one group with all its producers and readers. A producer or reader of
another kind refuses the group, and so does a clip: its limit would have to differ by channel.

EXACT: the fold is computed in float64.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from pydantic import Field

from qcompiler.calibration import MinMax, Observer, Samples, collect, quant_params_from_range
from qcompiler.executors.torch_executor import TorchExecutor
from qcompiler.ir import DType, Graph, Node, QuantParams, Rewriter, Value, constant, rewrite
from qcompiler.passes.base import Context, Kind, Note, Pass, PassConfig, Result
from qcompiler.passes.quantize.measured_error import ErrorMeter, split_samples
from qcompiler.passes.quantize.plan import FLOAT, STATIC, NodePlan, QuantPlan
from qcompiler.passes.rounding.round_nearest import quantize_weight

TRANSPARENT = frozenset({"relu", "leaky_relu", "add", "max_pool", "avg_pool", "reduce_mean"})
"""Ops that commute with a positive factor per channel."""

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


@dataclass(frozen=True)
class ChannelGroup:
    """Values that must share one factor per channel, the layers that write them and the layers that read them."""

    values: tuple[Value, ...]
    producers: tuple[Node, ...]
    readers: tuple[Node, ...]
    channels: int


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
        requests: dict[Value, list[Observer]] = {n.output: [MinMax(axis=_axis(n))] for g in groups for n in g.producers}
        for layer in (graph.nodes[i] for i in self.layers):
            if layer.inputs[0] is not None:
                requests.setdefault(layer.inputs[0], [MinMax(axis=_axis(layer))])
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
            plan.weights[node] = quantize_weight(_weight(node), np.maximum(_row_peaks(node) / 127, 1e-30), DType.int8)
        return plan


def first_samples(samples: Samples, count: int) -> Samples:
    """At most `count` samples, evenly spaced."""
    count = min(count, len(samples))
    return samples.select([i * len(samples) // count for i in range(count)])


def find_channel_groups(graph: Graph, notes: list[Note]) -> Iterator[ChannelGroup]:
    """Groups that may be scaled; refused ones are noted with the reason."""
    leader: dict[Value, Value] = {}

    def find(value: Value) -> Value:
        while leader.get(value, value) is not value:
            value = leader[value]
        return value

    for node in graph.nodes:
        if _transparent(node):
            for value in node.operands:
                a, b = find(value), find(node.output)
                if a is not b:
                    leader[a] = b
    members: dict[Value, list[Value]] = {}
    for value in graph.values():
        if not value.is_const:
            members.setdefault(find(value), []).append(value)
    for values in members.values():
        producers = [n for v in values if (n := graph.producer(v)) is not None and _scalable(n)]
        if not producers:
            continue
        reason = _why_not(graph, values)
        if reason:
            notes.append(Note(producers[0].where(), False, reason))
            continue
        readers = dict.fromkeys(n for v in values for n, _ in graph.uses(v) if not _transparent(n))
        yield ChannelGroup(tuple(values), tuple(producers), tuple(readers), _weight(producers[0]).shape[0])


def apply_channel_factors(graph: Graph, factors: Mapping[Value, np.ndarray], pass_name: str) -> Graph:
    """Multiply every channel of the given values by its factor, folded into the layers around them, in float64."""
    active = {v: s for v, s in factors.items() if (s != 1).any()}

    def visit(new: Rewriter, node: Node) -> Value | None:
        data = node.inputs[0] if _scalable(node) else None
        if data is None:
            return None
        read, made = active.get(data), active.get(node.output)
        if read is None and made is None:
            return None
        weight, bias = _weight(node).astype(np.float64), _bias(node)
        if read is not None:
            weight = weight / _columns(node, read)
        if made is not None:
            weight = weight * made.reshape(-1, *(1,) * (weight.ndim - 1))
            bias = None if bias is None else bias.astype(np.float64) * made
        w = constant(weight.astype(np.float32), name="weight")
        b = None if bias is None else constant(bias.astype(np.float32), name="bias")
        return new.op(node.op, new.get(data), w, b, name=node.output.name, **dict(node.attrs))

    return rewrite(graph, visit, pass_name) if active else graph


def _weight(node: Node) -> np.ndarray:
    value = node.inputs[1]
    assert value is not None and value.data is not None
    return value.data


def _bias(node: Node) -> np.ndarray | None:
    value = node.inputs[2]
    return None if value is None else value.data


def _scalable(node: Node) -> bool:
    """A plain or depthwise convolution, or a linear layer, whose weight and bias are constants."""
    if node.op not in ("conv", "linear") or any(v is not None and not v.is_const for v in node.inputs[1:]):
        return False
    return node.op == "linear" or node.attrs["groups"] == 1 or _depthwise(node)


def _depthwise(node: Node) -> bool:
    if node.op != "conv":
        return False
    outputs, inputs = _weight(node).shape[:2]
    return inputs == 1 and node.attrs["groups"] == outputs > 1


def _axis(node: Node) -> int:
    return 1 if node.op == "conv" else -1


def _transparent(node: Node) -> bool:
    """An op that commutes with the factors and has the same channels, on the same axis, before and after."""
    if node.op not in TRANSPARENT or any(v.is_const for v in node.operands):
        return False
    shapes = [v.shape for v in (*node.operands, node.output)]
    if node.op == "add":
        return all(s == shapes[0] for s in shapes)
    if node.op == "reduce_mean":
        rank = len(shapes[0])
        return bool(node.attrs["keepdims"]) and rank > 2 and not {0, 1} & {a % rank for a in node.attrs["axes"] or range(rank)}
    return True


def _why_not(graph: Graph, values: list[Value]) -> str:
    layers: list[Node] = []
    for value in values:
        source = graph.producer(value)
        if source is None or not (_scalable(source) or _transparent(source)):
            return f"{source.where() if source else 'a graph input'} is part of the sum and cannot be scaled"
        if graph.is_output(value):
            return "the graph returns the value"
        layers += [source] if _scalable(source) else []
        for node, index in graph.uses(value):
            if node.op == "clip":
                return f"{node.where()}: its limits would differ by channel"
            if not _transparent(node) and (not _scalable(node) or index != 0):
                return f"{node.where()} reads the value and cannot be scaled"
            layers += [] if _transparent(node) else [node]
    if len({_axis(n) for n in layers}) != 1:
        return "channels lie on different axes"
    if not any(not _transparent(n) for v in values for n, _ in graph.uses(v)):
        return "no layer reads the value"
    return ""


def _columns(node: Node, s: np.ndarray) -> np.ndarray:
    """S shaped to divide the part of the weight that reads each channel."""
    axis = 0 if _depthwise(node) else 1
    return s.reshape([-1 if i == axis else 1 for i in range(_weight(node).ndim)])


def _row_peaks(node: Node) -> np.ndarray:
    weight = _weight(node)
    return np.abs(weight.reshape(weight.shape[0], -1)).max(1).astype(np.float64)


def _column_peaks(node: Node) -> np.ndarray:
    weight = np.abs(_weight(node)).astype(np.float64)
    axis = 0 if _depthwise(node) else 1
    return np.asarray(weight.max(tuple(i for i in range(weight.ndim) if i != axis)))
