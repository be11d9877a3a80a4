"""Compute what depends on constants only.

Bodies are the NumPy reference's. A result may not be larger than the constants it replaces (or `max_bytes`), and
a large constant that something else reads too is not copied: a transposed view of a tied embedding would store
the table twice. A result that is too large stays in the graph, but what is computed from it may be small again: the
position bias of Swin V2 is a table gathered from a network applied to constant coordinates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from functools import cache
from typing import Any

import numpy as np
from pydantic import Field

from qcompiler.executors.reference import run_node
from qcompiler.ir import Graph, GraphBuilder, Level, Node, Rewriter, Value, drop_dead_nodes, get_op
from qcompiler.ir.dims import is_symbolic
from qcompiler.ir.dims import product as elements
from qcompiler.passes.base import Context, Kind, Note, Pass, PassConfig, Result

Compute = Callable[[], np.ndarray]


class FoldConstantsConfig(PassConfig):
    """max_bytes: results up to this size are always folded. work_bytes: larger ones are not even computed."""

    max_bytes: int = Field(default=1 << 16, ge=0)
    work_bytes: int = Field(default=1 << 26, ge=0)


class FoldConstants(Pass):
    """See the module docstring."""

    name = "fold_constants"
    kind = Kind.EXACT
    requires = (Level.FLOAT, Level.QUANTIZED)

    def __init__(self, config: FoldConstantsConfig | None = None) -> None:
        self.config = config or FoldConstantsConfig()

    def run(self, graph: Graph, context: Context) -> Result:
        """Fold in program order, so that chains of constant nodes collapse in one sweep."""
        notes: list[Note] = []
        known: dict[Value, _Known] = {}  # what constants alone decide
        waiting: set[Node] = set()  # refused, and computed only if a later node can be folded with them
        changed = False
        rewriter = Rewriter(graph, self.name)
        for node in graph.nodes:
            operands = [None if v is None else known.get(v) or _Known.constant(v) for v in node.inputs]
            reason = self._reason(graph, node, operands, waiting)
            if reason is None:
                changed = True
                for old, found in zip(node.outputs, _Known.results(node, operands), strict=True):
                    new = GraphBuilder().const(found.array(), old.dtype, name=old.name)
                    known[old] = _Known(frozenset((new,)), new.data)
                    rewriter.replaced[old] = new
                notes.append(Note(node.where(), True, "computed"))
                continue
            if reason:
                notes.append(Note(node.where(), False, reason))
                if _size(node.outputs) <= self.config.work_bytes:
                    waiting.add(node)
                    known.update(zip(node.outputs, _Known.results(node, operands), strict=True))
            for old, kept in zip(node.outputs, rewriter.keep(node), strict=True):
                if old is not kept:
                    rewriter.replaced[old] = kept
        if not changed:
            return Result(graph, False, tuple(notes))
        outputs = [rewriter[v] for v in graph.outputs]
        new_graph = Graph(graph.name, graph.inputs, rewriter.nodes, outputs, graph.output_names, graph.level)
        return Result(drop_dead_nodes(new_graph), True, tuple(notes))

    def _reason(
        self, graph: Graph, node: Node, operands: list[_Known | None], waiting: Set[Node]
    ) -> str | None:
        """None to fold, "" where there is nothing to fold, else why it is refused."""
        present = [k for k, v in zip(operands, node.inputs, strict=True) if v is not None]
        if any(k is None for k in present) or get_op(node.op).category == "quantized":
            return ""
        if any(v.quant is not None for v in (*node.operands, *node.outputs)):
            return ""
        if any(is_symbolic(d) for v in node.outputs for d in v.shape) or _symbolic_attributes(node):
            return ""
        size = _size(node.outputs)
        if size <= self.config.max_bytes:
            return None
        roots = {root for k in present if k is not None for root in k.roots}
        given = sum(_bytes(v) for v in roots)
        if size > given:
            return f"{size} bytes would replace {given}"
        for value in roots:
            others = [u for u, _ in graph.uses(value) if u is not node and u not in waiting]
            if others and _bytes(value) > self.config.max_bytes:
                return f"constant {value.name!r} is also read by {others[0].where()}"
        return None


class _Known:
    """A value that constants alone decide; computed when it is first asked for.

    Attributes:
        roots: the constants of the graph it depends on.
    """

    def __init__(self, roots: frozenset[Value], data: np.ndarray | None, compute: Compute | None = None) -> None:
        self.roots, self._data, self._compute = roots, data, compute

    @staticmethod
    def constant(value: Value) -> _Known | None:
        return _Known(frozenset((value,)), value.data) if value.is_const else None

    @staticmethod
    def results(node: Node, operands: Sequence[_Known | None]) -> list[_Known]:
        """One for each output of a node."""
        roots = frozenset(root for k in operands if k is not None for root in k.roots)

        @cache
        def compute() -> tuple[np.ndarray, ...]:
            arrays: list[Any] = [None if k is None else k.array() for k in operands]
            return run_node(node, arrays, {})

        return [_Known(roots, None, lambda i=i: compute()[i]) for i in range(len(node.outputs))]  # type: ignore[misc]

    def array(self) -> np.ndarray:
        if self._data is None:
            assert self._compute is not None
            self._data = self._compute()
        return self._data


def _size(values: Sequence[Value]) -> int:
    """Bytes; of fixed shapes only."""
    return sum(int(elements(v.shape)) * v.dtype.numpy.itemsize for v in values)


def _bytes(value: Value) -> int:
    return 0 if value.data is None else value.data.nbytes


def _symbolic_attributes(node: Node) -> bool:
    for spec in get_op(node.op).attrs:
        value = node.attrs[spec.name]
        if spec.kind == "dim" and is_symbolic(value):
            return True
        if spec.kind == "dims" and any(is_symbolic(d) for d in value):
            return True
    return False
