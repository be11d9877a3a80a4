"""The NumPy reference interpreter: what every artefact is compared with.

Float nodes run in the dtype of the arrays they are given (float32, or float64 for equality proofs of passes);
integer nodes compute exact integers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from qcompiler.errors import GraphError, UsageError
from qcompiler.ir import Graph, Node, Value, get_op
from qcompiler.ir.dims import bind, evaluate
from qcompiler.ir.ops import RunContext

OnValue = Callable[[Value, np.ndarray], None]


def run_reference(
    graph: Graph,
    inputs: Sequence[Any],
    taps: Collection[Value] = (),
    on_value: OnValue | None = None,
    float64: bool = False,
) -> list[np.ndarray]:
    """Run a graph.

    Args:
        graph: at any level.
        inputs: one array per graph input, in order.
        taps: values to hand to `on_value` as they are computed; nothing else is kept alive.
        on_value: called as on_value(value, array) for each tapped value, in program order.
        float64: compute float nodes in float64.

    Returns:
        One array per graph output.

    Raises:
        UsageError: wrong number, shape or dtype of inputs, naming the input.
    """
    arrays = [np.asarray(a) for a in inputs]
    bindings = bind_inputs(graph, [a.shape for a in arrays])
    for value, array in zip(graph.inputs, arrays, strict=True):
        if array.dtype != value.dtype.numpy:
            raise UsageError(f"input {value.name!r} must be {value.dtype.name}, got {array.dtype}")
    wanted = set(taps)
    live: dict[Value, np.ndarray] = {}
    for value, array in zip(graph.inputs, arrays, strict=True):
        live[value] = _widen(array) if float64 else array
        if on_value is not None and value in wanted:
            on_value(value, live[value])
    last = last_uses(graph)
    for node in graph.nodes:
        operands = [None if v is None else _load(v, live, float64) for v in node.inputs]
        results = run_node(node, operands, bindings, float64)
        for value, array in zip(node.outputs, results, strict=True):
            live[value] = array
            if on_value is not None and value in wanted:
                on_value(value, array)
        for value in last.get(node, ()):
            live.pop(value, None)
    return [_load(v, live, float64) for v in graph.outputs]


def run_node(
    node: Node, operands: Sequence[np.ndarray | None], bindings: Mapping[str, int], float64: bool = False
) -> tuple[np.ndarray, ...]:
    """Run one node on arrays; symbolic dimensions in its attributes take their values from `bindings`."""
    spec = get_op(node.op)
    attrs = {a.name: resolve_attribute(a.kind, node.attrs[a.name], bindings) for a in spec.attrs}
    result = spec.reference(RunContext(node, attrs, float64), *operands)
    results = result if isinstance(result, tuple) else (result,)
    fixed = []
    for value, array in zip(node.outputs, results, strict=True):
        array = np.asarray(array)
        if float64 and value.dtype.is_float:
            array = _widen(array)
        elif array.dtype != value.dtype.numpy:
            raise GraphError(
                f"{node.where()}: reference body gives {array.dtype}, the rule says {value.dtype.name}"
            )
        if len(array.shape) != len(value.shape):
            raise GraphError(
                f"{node.where()}: reference body gives shape {array.shape}, the rule says {value.shape}"
            )
        fixed.append(array)
    return tuple(fixed)


def bind_inputs(graph: Graph, shapes: Sequence[tuple[int, ...]]) -> dict[str, int]:
    """Values of the graph's symbolic dimensions, from the shapes of its inputs.

    Raises:
        UsageError: wrong number of inputs, or a shape that does not fit, naming the input.
    """
    if len(shapes) != len(graph.inputs):
        names = ", ".join(v.name for v in graph.inputs)
        raise UsageError(f"the model takes {len(graph.inputs)} inputs ({names}), got {len(shapes)}")
    bindings: dict[str, int] = {}
    # Twice: an expression may come before the input that binds its symbols.
    for value, shape in [*zip(graph.inputs, shapes, strict=True)] * 2:
        if not bind(value.shape, tuple(shape), bindings):
            known = f" with {bindings}" if bindings else ""
            raise UsageError(
                f"input {value.name!r} must have shape {list(value.shape)}{known}, got {list(shape)}"
            )
    return bindings


def last_uses(graph: Graph) -> dict[Node, list[Value]]:
    """For each node, the values that nobody needs after it."""
    last: dict[Value, Node] = {}
    for node in graph.nodes:
        for value in (*node.operands, *node.outputs):
            if not value.is_const:
                last[value] = node
    for value in graph.outputs:
        last.pop(value, None)
    result: dict[Node, list[Value]] = {}
    for value, node in last.items():
        result.setdefault(node, []).append(value)
    return result


def _load(value: Value, live: dict[Value, np.ndarray], float64: bool) -> np.ndarray:
    if value.data is not None:
        return _widen(value.data) if float64 and value.dtype.is_float else value.data
    return live[value]


def _widen(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64) if array.dtype.kind == "f" or array.dtype.name == "bfloat16" else array


def resolve_attribute(kind: str, value: Any, bindings: Mapping[str, int]) -> Any:
    """An attribute of a kind with its symbolic dimensions replaced by integers."""
    if kind == "dim":
        return evaluate(value, bindings)
    if kind == "dims":
        return tuple(evaluate(d, bindings) for d in value)
    return value
