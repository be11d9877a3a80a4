"""Building and rewriting graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from .dims import Shape
from .dtypes import DType
from .graph import Graph, Node, Origin, Value, make_node
from .levels import Level
from .quant import QuantParams


def constant(
    data: Any, dtype: DType | None = None, quant: QuantParams | None = None, name: str = ""
) -> Value:
    """A constant value. `dtype` is needed only for types NumPy does not have (int4, ...)."""
    array = np.asarray(data)
    kind = dtype or (quant.dtype if quant is not None else DType.of(array))
    array = np.asarray(array, kind.numpy, order="C")
    if array.flags.writeable:
        array = array.view()
        array.setflags(write=False)
    return Value(kind, tuple(array.shape), quant, name, array)


class GraphBuilder:
    """Appends nodes in program order.

    >>> b = GraphBuilder("double")
    >>> x = b.input("x", DType.float32, (2,))
    >>> graph = b.build([b.op("add", x, x)])
    """

    def __init__(self, name: str = "graph", level: Level = Level.FLOAT, pass_name: str = "") -> None:
        self.name = name
        self.level = level
        self.pass_name = pass_name
        self.origin = Origin()
        self.inputs: list[Value] = []
        self.nodes: list[Node] = []

    def input(self, name: str, dtype: DType, shape: Shape, quant: QuantParams | None = None) -> Value:
        """Declare the next graph input."""
        value = Value(dtype, tuple(shape), quant, name)
        self.inputs.append(value)
        return value

    def const(
        self, data: Any, dtype: DType | None = None, quant: QuantParams | None = None, name: str = ""
    ) -> Value:
        """A constant; it belongs to the graph by being used."""
        return constant(data, dtype, quant, name)

    def node(
        self, op: str, *inputs: Value | None, origin: Origin | None = None, name: str = "", **attrs: Any
    ) -> Node:
        """Append a node and return it (for ops with several outputs)."""
        node = make_node(op, inputs, attrs, (origin or self.origin).made_by(self.pass_name), name)
        self.nodes.append(node)
        return node

    def op(
        self, op: str, *inputs: Value | None, origin: Origin | None = None, name: str = "", **attrs: Any
    ) -> Value:
        """Append a node with one output and return that output."""
        return self.node(op, *inputs, origin=origin, name=name, **attrs).output

    def build(self, outputs: Iterable[Value], output_names: Iterable[str] | None = None) -> Graph:
        """The graph; nodes that no output needs are dropped."""
        graph = Graph(self.name, self.inputs, self.nodes, outputs, output_names, self.level)
        return drop_dead_nodes(graph)


class Rewriter(GraphBuilder):
    """A builder that walks an old graph; `rewriter[old]` is what stands for an old value in the new graph."""

    def __init__(self, graph: Graph, pass_name: str, level: Level | None = None) -> None:
        super().__init__(graph.name, level or graph.level, pass_name)
        self.graph = graph
        self.inputs = list(graph.inputs)
        self.replaced: dict[Value, Value] = {}

    def __getitem__(self, old: Value) -> Value:
        return self.replaced.get(old, old)

    def get(self, old: Value | None) -> Value | None:
        """Like indexing, with None for an absent operand."""
        return None if old is None else self[old]

    def keep(self, node: Node) -> Sequence[Value]:
        """Append a node unchanged, or rebuilt on its new inputs where those changed."""
        inputs = tuple(self.get(v) for v in node.inputs)
        if all(a is b for a, b in zip(inputs, node.inputs, strict=True)):
            self.nodes.append(node)
            return node.outputs
        name = node.outputs[0].name if len(node.outputs) == 1 else node.outputs[0].name.rpartition("_")[0]
        rebuilt = make_node(node.op, inputs, dict(node.attrs), node.origin, name)
        self.nodes.append(rebuilt)
        return rebuilt.outputs


Visit = Callable[[Rewriter, Node], "Sequence[Value] | Value | None"]


def rewrite(graph: Graph, visit: Visit, pass_name: str = "", level: Level | None = None) -> Graph:
    """Walk `graph` in program order and build a new graph.

    `visit(rewriter, node)` returns the values that replace the node's outputs (already in the new graph), or
    None to keep the node. To fuse a pattern, match it at its last node and return the fused value: what nobody
    reads any more is dropped. New nodes inherit the visited node's origin, with the pass noted.
    Returns `graph` itself if nothing changed.
    """
    rewriter = Rewriter(graph, pass_name, level)
    for node in graph.nodes:
        rewriter.origin = node.origin
        result = visit(rewriter, node)
        if result is None:
            outputs = rewriter.keep(node)
        else:
            outputs = (result,) if isinstance(result, Value) else tuple(result)
        for old, new in zip(node.outputs, outputs, strict=True):
            # A visitor may name a value of the old graph that was itself replaced.
            stands = rewriter[new]
            if old is not stands:
                rewriter.replaced[old] = stands
    if not rewriter.replaced and rewriter.level is graph.level and len(rewriter.nodes) == len(graph.nodes):
        return graph
    outputs = [rewriter[v] for v in graph.outputs]
    result_graph = Graph(
        graph.name, rewriter.inputs, rewriter.nodes, outputs, graph.output_names, rewriter.level
    )
    return drop_dead_nodes(result_graph)


def drop_dead_nodes(graph: Graph) -> Graph:
    """The graph without nodes whose outputs nobody needs; inputs stay (they are the model's signature)."""
    needed: set[Value] = set(graph.outputs)
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if any(v in needed for v in node.outputs):
            kept.append(node)
            needed.update(node.operands)
    if len(kept) == len(graph.nodes):
        return graph
    return Graph(graph.name, graph.inputs, reversed(kept), graph.outputs, graph.output_names, graph.level)
