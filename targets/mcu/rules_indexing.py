"""Rows by their numbers, truth values and what they choose."""

from __future__ import annotations

import math

import numpy as np

from qcompiler.ir import DType, Node
from qcompiler.targets.mcu.layouts import plain
from qcompiler.targets.mcu.legalize import Legalizer, NoKernel, Rule, known_shape
from qcompiler.targets.mcu.program import Argument, At, Step, Struct, Tensor
from qcompiler.targets.mcu.rule_tools import CODES, elementwise_overlap, first, in_any_order, pairs


def _gather(low: Legalizer, node: Node) -> None:
    """Rows along one axis of a table in flash (an embedding) or of an activation."""
    data, index = node.operands
    table = low.words(data) if data.is_const else low.ordered(data, plain(len(data.shape)), node)
    chosen = low.ordered(index, plain(len(index.shape)), node)
    if chosen.c_type != "int32_t":
        raise NoKernel(f"numbers of rows in {index.dtype.name} have no kernel")
    axis = node.attrs["axis"] % len(table.shape)
    rows, count = table.shape[axis], chosen.count
    size = math.prod(table.shape[axis + 1 :]) * table.item
    y = low.new(node.output, plain(len(node.output.shape)))
    arguments = (At(table, rows * size), At(chosen), At(y, count * size), count, rows, size)
    repeat = math.prod(table.shape[:axis])
    low.steps.append(Step("qc_gather_rows", arguments, (table, chosen), y, (node,), repeat=repeat))
    low.bind(node.output, y)


def _cast(low: Legalizer, node: Node) -> None:
    """Integers to truth values."""
    value = first(node)
    x = in_any_order(low, value, node)
    if x.c_type != "int32_t" or node.output.dtype is not DType.bool:
        raise NoKernel(f"a conversion of {value.dtype.name} to {node.output.dtype.name} has no kernel")
    y = low.new(node.output, x.order)
    overlaps = {0: elementwise_overlap(x, y)}
    low.steps.append(Step("qc_not_zero", (At(x), At(y), x.count), (x,), y, (node,), overlaps=overlaps))
    low.bind(node.output, y)


def _logical_and(low: Legalizer, node: Node) -> None:
    found = pairs(low, node)
    y = low.new(node.output, found.a.order)
    arguments = (*found.pointers(y), found.count, found.period)
    low.steps.append(
        Step(
            "qc_logical_and", arguments, (found.a, found.b), y, (node,), overlaps=found.overlaps(y), repeat=found.repeat
        )
    )
    low.bind(node.output, y)


def _where(low: Legalizer, node: Node) -> None:
    """A choice between codes: by a constant mask, or by truth values of the result's shape or its last axes."""
    if node.output.dtype not in CODES:
        raise NoKernel(f"a choice between values of {node.output.dtype.name} has no kernel; codes of 8 and 16 bits have one")
    shape = known_shape(node.output)
    computed = [v for v in node.operands if low.constant_of(v) is None]
    whole = [v for v in computed if tuple(v.shape) == shape]
    apart = [v for v in computed if v not in whole]
    order = in_any_order(low, whole[0], node).order if whole and not apart else plain(len(shape))
    y = low.new(node.output, order)
    reads: list[Tensor] = []
    arguments: list[Argument] = []
    periods: list[int] = []
    for value in node.operands:
        if (known := low.constant_of(value)) is not None and known.data is not None:
            elements = _period(np.broadcast_to(known.data, shape).transpose(order))
            kind = "uint8_t" if value.dtype is DType.bool else y.c_type
            arguments.append(low.data(value.name or "mask", elements.astype(kind.removesuffix("_t")), kind))
            periods.append(elements.size)
            continue
        if value in apart and not _is_end(known_shape(value), shape):
            raise NoKernel(f"a choice of {list(shape)} with an operand of {list(value.shape)}, which is broadcast, has no kernel")
        tensor = low.ordered(value, order if value in whole else plain(len(value.shape)), node)
        reads.append(tensor)
        arguments.append(At(tensor))
        periods.append(tensor.count)
    fields = dict(zip(("count", "condition_period", "a_period", "b_period"), (y.count, *periods), strict=True)) | {"bits": y.bits}
    params = Struct(low.fresh("where"), "qc_where_params", fields)
    overlaps = {i: elementwise_overlap(t, y) for i, t in enumerate(reads) if t.count == y.count and t.item == y.item}
    low.steps.append(Step("qc_where", (*arguments, At(y), params), tuple(reads), y, (node,), overlaps=overlaps))
    low.bind(node.output, y)


def _period(elements: np.ndarray) -> np.ndarray:
    """What an array repeats along its first axes, flat."""
    flat = elements.reshape(-1)
    sizes = sorted({1, *(int(np.prod(elements.shape[axis:])) for axis in range(elements.ndim))})
    return next(flat[:n] for n in sizes if np.array_equal(np.tile(flat[:n], flat.size // n), flat))


def _is_end(part: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """True if a shape is the last axes of another, behind axes of 1."""
    size = math.prod(part)
    kept = tuple(d for d in part if d != 1)
    return any(tuple(d for d in shape[axis:] if d != 1) == kept and math.prod(shape[axis:]) == size for axis in range(len(shape) + 1))


RULES: dict[str, Rule] = {"gather": _gather, "cast": _cast, "logical_and": _logical_and, "where": _where}
