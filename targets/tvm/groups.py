"""Which ops of the graph become one kernel.

A group starts with an anchor (a product, a reduction, a copy, or an elementwise op that can join nothing) and takes in
the elementwise ops that alone read what it has computed so far. Data movement belongs to no group: readers look
through it. Groups are emitted in the order of their anchors, which is an order of execution: an op joins the latest of
the groups that it reads.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from qcompiler.ir import Graph, Node, Value
from qcompiler.ir.dims import same_shape


@dataclass
class Group:
    """Nodes of one kernel.

    Attributes:
        nodes: the anchor, then elementwise ops in order.
        outputs: what the kernel writes; one value unless the anchor has several results.
    """

    nodes: list[Node]
    outputs: list[Value]

    @property
    def anchor(self) -> Node:
        """The node that decides how the kernel is scheduled."""
        return self.nodes[0]

    @property
    def output(self) -> Value:
        """What the kernel writes, where that is one value."""
        return self.outputs[0]


def group_nodes(
    graph: Graph, views: Collection[str], pointwise: Collection[str], in_place: Collection[Value] = ()
) -> list[Group]:
    """The kernels of a graph in order of execution.

    Args:
        graph: the program.
        views: ops that are other ways to read their operand.
        pointwise: ops that join the group of an operand.
        in_place: values that their reader takes apart itself.
    """
    groups: list[Group] = []
    home: dict[Value, int] = {}  # value -> index of its group; values seen through views have that of what they read
    for node in graph.nodes:
        indices = [home.get(v, -1) for v in node.operands if v.data is None]
        latest = max(indices, default=-1)
        if node.op in views or (len(node.outputs) == 1 and node.output in in_place):
            home[node.output] = latest
            continue
        if node.op in pointwise and latest >= 0 and _joins(graph, groups[latest], node):
            groups[latest].nodes.append(node)
            groups[latest].outputs = [node.output]
            home[node.output] = latest
            continue
        groups.append(Group([node], list(node.outputs)))
        for value in node.outputs:
            home[value] = len(groups) - 1
    return groups


def _joins(graph: Graph, group: Group, node: Node) -> bool:
    if len(group.outputs) != 1:
        return False
    tail = group.output
    return tail in node.operands and graph.sole_user(tail) is node and same_shape(tail.shape, node.output.shape)
