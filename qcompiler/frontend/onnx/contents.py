"""What small tensors hold where that is known when compiling: sizes, axes, bounds, conditions.

ONNX computes shapes with ordinary ops (`Shape -> Gather -> Mul -> Concat -> Reshape`). Here each such value is
followed as an array of numbers and symbolic dimensions, so that attributes of the graph's ops can be read from it.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ...errors import GraphError
from ...executors.reference import run_node
from ...ir import DType, Node, Value, get_op
from ...ir.dims import is_symbolic, maximum, minimum, normalize, same

# Shapes, axes and small tables; what is larger is data.
MAX_ELEMENTS = 4096

Known = Mapping[Value, np.ndarray]


def contents_of(value: Value, known: Known) -> np.ndarray | None:
    """Elements of a value: its data, or what was followed; None if they depend on the inputs."""
    if value.data is not None:
        return value.data if value.data.size <= MAX_ELEMENTS else None
    return known.get(value)


def follow(node: Node, known: Known) -> list[np.ndarray] | None:
    """Contents of a node's outputs, from those of its operands; None where they are not known.

    Elements that are symbolic dimensions make an array of objects.
    """
    if any(v.quant is not None for v in (*node.operands, *node.outputs)):
        return None
    if any(not all(isinstance(d, int) for d in v.shape) or _count(v.shape) > MAX_ELEMENTS for v in node.outputs):
        return None
    operands = [None if v is None else contents_of(v, known) for v in node.inputs]
    if any(a is None and v is not None for a, v in zip(operands, node.inputs, strict=True)):
        return None
    if node.op == "dim":
        return [_settled(np.array(node.attrs["value"], object), node.output.dtype)]
    if _symbolic_attributes(node):
        return None
    if any(a is not None and a.dtype == object for a in operands):
        rule = _SYMBOLIC.get(node.op)
        result = None if rule is None else _attempt(rule, node, operands)
        return None if result is None else [_settled(np.asarray(result, object), node.output.dtype)]
    with np.errstate(all="ignore"):
        return list(run_node(node, operands, {}))


def _count(shape: tuple[int, ...]) -> int:
    return functools.reduce(lambda a, b: a * b, shape, 1)


def _symbolic_attributes(node: Node) -> bool:
    for spec in get_op(node.op).attrs:
        value = node.attrs[spec.name]
        dims = (value,) if spec.kind == "dim" else value if spec.kind == "dims" else ()
        if any(is_symbolic(d) for d in dims):
            return True
    return False


def _settled(array: np.ndarray, dtype: DType) -> np.ndarray:
    """Plain numbers as such; otherwise an array of objects."""
    flat = [normalize(v) if getattr(v, "is_Integer", False) else v for v in array.ravel().tolist()]
    if any(hasattr(v, "free_symbols") for v in flat):
        result = np.empty(len(flat), object)
        result[:] = flat
        return result.reshape(array.shape)
    return np.array(flat, dtype.numpy).reshape(array.shape)


class _Undecided(Exception):
    """A comparison that depends on the size of a dynamic dimension."""


def _attempt(rule: Callable[..., Any], node: Node, operands: list[Any]) -> Any:
    with contextlib.suppress(_Undecided, TypeError, ValueError, GraphError):
        return rule(node, *operands)
    return None


def _moved(node: Node, *operands: Any) -> Any:
    """Movement does not look at elements: the reference body does it."""
    from ...ir.ops import RunContext

    return get_op(node.op).reference(RunContext(node, node.attrs), *operands)


def _each(fn: Callable[..., Any]) -> Callable[..., Any]:
    vector = np.frompyfunc(fn, 2, 1)
    return lambda node, a, b: vector(_objects(a), _objects(b))


def _objects(array: np.ndarray) -> np.ndarray:
    return array if array.dtype == object else array.astype(object)


def _divide(node: Node, a: np.ndarray, b: np.ndarray) -> Any:
    import sympy

    whole = node.output.dtype.is_integer
    quotient = np.frompyfunc(lambda x, y: sympy.floor(sympy.sympify(x) / y) if whole else sympy.sympify(x) / y, 2, 1)
    return quotient(_objects(a), _objects(b))


def _cast(node: Node, a: np.ndarray) -> Any:
    import sympy

    if node.output.dtype is DType.bool:
        raise _Undecided
    source = node.inputs[0]
    if source is not None and source.dtype.is_float and node.output.dtype.is_integer:
        return np.frompyfunc(lambda x: sympy.floor(sympy.nsimplify(x)), 1, 1)(a)
    return a


def _rounded(name: str) -> Callable[..., Any]:
    import sympy

    return lambda node, a: np.frompyfunc(lambda x: getattr(sympy, name)(sympy.nsimplify(x)), 1, 1)(a)


def _decide(name: str) -> Callable[[Any, Any], bool]:
    """A comparison of two sizes, where it holds for every positive value of the symbols."""
    import sympy

    relation = {"less": sympy.Lt, "less_equal": sympy.Le, "greater": sympy.Gt, "greater_equal": sympy.Ge}

    def compare(a: Any, b: Any) -> bool:
        if name in ("equal", "not_equal"):
            if same(a, b):
                return name == "equal"
            difference = sympy.sympify(a) - b
            if difference.is_zero is False or difference.is_positive or difference.is_negative:
                return name == "not_equal"
            raise _Undecided
        answer = relation[name](sympy.sympify(a), b)
        if answer in (sympy.true, sympy.false):
            return bool(answer)
        raise _Undecided

    return compare


def _reduce(fn: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    def run(node: Node, a: np.ndarray) -> Any:
        if a.ndim != 1:
            raise _Undecided
        total = functools.reduce(fn, a.tolist())
        return np.array([total] if node.attrs["keepdims"] else total, object)

    return run


def _where(node: Node, condition: np.ndarray, a: np.ndarray, b: np.ndarray) -> Any:
    if condition.dtype == object:
        raise _Undecided
    return np.where(condition, _objects(a), _objects(b))


def _mod(a: Any, b: Any) -> Any:
    import sympy

    return sympy.Mod(a, b)


_SYMBOLIC: dict[str, Callable[..., Any]] = {
    **dict.fromkeys("reshape transpose expand slice concat flip".split(), _moved),
    "gather": lambda node, data, index: np.take(data, index.astype(np.int64), axis=node.attrs["axis"]),
    "add": _each(lambda a, b: a + b),
    "sub": _each(lambda a, b: a - b),
    "mul": _each(lambda a, b: a * b),
    "maximum": _each(maximum),
    "minimum": _each(minimum),
    "mod": _each(_mod),
    "neg": lambda node, a: -a,
    "div": _divide,
    "cast": _cast,
    "floor": _rounded("floor"),
    "ceil": _rounded("ceiling"),
    "where": _where,
    "reduce_prod": _reduce(lambda a, b: a * b),
    "reduce_sum": _reduce(lambda a, b: a + b),
    "reduce_max": _reduce(maximum),
    "reduce_min": _reduce(minimum),
    **{
        name: _each(_decide(name))
        for name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
    },
}
