"""Compute every expression once: nodes of equal op, operands and attributes, and equal small constants."""

from __future__ import annotations

from collections.abc import Hashable

from qcompiler.ir import Graph, Level, Rewriter, Value
from qcompiler.passes.base import Context, Kind, Note, Pass, Result

# Constants up to this many bytes are compared by content, larger ones by the memory they lie in.
COMPARED_BYTES = 4096


class MergeDuplicates(Pass):
    """See the module docstring."""

    name = "merge_duplicates"
    kind = Kind.EXACT
    requires = (Level.FLOAT, Level.QUANTIZED)

    def run(self, graph: Graph, context: Context) -> Result:
        """Keep the first of equal nodes; graph outputs stay separate names of one value."""
        rewriter = Rewriter(graph, self.name)
        notes: list[Note] = []
        known: dict[Hashable, tuple[Value, ...]] = {}
        constants: dict[Hashable, Value] = {}
        for value in graph.constants():
            first = constants.setdefault(_identity(value), value)
            if first is not value:
                rewriter.replaced[value] = first
        for node in graph.nodes:
            operands = tuple(rewriter.get(v) for v in node.inputs)
            key = (node.op, operands, tuple(node.attrs.items()))
            if key in known:
                notes.append(Note(node.where(), True, "same as an earlier node"))
                rewriter.replaced.update(zip(node.outputs, known[key], strict=True))
                continue
            outputs = tuple(rewriter.keep(node))
            known[key] = outputs
            rewriter.replaced.update((a, b) for a, b in zip(node.outputs, outputs, strict=True) if a is not b)
        if not rewriter.replaced:
            return Result(graph, False)
        outputs = [rewriter[v] for v in graph.outputs]
        new = Graph(graph.name, graph.inputs, rewriter.nodes, outputs, graph.output_names, graph.level)
        return Result(new, True, tuple(notes))


def _identity(value: Value) -> Hashable:
    data = value.data
    assert data is not None
    content: Hashable
    if data.nbytes <= COMPARED_BYTES:
        content = data.tobytes()
    else:
        content = (data.__array_interface__["data"][0], data.strides)
    return value.dtype, value.shape, value.quant, content
