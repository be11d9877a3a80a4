"""Rows by their numbers, and truth values."""

from __future__ import annotations

import math

from qcompiler.ir import DType, Node
from qcompiler.targets.mcu.layouts import plain
from qcompiler.targets.mcu.legalize import Legalizer, NoKernel, Rule
from qcompiler.targets.mcu.program import At, Step
from qcompiler.targets.mcu.rule_tools import elementwise_overlap, first, in_any_order, pairs


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


RULES: dict[str, Rule] = {"gather": _gather, "cast": _cast, "logical_and": _logical_and}
