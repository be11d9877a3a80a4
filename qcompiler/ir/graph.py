"""Value, Node and Graph: frozen, compared by identity, related by use-def chains that are derived on demand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import GraphError
from .dims import Shape, symbols_of
from .dtypes import DType
from .levels import Level
from .quant import QuantParams

if TYPE_CHECKING:
    import networkx

Attr = Any  # int | float | bool | str | DType | Dim | QuantParams | None | tuple of those; the op table names the kind


@dataclass(frozen=True)
class Origin:
    """Where a node comes from.

    Attributes:
        module: path in the user's model (`encoder.layer.3.attention`), "" at top level.
        source: `file.py:line` of the user's code, "" if unknown.
        passes: names of the passes that made or rewrote the node, oldest first.
    """

    module: str = ""
    source: str = ""
    passes: tuple[str, ...] = ()

    def made_by(self, pass_name: str) -> Origin:
        """The same origin with one more pass noted (once)."""
        if not pass_name or (self.passes and self.passes[-1] == pass_name):
            return self
        return replace(self, passes=(*self.passes, pass_name))


@dataclass(frozen=True, eq=False, slots=True)
class Value:
    """A tensor of the program: graph input, constant (`data` set) or node output.

    Identity is the object. `name` is a hint for printing only (except for graph inputs, whose names are the
    user's and unique).
    """

    dtype: DType
    shape: Shape
    quant: QuantParams | None = None
    name: str = ""
    data: np.ndarray | None = None

    @property
    def is_const(self) -> bool:
        """True if the value is a constant of the program."""
        return self.data is not None

    def __repr__(self) -> str:
        dims = ", ".join(str(d) for d in self.shape)
        return f"%{self.name or '?'}: {self.dtype.name}[{dims}]"


@dataclass(frozen=True, eq=False)
class Node:
    """One operation. `inputs` follow the op's operands, None where an optional operand is absent."""

    op: str
    inputs: tuple[Value | None, ...]
    attrs: Mapping[str, Attr]
    outputs: tuple[Value, ...]
    origin: Origin = field(default_factory=Origin)

    @property
    def output(self) -> Value:
        """The output of a node that has exactly one."""
        if len(self.outputs) != 1:
            raise GraphError(f"{self.op} has {len(self.outputs)} outputs")
        return self.outputs[0]

    @property
    def operands(self) -> tuple[Value, ...]:
        """The inputs that are present."""
        return tuple(v for v in self.inputs if v is not None)

    def where(self) -> str:
        """`op at module (source)` for messages."""
        module = self.origin.module or "(top level)"
        return f"{self.op} at {module}" + (f" ({self.origin.source})" if self.origin.source else "")

    def __repr__(self) -> str:
        return f"<{self.where()}>"


def check_sizes(shape: Shape) -> None:
    """Check that no known dimension is negative.

    Raises:
        GraphError: naming the shape.
    """
    if any(isinstance(d, int) and d < 0 for d in shape):
        raise GraphError(f"shape {list(shape)} has a negative dimension")


def make_node(
    op: str,
    inputs: Iterable[Value | None],
    attrs: Mapping[str, Attr] | None = None,
    origin: Origin | None = None,
    name: str = "",
) -> Node:
    """Build a node; the op table validates operands and attributes and gives the outputs' types.

    Raises:
        GraphError: unknown op, wrong operands or attributes, or shapes and types that the op does not take.
    """
    from .ops import get_op

    origin = origin or Origin()
    spec = get_op(op)
    operands = tuple(inputs)
    try:
        operands, full_attrs = spec.check(operands, dict(attrs or {}))
        types = spec.infer(operands, full_attrs)
        for kind in types:
            check_sizes(kind.shape)
    except GraphError as error:
        at = f" at {origin.module or '(top level)'}" + (f" ({origin.source})" if origin.source else "")
        raise GraphError(f"{op}{at}: {error}") from None
    hint = name or op
    outputs = tuple(
        Value(t.dtype, t.shape, t.quant, hint if len(types) == 1 else f"{hint}_{i}")
        for i, t in enumerate(types)
    )
    return Node(op, operands, MappingProxyType(full_attrs), outputs, origin)


class Graph:
    """A program: inputs, nodes in topological order, outputs.

    Frozen: passes build new graphs and share nodes, values and weights with the old one.

    Attributes:
        name: of the model.
        level: what the verifier holds the graph to.
        inputs: graph inputs; their names are unique and the user's.
        outputs: values that are returned, in the user's order.
        output_names: one unique name per output.
        nodes: in topological order.
    """

    def __init__(
        self,
        name: str,
        inputs: Iterable[Value],
        nodes: Iterable[Node],
        outputs: Iterable[Value],
        output_names: Iterable[str] | None = None,
        level: Level = Level.FLOAT,
    ) -> None:
        self.name = name
        self.level = level
        self.inputs = tuple(inputs)
        self.nodes = tuple(nodes)
        self.outputs = tuple(outputs)
        names = (
            tuple(output_names)
            if output_names is not None
            else tuple(f"output_{i}" for i in range(len(self.outputs)))
        )
        self.output_names = names
        if len(names) != len(self.outputs) or len(set(names)) != len(names):
            raise GraphError(f"{len(self.outputs)} outputs need as many unique names, got {names}")
        if len({v.name for v in self.inputs}) != len(self.inputs):
            raise GraphError(f"input names must be unique, got {[v.name for v in self.inputs]}")

    def with_level(self, level: Level) -> Graph:
        """The same program held to another level."""
        return Graph(self.name, self.inputs, self.nodes, self.outputs, self.output_names, level)

    @cached_property
    def _producers(self) -> dict[Value, Node]:
        return {v: node for node in self.nodes for v in node.outputs}

    @cached_property
    def _uses(self) -> dict[Value, list[tuple[Node, int]]]:
        uses: dict[Value, list[tuple[Node, int]]] = {}
        for node in self.nodes:
            for index, value in enumerate(node.inputs):
                if value is not None:
                    uses.setdefault(value, []).append((node, index))
        return uses

    def producer(self, value: Value) -> Node | None:
        """The node that computes a value; None for inputs and constants."""
        return self._producers.get(value)

    def uses(self, value: Value) -> list[tuple[Node, int]]:
        """(node, operand index) of every use by a node, in program order; graph outputs do not count."""
        return list(self._uses.get(value, ()))

    def is_output(self, value: Value) -> bool:
        """True if the graph returns the value."""
        return any(v is value for v in self.outputs)

    def sole_user(self, value: Value) -> Node | None:
        """The one node that reads a value which is no output; None if there are none or several."""
        uses = self._uses.get(value, ())
        return uses[0][0] if len(uses) == 1 and not self.is_output(value) else None

    def constants(self) -> Iterator[Value]:
        """Each constant once, in order of first use."""
        seen: set[Value] = set()
        candidates = [v for node in self.nodes for v in node.operands] + list(self.outputs)
        for value in candidates:
            if value.is_const and value not in seen:
                seen.add(value)
                yield value

    def values(self) -> Iterator[Value]:
        """Inputs, constants and node outputs, each once."""
        yield from self.inputs
        yield from self.constants()
        for node in self.nodes:
            yield from node.outputs

    def symbols(self) -> set[str]:
        """Names of the symbolic dimensions of the inputs."""
        return {s for v in self.inputs for s in symbols_of(v.shape)}

    def to_networkx(self) -> networkx.DiGraph:
        """Directed graph over nodes; an edge carries `values`, the list of values that flow along it."""
        import networkx

        view = networkx.DiGraph()
        view.add_nodes_from(self.nodes)
        for node in self.nodes:
            for value in node.operands:
                source = self.producer(value)
                if source is None:
                    continue
                if view.has_edge(source, node):
                    view.edges[source, node]["values"].append(value)
                else:
                    view.add_edge(source, node, values=[value])
        return view

    def __str__(self) -> str:
        from .text import print_graph

        return print_graph(self)[0]

    def __repr__(self) -> str:
        return f"<Graph {self.name!r} {self.level.value}: {len(self.nodes)} nodes>"
