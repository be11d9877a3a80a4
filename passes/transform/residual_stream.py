"""Residual streams: values joined by sums, every layer that writes them and every norm or layer that reads them.

A stream x [..., D] may be rotated as a whole, x -> x R, if nothing looks at single channels:

    writers   linear layers (rows of W, bias), embedding tables read by `gather`, constants added to the stream
    joints    `add` of two values of the stream
    readers   norms over the last axis that are read by linear layers only (the norm's weight goes into those), and
              linear layers themselves

Anything else that writes or reads refuses the stream, by name: an op per channel, the graph's own output, a reader of
a norm that is no linear layer. layer_norm subtracts the mean over channels, which a rotation would mix, so the writers
do that beforehand and the norm becomes an rms_norm; streams that mix both kinds, or that are read by a linear layer
directly as well, are refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from qcompiler.ir import Graph, Node, Value
from qcompiler.ir.dims import same
from qcompiler.passes.base import Note

from .groups import NORMS


@dataclass(frozen=True, eq=False)
class Stream:
    """One residual stream.

    Attributes:
        width: D.
        values: all values of the stream, computed or constant.
        writers: linear and gather nodes.
        constants: constants [..., D] that are added.
        norms: readers whose weight is folded into the linear layers behind them.
        readers: linear layers that read a norm or the stream itself.
        centred: the norms are layer_norm.
    """

    width: int
    values: tuple[Value, ...]
    writers: tuple[Node, ...]
    constants: tuple[Value, ...]
    norms: tuple[Node, ...]
    readers: tuple[Node, ...]
    centred: bool

    def where(self) -> str:
        """For notes: the first writer."""
        return self.writers[0].where() if self.writers else "residual stream"


def find_streams(graph: Graph) -> tuple[list[Stream], list[Note]]:
    """Streams with at least one norm, in program order, and a note for each that is refused."""
    streams, notes = [], []
    for values in _components(graph):
        norms = [n for v in values for n, i in graph.uses(v) if n.op in NORMS and i == 0]
        if not norms:
            continue
        reason = _why_not(graph, values, norms)
        if reason:
            notes.append(Note(norms[0].where(), False, reason))
            continue
        streams.append(_stream(graph, values, norms))
    return streams, notes


def _components(graph: Graph) -> list[list[Value]]:
    """Values joined by sums of equal width, and single values that a norm reads, in program order."""
    leader: dict[Value, Value] = {}

    def find(value: Value) -> Value:
        while leader.get(value, value) is not value:
            value = leader[value]
        return value

    joined: dict[Value, None] = {}
    for node in graph.nodes:
        if _joins(node):
            for value in node.operands:
                a, b = find(value), find(node.output)
                if a is not b:
                    leader[a] = b
            joined |= dict.fromkeys((*node.operands, node.output))
        elif node.op in NORMS:
            joined.setdefault(node.operands[0])
    members: dict[Value, list[Value]] = {}
    for value in joined:
        members.setdefault(find(value), []).append(value)
    return list(members.values())


def _joins(node: Node) -> bool:
    """A sum of two real values along whose last axis both have the same known number of channels."""
    if node.op != "add" or not node.output.dtype.is_float or not node.output.shape:
        return False
    width = node.output.shape[-1]
    return isinstance(width, int) and all(v.shape and same(v.shape[-1], width) for v in node.operands)


def _why_not(graph: Graph, values: list[Value], norms: list[Node]) -> str:
    kinds = {n.op for n in norms}
    if len(kinds) > 1:
        return "norms of both kinds read the stream"
    for value in values:
        reason = _why_not_written(graph, value) or _why_not_read(graph, value, kinds)
        if reason:
            return reason
    return ""


def _why_not_written(graph: Graph, value: Value) -> str:
    if value.is_const:
        return ""
    node = graph.producer(value)
    if node is None:
        return f"the graph's input {value.name} is part of the stream"
    if _joins(node):
        return ""
    if node.op == "linear":
        constant = node.operands[1].is_const and all(b.is_const for b in node.operands[2:])
        return "" if constant else f"{node.where()} has a weight that is computed"
    if node.op == "gather" and node.operands[0].is_const and node.attrs["axis"] == 0 and len(node.operands[0].shape) == 2:
        return ""
    return f"{node.where()} writes the stream and cannot be rotated"


def _why_not_read(graph: Graph, value: Value, kinds: set[str]) -> str:
    if graph.is_output(value):
        return "the graph returns a value of the stream"
    for node, index in graph.uses(value):
        if _joins(node) or value.is_const:
            continue
        if node.op in NORMS and index == 0:
            reason = _why_not_norm(graph, node)
            if reason:
                return reason
        elif not _reads_linearly(node, index):
            return f"{node.where()} reads the stream and cannot be rotated"
        elif "layer_norm" in kinds:
            return f"{node.where()} reads the stream without the mean being taken off"
    return ""


def _why_not_norm(graph: Graph, norm: Node) -> str:
    if norm.attrs["axes"] != 1 or any(v is not None and not v.is_const for v in norm.inputs[1:]):
        return f"{norm.where()} has a weight that cannot be folded"
    if graph.is_output(norm.output):
        return f"the graph returns what {norm.where()} computes"
    for node, index in graph.uses(norm.output):
        if not _reads_linearly(node, index):
            return f"{node.where()} reads {norm.where()} and cannot be rotated"
    return ""


def _reads_linearly(node: Node, index: int) -> bool:
    return node.op == "linear" and index == 0 and all(v.is_const for v in node.operands[1:])


def _stream(graph: Graph, values: list[Value], norms: list[Node]) -> Stream:
    sources = [n for v in values if (n := graph.producer(v)) is not None and not _joins(n)]
    readers = [n for norm in norms for n, _ in graph.uses(norm.output)]
    readers += [n for v in values for n, i in graph.uses(v) if not v.is_const and _reads_linearly(n, i)]
    return Stream(
        width=int(values[0].shape[-1]),
        values=tuple(values),
        writers=tuple(sources),
        constants=tuple(v for v in values if v.is_const),
        norms=tuple(norms),
        readers=tuple(dict.fromkeys(readers)),
        centred=norms[0].op == "layer_norm",
    )
