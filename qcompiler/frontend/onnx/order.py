"""Nodes of a file in an order in which they can be computed."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence

import networkx as nx
import onnx
from onnx import AttributeProto

from ...errors import UsageError


def place_of(node: onnx.NodeProto) -> str:
    """What a node is called in messages: its name, else that of its first result."""
    return node.name or next((o for o in node.output if o), node.op_type)


def in_order(nodes: Sequence[onnx.NodeProto], known: Container[str], where: str) -> Sequence[onnx.NodeProto]:
    """The nodes as they stand if each reads only what was made before it; else sorted, ties as in the file.

    ONNX asks for sorted nodes. ONNX Runtime reads others too, and its converter to float16 writes them.

    Args:
        nodes: of a graph, a branch or a function.
        known: names that exist before the first node.
        where: for messages.

    Raises:
        UsageError: a tensor that nothing makes, or a cycle.
    """
    made: set[str] = set()
    for node in nodes:
        if any(name not in known and name not in made for name in _reads(node)):
            return _sorted(nodes, known, where)
        made.update(node.output)
    return nodes


def _sorted(nodes: Sequence[onnx.NodeProto], known: Container[str], where: str) -> list[onnx.NodeProto]:
    makers: dict[str, int] = {}
    for i, node in enumerate(nodes):
        for output in node.output:
            makers.setdefault(output, i)
    graph = nx.DiGraph()
    graph.add_nodes_from(range(len(nodes)))
    for i, node in enumerate(nodes):
        for name in node.input:
            if name and name not in known and name not in makers:
                raise UsageError(
                    f"{where}: {node.op_type} {place_of(node)!r} reads {name!r}, which is no input, initializer or result"
                    " of a node"
                )
        graph.add_edges_from((makers[name], i) for name in _reads(node) if name in makers and name not in known)
    try:
        return [nodes[i] for i in nx.lexicographical_topological_sort(graph)]
    except nx.NetworkXUnfeasible:
        circle = ", ".join(f"{nodes[i].op_type} {place_of(nodes[i])!r}" for i, _ in nx.find_cycle(graph)[:10])
        raise UsageError(f"{where}: the graph has a cycle: {circle}") from None


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """Names that a node reads, also those that its branches take from outside."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            body = attribute.g
            own = {v.name for v in (*body.input, *body.initializer)} | {o for inner in body.node for o in inner.output}
            yield from (name for inner in body.node for name in _reads(inner) if name not in own)
