"""Compute what depends on constants only.

Bodies are the NumPy reference's. A result may not be larger than the constants it replaces (or `max_bytes`), and
a large constant that something else reads too is not copied: a transposed view of a tied embedding would store
the table twice.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field

from qcompiler.executors.reference import run_node
from qcompiler.ir import Graph, GraphBuilder, Level, Node, Rewriter, Value, get_op
from qcompiler.ir.dims import is_symbolic
from qcompiler.ir.dims import product as elements
from qcompiler.passes.base import Context, Kind, Note, Pass, PassConfig, Result


class FoldConstantsConfig(PassConfig):
    """`max_bytes`: results up to this size are always folded."""

    max_bytes: int = Field(default=1 << 16, ge=0)


class FoldConstants(Pass):
    """See the module docstring."""

    name = "fold_constants"
    kind = Kind.EXACT
    requires = (Level.FLOAT,)

    def __init__(self, config: FoldConstantsConfig | None = None) -> None:
        self.config = config or FoldConstantsConfig()

    def run(self, graph: Graph, context: Context) -> Result:
        """Fold in program order, so that chains of constant nodes collapse in one sweep."""
        notes: list[Note] = []
        folded: dict[Value, Value] = {}
        rewriter = Rewriter(graph, self.name)
        for node in graph.nodes:
            operands = [folded.get(v, v) if v is not None else None for v in node.inputs]
            reason = self._reason(graph, node, operands)
            if reason is None:
                results = _compute(node, operands)
                for old, data in zip(node.outputs, results, strict=True):
                    new = GraphBuilder().const(data, old.dtype, name=old.name)
                    folded[old] = rewriter.replaced[old] = new
                notes.append(Note(node.where(), True, "computed"))
                continue
            if reason:
                notes.append(Note(node.where(), False, reason))
            for old, new in zip(node.outputs, rewriter.keep(node), strict=True):
                if old is not new:
                    rewriter.replaced[old] = new
        if not folded:
            return Result(graph, False, tuple(notes))
        outputs = [rewriter[v] for v in graph.outputs]
        new_graph = Graph(graph.name, graph.inputs, rewriter.nodes, outputs, graph.output_names, graph.level)
        return Result(new_graph, True, tuple(notes))

    def _reason(self, graph: Graph, node: Node, operands: list[Value | None]) -> str | None:
        """None to fold, "" where there is nothing to fold, else why it is refused."""
        present = [v for v in operands if v is not None]
        if any(not v.is_const for v in present) or get_op(node.op).category == "quantized":
            return ""
        if any(v.quant is not None for v in (*present, *node.outputs)):
            return ""
        if any(is_symbolic(d) for v in node.outputs for d in v.shape) or _symbolic_attributes(node):
            return ""
        size = sum(elements(v.shape) * v.dtype.numpy.itemsize for v in node.outputs)
        if size <= self.config.max_bytes:
            return None
        given = sum(_bytes(v) for v in present)
        if size > given:
            return f"{size} bytes would replace {given}"
        for value in node.operands:
            others = [user for user, _ in graph.uses(value) if user is not node]
            if others and _bytes(value) > self.config.max_bytes:
                return f"constant {value.name!r} is also read by {others[0].where()}"
        return None


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


def _compute(node: Node, operands: list[Value | None]) -> tuple[np.ndarray, ...]:
    arrays: list[Any] = [None if v is None else v.data for v in operands]
    return run_node(node, arrays, {})
