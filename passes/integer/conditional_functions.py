"""Choices that depend on one value: `where(x > c, f(x), g(x))` is a function of x like any other.

Comparisons of real numbers have no integer form; a choice whose condition and operands are all computed, element by element,
from one value needs none. It is looked up, and the comparisons are gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qcompiler.ir import OPS, DType, Graph, Node, Value
from qcompiler.ir.ops import RunContext


@dataclass(frozen=True)
class Conditional:
    """A choice as a function.

    Attributes:
        source: the real value it depends on.
        nodes: that compute it from the source, in order; the choice is the last.
    """

    source: Value
    nodes: tuple[Node, ...]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """The function on real numbers, float64."""
        known: dict[Value, np.ndarray] = {self.source: x.astype(np.float64)}
        with np.errstate(all="ignore"):
            for node in self.nodes:
                operands = [None if v is None else known[v] if v.data is None else v.data for v in node.inputs]
                known[node.output] = np.asarray(OPS[node.op].reference(RunContext(node, node.attrs, True), *operands))
        return np.broadcast_to(known[self.nodes[-1].output], x.shape)


def conditionals(graph: Graph) -> dict[Node, Conditional]:
    """Every choice between real numbers that is a function of one value, and compares it."""
    found = {}
    for node in graph.nodes:
        if node.op == "where" and node.output.dtype.is_float:
            inside: dict[Node, None] = {}
            sources: set[Value] = set()
            _walk(graph, node, inside, sources)
            if len(sources) == 1 and any(n.output.dtype is DType.bool for n in inside):
                (source,) = sources
                if source.dtype.is_float and source.shape == node.output.shape:
                    found[node] = Conditional(source, tuple(inside))
    return found


def _walk(graph: Graph, node: Node, inside: dict[Node, None], sources: set[Value]) -> None:
    """Collect the elementwise nodes behind a node, operands first, and the values they start from."""
    for value in node.operands:
        if value.data is not None:
            if value.data.size != 1:
                sources.add(value)
            continue
        maker = graph.producer(value)
        if maker is None or OPS[maker.op].category != "elementwise" or len(maker.outputs) != 1:
            sources.add(value)
        elif maker not in inside:
            _walk(graph, maker, inside, sources)
    inside[node] = None


def only_within(graph: Graph, found: Mapping[Node, Conditional]) -> set[Node]:
    """Nodes that nothing but these functions needs."""
    inner = {n for f in found.values() for n in f.nodes} - set(found)
    while outside := {n for n in inner if graph.is_output(n.output) or any(u not in inner and u not in found for u, _ in graph.uses(n.output))}:
        inner -= outside
    return inner
