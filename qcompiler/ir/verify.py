"""What each level allows. `verify_graph` runs at every stage border, and after every pass in tests."""

from __future__ import annotations

from ..errors import GraphError
from .dims import same_shape, symbols_of
from .graph import Graph, Node, Value, check_sizes
from .levels import Level
from .ops import get_op
from .signed_digits import most_digits

INTEGER_ROUNDINGS = ("dyadic", "dyadic_double", "shift_half_even")

# Op categories that may not occur at a level, and roundings that Requantize ops may use there.
FORBIDDEN_CATEGORIES: dict[Level, tuple[str, ...]] = {
    Level.FLOAT: ("quantized", "integer"),
    Level.QUANTIZED: ("integer",),
    Level.INTEGER: (),
    Level.LEGAL: (),
}
ROUNDINGS: dict[Level, tuple[str, ...]] = {
    Level.FLOAT: (),
    Level.QUANTIZED: ("float32_half_even", *INTEGER_ROUNDINGS),
    Level.INTEGER: INTEGER_ROUNDINGS,
    Level.LEGAL: ("float32_half_even", *INTEGER_ROUNDINGS),
}


def verify_graph(graph: Graph, level: Level | None = None) -> None:
    """Check structure, types and the level's rules.

    Raises:
        GraphError: naming the first node (with its module path) that breaks a rule.
    """
    level = level or graph.level
    known: set[Value] = set(graph.inputs)
    symbols = graph.symbols()
    for value in graph.inputs:
        _check_value(value, level, f"input {value.name!r}")
    for node in graph.nodes:
        _check_node(node, level, known, symbols)
        known.update(node.outputs)
    for name, value in zip(graph.output_names, graph.outputs, strict=True):
        if value not in known and not value.is_const:
            raise GraphError(f"output {name!r} is computed by no node")


def _check_node(node: Node, level: Level, known: set[Value], symbols: set[str]) -> None:
    spec = get_op(node.op)
    where = node.where()
    if spec.category in FORBIDDEN_CATEGORIES[level]:
        raise GraphError(f"{where}: not allowed at level {level.value}")
    for value in node.operands:
        if value.is_const:
            _check_value(value, level, f"{where}: constant {value.name!r}")
            _check_constant(value, where)
        elif value not in known:
            raise GraphError(f"{where}: operand {value!r} is not computed before its use")
    types = spec.infer(node.inputs, node.attrs)
    if len(types) != len(node.outputs):
        raise GraphError(f"{where}: {len(node.outputs)} outputs, the op has {len(types)}")
    for value, kind in zip(node.outputs, types, strict=True):
        if value in known:
            raise GraphError(f"{where}: output {value!r} is defined twice")
        if (
            value.dtype is not kind.dtype
            or not same_shape(value.shape, kind.shape)
            or value.quant != kind.quant
        ):
            raise GraphError(
                f"{where}: output is {value!r}, its rule gives {kind.dtype.name}{list(kind.shape)}"
            )
        if not symbols_of(value.shape) <= symbols:
            raise GraphError(f"{where}: symbols {symbols_of(value.shape) - symbols} belong to no input")
        _check_value(value, level, where)
    if level is Level.INTEGER:
        _check_attributes(node, where)
    if "rounding" in node.attrs and node.op != "quantize" and node.attrs["rounding"] not in ROUNDINGS[level]:
        raise GraphError(
            f"{where}: rounding {node.attrs['rounding']} is not allowed at level {level.value}; allowed:"
            f" {', '.join(ROUNDINGS[level])}"
        )


def _check_attributes(node: Node, where: str) -> None:
    """At level INTEGER numbers in attributes are whole; scales are no part of the computation."""
    for spec in get_op(node.op).attrs:
        given = node.attrs[spec.name]
        if spec.kind not in ("float", "floats") or given is None:
            continue
        for number in given if isinstance(given, tuple) else (given,):
            if not float(number).is_integer():
                raise GraphError(f"{where}: attribute {spec.name} is {number}, not whole, at level integer")


def _check_value(value: Value, level: Level, where: str) -> None:
    check_sizes(value.shape)
    if level is Level.INTEGER and value.dtype.is_float:
        raise GraphError(f"{where}: {value.dtype.name} value at level integer")
    if level is Level.FLOAT and value.quant is not None:
        raise GraphError(f"{where}: quantized value at level float")
    if value.quant is not None and value.quant.dtype is not value.dtype:
        raise GraphError(
            f"{where}: value is {value.dtype.name}, its quantization says {value.quant.dtype.name}"
        )


def _check_constant(value: Value, where: str) -> None:
    data = value.data
    if data is None or tuple(data.shape) != value.shape or data.dtype != value.dtype.numpy:
        raise GraphError(f"{where}: data of constant {value!r} does not fit its type")
    if value.dtype.is_integer and value.dtype.bits < 8 and data.size:
        if data.min() < value.dtype.min or data.max() > value.dtype.max:
            raise GraphError(f"{where}: constant {value!r} has codes outside its type")
    if value.quant is not None and value.quant.digits is not None:
        found = most_digits(data, value.dtype.bits)
        if found > value.quant.digits:
            raise GraphError(f"{where}: constant {value!r} has codes of {found} signed digits, its type allows {value.quant.digits}")
