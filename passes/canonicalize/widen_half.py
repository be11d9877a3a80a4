"""Compute float16 and bfloat16 models in float32; inputs and outputs keep their types.

Half-precision arithmetic has no kernel on the targets, and transforms that move scales would round the weights
again. Weights are widened without loss; casts to and from half precision inside of the program disappear, so nothing
is rounded to 11 or 8 bits between the inputs and the outputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from qcompiler.ir import DType, Graph, Level, Node, Rewriter, Value, constant, get_op, make_node
from qcompiler.passes.base import Context, Kind, Note, Pass, Result

HALF = (DType.float16, DType.bfloat16)


class WidenHalf(Pass):
    """See the module docstring."""

    name = "widen_half"
    kind = Kind.EXACT
    requires = (Level.FLOAT, Level.QUANTIZED)

    def run(self, graph: Graph, context: Context) -> Result:
        """Rebuild every node that touches a half-precision value."""
        if all(_is_border(graph, node) for node in graph.nodes if _touches_half(node)):
            return Result(graph, False)
        widening = _Widening(graph)
        note = Note("program", True, f"{widening.count} nodes compute in float32")
        return Result(widening.finish(), True, (note,))


def _touches_half(node: Node) -> bool:
    return any(v.dtype in HALF for v in (*node.operands, *node.outputs))


def _is_border(graph: Graph, node: Node) -> bool:
    """A cast of an input to float32, or of the result to an output's type."""
    if node.op != "cast":
        return False
    x, y = node.operands[0], node.output
    widens = x in graph.inputs and y.dtype is DType.float32
    return widens or (x.dtype is DType.float32 and graph.is_output(y))


class _Widening:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.out = Rewriter(graph, WidenHalf.name)
        self.constants: dict[Value, Value] = {}
        self.count = 0
        for value in graph.inputs:
            if value.dtype in HALF:
                self.out.replaced[value] = self.out.op("cast", value, dtype=DType.float32, name=value.name)
        for node in graph.nodes:
            self._visit(node)

    def finish(self) -> Graph:
        """The new graph; outputs are rounded to their types at the very end."""
        graph, outputs = self.graph, []
        for name, old in zip(graph.output_names, graph.outputs, strict=True):
            new = self._operand(old)
            outputs.append(new if new is None or new.dtype is old.dtype else self.out.op("cast", new, dtype=old.dtype, name=name))
        return Graph(graph.name, graph.inputs, self.out.nodes, [v for v in outputs if v is not None], graph.output_names, graph.level)

    def _operand(self, value: Value | None) -> Value | None:
        if value is None or value.data is None or value.dtype not in HALF:
            return self.out.get(value)
        if value not in self.constants:
            self.constants[value] = constant(value.data.astype(np.float32), name=value.name)
        return self.constants[value]

    def _visit(self, node: Node) -> None:
        inputs = tuple(self._operand(v) for v in node.inputs)
        if not _touches_half(node):
            for old, new in zip(node.outputs, self.out.keep(node), strict=True):
                if old is not new:
                    self.out.replaced[old] = new
            return
        self.count += 1
        attrs = {spec.name: _wide(node.attrs[spec.name]) for spec in get_op(node.op).attrs}
        if node.op == "cast" and inputs[0] is not None and inputs[0].dtype is attrs["dtype"]:
            self.out.replaced[node.output] = inputs[0]
            return
        rebuilt = make_node(node.op, inputs, attrs, node.origin.made_by(WidenHalf.name), node.outputs[0].name)
        self.out.nodes.append(rebuilt)
        for old, new in zip(node.outputs, rebuilt.outputs, strict=True):
            self.out.replaced[old] = new


def _wide(attribute: Any) -> Any:
    return DType.float32 if attribute in HALF else attribute
