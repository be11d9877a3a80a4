"""Does a graph keep the samples of a batch apart? Read off its symbolic shapes."""

from __future__ import annotations

from typing import Any

from qcompiler.ir import Graph, Node, Value
from qcompiler.ir.dims import is_symbolic, symbols_of


def batch_symbol(graph: Graph) -> str | None:
    """The symbol of axis 0 of all inputs, if samples along it cannot influence one another; else None.

    That holds if every value that has the symbol has it once, as a factor of axis 0, if a node with such an
    operand has only such outputs (else it reduced over samples), and if no node works along axis 0 of one.
    A sequence model whose axis 0 is time shows itself by a value [time, time], or by an axis of 0.
    """
    if not graph.inputs or not all(v.shape and is_symbolic(v.shape[0]) for v in graph.inputs):
        return None
    first = graph.inputs[0].shape[0]
    if not first.is_Symbol or any(v.shape[0] != first for v in graph.inputs):
        return None
    carries = {v: _carries(v, first) for v in graph.values()}
    if None in carries.values():
        return None
    for node in graph.nodes:
        mixes = not all(carries[v] for v in node.outputs) or _along_axis_0(node, carries)
        if mixes and any(carries[v] for v in node.operands):
            return None
    return str(first)


def _carries(value: Value, symbol: Any) -> bool | None:
    """True: axis 0 is a multiple of the symbol. False: it does not occur. None: it occurs otherwise."""
    name = symbol.name
    where = [i for i, dim in enumerate(value.shape) if name in symbols_of((dim,))]
    if not where:
        return False
    if where != [0]:
        return None
    dim = value.shape[0]
    return True if dim == symbol or name not in symbols_of((dim / symbol,)) else None


def _along_axis_0(node: Node, carries: dict[Value, bool | None]) -> bool:
    """True if the node names axis 0 of its first operand (the table of an embedding is no such operand)."""
    first = node.inputs[0] if node.inputs else None
    if first is None or not carries[first]:
        return False
    rank = len(first.shape)
    axis, axes = node.attrs.get("axis"), node.attrs.get("axes", ())
    if isinstance(axes, int):  # normalization: how many trailing axes
        return axes >= rank
    positional = node.op == "tri" and rank == 2
    return positional or any(a in (0, -rank) for a in (*axes, *([axis] if isinstance(axis, int) else [])))
