"""Channels that layers and sums share: values that must have one factor per channel, what writes them, what reads them.

What lies between a writer and a reader must commute with a positive factor per channel: nothing, relu, sums, pooling.
Values joined by sums share one factor, so a residual stream is one group with all its writers and readers. A writer or
reader of another kind refuses the group, and so does a clip: its limit would have to differ by channel. Found by use and
definition, like the sites of `groups`, which are those of a single tensor that linear layers read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from qcompiler.ir import Graph, Node, Value
from qcompiler.passes.base import Note

TRANSPARENT = frozenset({"relu", "leaky_relu", "add", "max_pool", "avg_pool", "reduce_mean"})
"""Ops that commute with a positive factor per channel."""


@dataclass(frozen=True)
class ChannelGroup:
    """Values that must share one factor per channel, the layers that write them and the layers that read them."""

    values: tuple[Value, ...]
    producers: tuple[Node, ...]
    readers: tuple[Node, ...]
    channels: int


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
        producers = [n for v in values if (n := graph.producer(v)) is not None and is_scalable(n)]
        if not producers:
            continue
        reason = _why_not(graph, values)
        if reason:
            notes.append(Note(producers[0].where(), False, reason))
            continue
        readers = dict.fromkeys(n for v in values for n, _ in graph.uses(v) if not _transparent(n))
        yield ChannelGroup(tuple(values), tuple(producers), tuple(readers), constant_weight(producers[0]).shape[0])


def constant_weight(node: Node) -> np.ndarray:
    """The weight of a node that `is_scalable`."""
    value = node.inputs[1]
    assert value is not None and value.data is not None
    return value.data


def is_scalable(node: Node) -> bool:
    """A plain or depthwise convolution, or a linear layer, whose weight and bias are constants."""
    if node.op not in ("conv", "linear") or any(v is not None and not v.is_const for v in node.inputs[1:]):
        return False
    return node.op == "linear" or node.attrs["groups"] == 1 or is_depthwise(node)


def is_depthwise(node: Node) -> bool:
    """A convolution with one input channel per group."""
    if node.op != "conv":
        return False
    outputs, inputs = constant_weight(node).shape[:2]
    return inputs == 1 and node.attrs["groups"] == outputs > 1


def channel_axis(node: Node) -> int:
    """Axis of the channels in what a layer reads and writes."""
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
        if source is None or not (is_scalable(source) or _transparent(source)):
            return f"{source.where() if source else 'a graph input'} is part of the sum and cannot be scaled"
        if graph.is_output(value):
            return "the graph returns the value"
        layers += [source] if is_scalable(source) else []
        for node, index in graph.uses(value):
            if node.op == "clip":
                return f"{node.where()}: its limits would differ by channel"
            if not _transparent(node) and (not is_scalable(node) or index != 0):
                return f"{node.where()} reads the value and cannot be scaled"
            layers += [] if _transparent(node) else [node]
    if len({channel_axis(n) for n in layers}) != 1:
        return "channels lie on different axes"
    if not any(not _transparent(n) for v in values for n, _ in graph.uses(v)):
        return "no layer reads the value"
    return ""
