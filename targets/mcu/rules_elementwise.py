"""Ops on codes one by one: rescaling, residual sums, tables."""

from __future__ import annotations

from typing import Any

from qcompiler.ir import DType, Node
from qcompiler.kernels.mcu import pack
from qcompiler.targets.mcu.legalize import IN_PLACE, PRODUCTS, Legalizer, NoKernel, Rule
from qcompiler.targets.mcu.program import At, Step, Struct
from qcompiler.targets.mcu.rule_tools import first, in_any_order, limits, one_factor, repeated, zero_point
from qcompiler.targets.mcu.rules_products import emit_product, product_takes_add


def _requantize(low: Legalizer, node: Node) -> None:
    value = first(node)
    source = low.graph.producer(value)
    if source is not None and source.op in PRODUCTS and value.dtype is DType.int32:
        if adder := product_takes_add(low.graph, source, node):
            low.deferred[adder] = (source, node)
            low.pending.add(node.output)
        else:
            emit_product(low, source, node)
        return
    if value.dtype is not DType.int8 or node.output.dtype is not DType.int8:
        raise NoKernel(f"rescaling of {value.dtype.name} to {node.output.dtype.name} has no kernel")
    multiplier, shift = one_factor(node)
    x = in_any_order(low, value, node)
    y = low.new(node.output, x.order)
    m, s = pack.pack_factor(multiplier, shift, low.profile)
    fields = {"multiplier": m, "shift": s, "a_zero_point": zero_point(value), "b_zero_point": 0, **limits(node)}
    params = Struct(low.fresh("requantize"), "qc_mul_params", fields)
    low.steps.append(
        Step("qc_requantize_s8", (At(x), At(y), x.count, params), (x,), y, (node,), overlaps={0: IN_PLACE})
    )
    low.bind(node.output, y)


def _requantize_sum(low: Legalizer, node: Node) -> None:
    if len(node.operands) != 2 or any(v.dtype is not DType.int8 for v in (*node.operands, node.output)):
        types = ", ".join(v.dtype.name for v in node.operands)
        raise NoKernel(f"a sum of ({types}) to {node.output.dtype.name} has no kernel; two operands of int8 have one")
    a, b = node.operands
    multipliers = list(node.attrs["multipliers"])
    if node in low.deferred:
        product, rescale = low.deferred[node]
        swap = rescale.output is b
        residual = a if swap else b
        terms = [(multipliers[swap], zero_point(rescale.output)), (multipliers[not swap], zero_point(residual))]
        emit_product(low, product, rescale, (node, residual, sum_params(low, node, terms)))
        return
    swap = a.is_const or tuple(a.shape) != tuple(node.output.shape)
    if swap:
        a, b = b, a
        multipliers.reverse()
    if tuple(a.shape) != tuple(node.output.shape):
        raise NoKernel("both operands are broadcast")
    x = in_any_order(low, a, node)
    other, period = repeated(low, node, b, x)
    y = low.new(node.output, x.order)
    params = sum_params(low, node, [(multipliers[0], zero_point(a)), (multipliers[1], zero_point(b))])
    overlaps = {0: IN_PLACE, 1: IN_PLACE} if period == x.count else {0: IN_PLACE}
    arguments = (At(x), At(other), At(y), x.count, period, params)
    low.steps.append(Step("qc_add_s8", arguments, (x, other), y, (node,), overlaps=overlaps))
    low.bind(node.output, y)


def sum_params(low: Legalizer, node: Node, terms: list[tuple[int, int]]) -> Struct:
    """qc_add_params of a requantize_sum; `terms` are (multiplier, zero point)."""
    shift = int(node.attrs["shift"])
    (m0, z0), (m1, z1) = terms
    packed = pack.pack_add((m0, m1), shift, (z0, z1), low.profile)
    fields: dict[str, Any] = {
        "offset": packed.offset,
        "multiplier": packed.multipliers,
        "shift": packed.shift,
        **limits(node),
    }
    return Struct(low.fresh("add"), "qc_add_params", fields)


def _lookup(low: Legalizer, node: Node) -> None:
    value, table = node.inputs[:2]
    assert value is not None and table is not None
    if value.dtype is not DType.int8 or node.output.dtype is not DType.int8 or table.data is None:
        raise NoKernel(f"a table from {value.dtype.name} to {node.output.dtype.name} has no kernel")
    x = in_any_order(low, value, node)
    y = low.new(node.output, x.order)
    data = low.data("table", table.data, "int8_t")
    low.steps.append(Step("qc_lookup_s8", (At(x), At(y), x.count, data), (x,), y, (node,), overlaps={0: IN_PLACE}))
    low.bind(node.output, y)


RULES: dict[str, Rule] = {
    "requantize": _requantize,
    "requantize_sum": _requantize_sum,
    "lookup": _lookup,
}
