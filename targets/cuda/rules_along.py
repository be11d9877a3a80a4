"""Functions along an axis, and indexing by several axes at once."""

from __future__ import annotations

from dataclasses import replace

from qcompiler.ir import Node, Value
from qcompiler.kernels.gpu import along, pointwise
from qcompiler.kernels.gpu.launch import View
from qcompiler.targets.cuda.lower import Lowering, NoKernel, Rule, first, known_shape


def _axis(low: Lowering, node: Node) -> tuple[View, int]:
    x = low.view(first(node))
    return x, node.attrs["axis"] % len(x.shape)


def _place(low: Lowering, node: Node) -> None:
    x, axis = _axis(low, node)
    y = low.new(node.output)
    kept = y.reshape(tuple(1 if i == axis else d for i, d in enumerate(x.shape)))
    assert kept is not None
    low.add(along.place(x, axis, kept, node.op == "argmin"), [node], node.output, y)


def _running_sum(low: Lowering, node: Node) -> None:
    x, axis = _axis(low, node)
    y = low.new(node.output)
    low.add(along.running_sum(x, axis, y), [node], node.output, y)


def _top(low: Lowering, node: Node) -> None:
    x, axis = _axis(low, node)
    values, indices = (low.new(v) for v in node.outputs)
    low.add(along.top(x, axis, values, indices, not node.attrs["largest"]), [node], node.outputs[0], values)
    low.bind(node.outputs[1], indices)


def check_indices(low: Lowering, indices: Value, rows: int) -> None:
    """Note how many rows an input indexes, so that it is checked before kernels run.

    Raises:
        NoKernel: the indices are computed.
    """
    if any(v is indices for v in low.graph.inputs):
        low.indices[indices.name] = min(rows, low.indices.get(indices.name, rows))
    elif low.constants.of(indices) is None:
        raise NoKernel("indices are computed; those of inputs and constants can be checked before a kernel runs")


def _gather_elements(low: Lowering, node: Node) -> None:
    data, indices = node.operands
    x, axis = _axis(low, node)
    y = low.new(node.output)
    check_indices(low, indices, x.shape[axis])
    low.add(pointwise.gather_elements(x, low.view(indices), axis, y), [node], node.output, y)


def _gather_nd(low: Lowering, node: Node) -> None:
    data, indices = node.operands
    x, y = low.view(data), low.new(node.output)
    check_indices(low, indices, min(x.shape[: known_shape(indices)[-1]]))
    low.add(along.gather_nd(x, low.view(indices), y), [node], node.output, y)


def _scatter_nd(low: Lowering, node: Node) -> None:
    data, indices, updates = node.operands
    x = low.view(data)
    y = low.new(node.output)
    check_indices(low, indices, min(x.shape[: known_shape(indices)[-1]]))
    low.add(pointwise.copy(x, y), [node], None, y)
    low.bind(node.output, y)
    changes, places = (v if v.contiguous else low.copy(v, of, (node,)) for v, of in ((low.view(o), o) for o in (updates, indices)))
    if changes.count:
        launch = along.scatter_nd(changes, places, y, node.attrs["accumulate"])
        low.add(launch, [node], node.output, y)
    elif y.count:
        low.steps[-1] = replace(low.steps[-1], result=node.output)


RULES: dict[str, Rule] = {
    "argmax": _place,
    "argmin": _place,
    "cumsum": _running_sum,
    "topk": _top,
    "gather_elements": _gather_elements,
    "gather_nd": _gather_nd,
    "scatter_nd": _scatter_nd,
}
