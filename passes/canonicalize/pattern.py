"""What passes that replace a group of nodes by one share: looking along use-def chains, and the legality of a site.

A pattern is found from the node it ends at. Everything it swallows may be read by nobody outside, and none of
it may be an output of the graph; otherwise the site is refused and the note says who reads it.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from qcompiler.errors import InternalError
from qcompiler.ir import DType, Graph, Level, Node, Rewriter, Value, rewrite
from qcompiler.ir.dims import same
from qcompiler.passes.base import Context, Kind, Note, Pass, Result

# How near a constant must be to the one a formula names, by the precision it is written in.
TOLERANCE = {DType.float64: 1e-9, DType.float32: 1e-6}


# Replacements shrink the graph, so few rounds are needed; more mean that two rules undo each other.
MAX_ROUNDS = 32


class Matcher:
    """Looks at a graph the way patterns need it."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def made_by(self, value: Value | None, *ops: str) -> Node | None:
        """The node that computes a value, if it is one of `ops`."""
        node = None if value is None else self.graph.producer(value)
        return node if node is not None and node.op in ops else None

    def next(self, node: Node, *ops: str) -> Node | None:
        """The only reader of a node's only output, if it is one of `ops`."""
        if len(node.outputs) != 1:
            return None
        user = self.graph.sole_user(node.outputs[0])
        return user if user is not None and user.op in ops else None

    def scalar(self, value: Value | None) -> float | None:
        """The number in a constant of one element."""
        if value is None or value.data is None or value.data.size != 1:
            return None
        return float(value.data.reshape(-1)[0])

    def scalar_operand(self, node: Node) -> tuple[Value, float] | None:
        """(other operand, number) of a two-operand node with a one-element constant that does not add axes."""
        for x, c in pairs(node):
            number = self.scalar(c)
            if number is not None and not x.is_const and len(c.shape) <= len(x.shape):
                return x, number
        return None

    def readers_outside(self, inside: Collection[Node], last: Node) -> str:
        """Who besides the pattern reads something it swallows; empty if nobody."""
        pattern = {*inside, last}
        for node in inside:
            for value in node.outputs:
                if self.graph.is_output(value):
                    return f"{node.where()} is an output of the graph"
                for user, _ in self.graph.uses(value):
                    if user not in pattern:
                        return f"{node.where()} is also read by {user.where()}"
        return ""


def pairs(node: Node) -> Iterator[tuple[Value, Value]]:
    """Both orders of a two-operand node's operands."""
    a, b = node.operands
    yield a, b
    yield b, a


def close(number: float | None, wanted: float, dtype: DType) -> bool:
    """True if a number written in `dtype` stands for `wanted`."""
    return number is not None and math.isclose(
        number, wanted, rel_tol=TOLERANCE.get(dtype, 1e-2), abs_tol=1e-30
    )


def last_axes(axes: tuple[int, ...], rank: int) -> int:
    """How many last axes `axes` are; 0 if they are not exactly the last ones."""
    found = sorted(a % rank for a in axes) or list(range(rank))
    return len(found) if found == list(range(rank - len(found), rank)) else 0


def channel_vector(value: Value, rank: int, axis: int, channels: int) -> np.ndarray | None:
    """A constant that broadcasts along one axis only, as [channels]; None for any other value."""
    if value.data is None or len(value.shape) > rank:
        return None
    shape = (1,) * (rank - len(value.shape)) + value.shape
    if any(size != 1 for i, size in enumerate(shape) if i != axis % rank):
        return None
    flat = value.data.reshape(-1)
    return np.broadcast_to(flat, (channels,)) if len(flat) in (1, channels) else None


def keeps_shape(x: Value, other: Value) -> bool:
    """True if `other` broadcasts to x's shape."""
    offset = len(x.shape) - len(other.shape)
    return offset >= 0 and all(same(d, 1) or same(d, x.shape[offset + i]) for i, d in enumerate(other.shape))


@dataclass(frozen=True)
class Found:
    """A site where a pattern matches.

    Attributes:
        last: the node whose output the replacement stands for.
        inside: the other nodes the pattern swallows.
        build: makes the replacement; old values are reached through the rewriter.
        what: said in the note.
    """

    last: Node
    inside: tuple[Node, ...]
    build: Callable[[Rewriter], Value]
    what: str


class PatternPass(Pass):
    """Base of passes that replace matched groups of nodes.

    Class attributes:
        roots: ops at which `find` is asked.
    """

    kind = Kind.EXACT
    requires = (Level.FLOAT, Level.QUANTIZED)
    roots: ClassVar[frozenset[str]]

    @abstractmethod
    def find(self, m: Matcher, node: Node) -> Found | str | None:
        """The site that `node` anchors, the reason why it is refused, or None if there is none."""

    def run(self, graph: Graph, context: Context) -> Result:
        """Replace every legal site, also those that a replacement opens; see `find`."""
        taken: list[Note] = []
        new = graph
        for _ in range(MAX_ROUNDS):
            sites, refused = self._sites(new)
            if not sites:
                return Result(new, new is not graph, (*taken, *refused))
            taken += [Note(s.last.where(), True, s.what) for s in sites.values()]
            new = self._replace(new, sites)
        raise InternalError(f"{self.name} still finds sites after {MAX_ROUNDS} rounds; the last: {taken[-1]}")

    def _sites(self, graph: Graph) -> tuple[dict[Node, Found], list[Note]]:
        m = Matcher(graph)
        refused: list[Note] = []
        sites: dict[Node, Found] = {}
        claimed: set[Node] = set()
        for node in graph.nodes:
            found = self.find(m, node) if node.op in self.roots else None
            if found is None:
                continue
            reason = found if isinstance(found, str) else self._refuse(m, found, claimed)
            if isinstance(found, str) or reason:
                refused.append(Note(node.where(), False, reason))
                continue
            claimed.update(found.inside, (found.last,))
            sites[found.last] = found
        return sites, refused

    def _replace(self, graph: Graph, sites: dict[Node, Found]) -> Graph:
        def visit(rewriter: Rewriter, node: Node) -> Value | None:
            site = sites.get(node)
            return None if site is None else site.build(rewriter)

        return rewrite(graph, visit, self.name)

    def _refuse(self, m: Matcher, found: Found, claimed: set[Node]) -> str:
        if claimed.intersection(found.inside) or found.last in claimed:
            return "overlaps a site already taken"
        return m.readers_outside(found.inside, found.last)


def typed_like(data: np.ndarray, value: Value) -> np.ndarray:
    """Data rounded once, from the float64 it was computed in, to a value's type."""
    return np.ascontiguousarray(data, value.dtype.numpy)


def becomes(op: str, node: Node, *operands: Value | None, **attrs: Any) -> Callable[[Rewriter], Value]:
    """A `Found.build`: one op over operands of the old graph, named like `node`'s output."""

    def build(r: Rewriter) -> Value:
        return r.op(op, *(r.get(v) for v in operands), name=node.output.name, **attrs)

    return build
