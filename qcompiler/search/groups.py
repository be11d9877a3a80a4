"""Groups of layers that are decided together: tied weights, fusable sets, and readers of one stored value."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import networkx

from qcompiler.search.choices import Choice, layers, legal_choices

if TYPE_CHECKING:
    from qcompiler.ir import Graph, Node
    from qcompiler.recipe import Recipe
    from qcompiler.targets import Target


@dataclass(frozen=True)
class Group:
    """Layers that share one choice.

    Attributes:
        name: module path of the first layer; unique in a space.
        members: (module path, op) of every layer, in program order. Graph objects are not held, so that one space
            serves every graph that the transforms make of a model.
        choices: legal for all of them.
        weights: elements of all weights, each tied weight counted once.
        channels: output channels of all layers (one scale each where weights are per channel).
        macs: products of one inference on the first sample's sizes; 0 where sizes are symbolic.
    """

    name: str
    members: tuple[tuple[str, str], ...]
    choices: tuple[Choice, ...]
    weights: int
    channels: int
    macs: int

    def __post_init__(self) -> None:
        assert len({c.name for c in self.choices}) == len(self.choices), "choices of a group have distinct names"


def find_groups(graph: Graph, recipe: Recipe, target: Target, shapes: dict[str, int] | None = None) -> tuple[Group, ...]:
    """The groups of a graph, in program order.

    Tied are layers that
    - share a weight (a tied weight is stored once),
    - stand in one module (a recipe's rule names a module),
    - are linear and read the same value (query, key and value become one kernel),
    - read the same value where their choices differ in activation width: the value is stored in one type.

    Args:
        graph: at level FLOAT.
        recipe: what stays out of the search, and sign of activations.
        target: what is legal.
        shapes: sizes of symbolic dimensions, for the products of one inference.

    Raises:
        UnsupportedError: nothing to decide about.
    """
    nodes = layers(graph, recipe, target)
    choices = {node: legal_choices(node, recipe, target) for node in nodes}
    ties = networkx.Graph()
    ties.add_nodes_from(nodes)
    keys: dict[Hashable, Node] = {}
    for node in nodes:
        for key in _ties(node, choices[node]):
            ties.add_edge(node, keys.setdefault(key, node))
    order = {node: i for i, node in enumerate(nodes)}
    parts = [sorted(part, key=order.__getitem__) for part in networkx.connected_components(ties)]
    return tuple(_group(part, choices, shapes or {}) for part in sorted(parts, key=lambda p: order[p[0]]))


def _ties(node: Node, choices: Sequence[Choice]) -> list[Hashable]:
    value, weight = node.operands[:2]
    keys: list[Hashable] = [("weight", id(weight)), ("module", node.origin.module, node.op)]
    widths = {c.activation_bits for c in choices if c.scheme == "static"}
    if node.op == "linear" or len(widths) > 1:
        keys.append(("reads", id(value)))
    return keys


def _group(nodes: Sequence[Node], choices: dict[Node, tuple[Choice, ...]], shapes: dict[str, int]) -> Group:
    common = [c for c in choices[nodes[0]] if all(c in choices[n] for n in nodes)]
    weights = {id(n.operands[1]): n.operands[1] for n in nodes}.values()
    return Group(
        name=nodes[0].origin.module or nodes[0].where(),
        members=tuple(dict.fromkeys((n.origin.module, n.op) for n in nodes)),
        choices=tuple(common),
        weights=sum(_count(w.shape) for w in weights),
        channels=sum(int(w.shape[0]) for w in weights),
        macs=sum(_macs(n, shapes) for n in nodes),
    )


def _count(shape: Sequence[object]) -> int:
    total = 1
    for size in shape:
        total *= int(size)  # type: ignore[call-overload]
    return total


def _macs(node: Node, shapes: dict[str, int]) -> int:
    """Products: one filter per output element; 0 where a size is not known."""
    from qcompiler.ir.dims import evaluate, product, symbols_of

    output, weight = node.output.shape, node.operands[1].shape
    if not symbols_of(output) <= shapes.keys():
        return 0
    return int(evaluate(product(output), shapes)) * _count(weight[1:])
