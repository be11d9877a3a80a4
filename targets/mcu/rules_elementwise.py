"""Ops on codes one by one: rescaling and residual sums."""

from __future__ import annotations

from typing import Any

from qcompiler.ir import DType, Node
from qcompiler.kernels.mcu import pack
from qcompiler.targets.mcu.legalize import PRODUCTS, Legalizer, NoKernel, Rule
from qcompiler.targets.mcu.program import Argument, At, Step, Struct, Widths
from qcompiler.targets.mcu.rule_tools import (
    CODES,
    any_factor,
    elementwise_overlap,
    first,
    in_any_order,
    limits,
    pairs,
    same_rounding,
    zero_point,
)
from qcompiler.targets.mcu.rules_activations import emit_pairs
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
    if value.dtype not in CODES or node.output.dtype not in CODES:
        raise NoKernel(f"rescaling of {value.dtype.name} to {node.output.dtype.name} has no kernel")
    x = in_any_order(low, value, node)
    y = low.new(node.output, x.order)
    fields = {**any_factor(low, node), "a_zero_point": zero_point(value), "b_zero_point": 0, **limits(node)}
    params = Struct(low.fresh("requantize"), "qc_mul_params", fields)
    arguments: tuple[Argument, ...] = (At(x), At(y), x.count, params)
    name = "qc_requantize_s8"
    if x.bits > 8 or y.bits > 8:
        name, arguments = "qc_requantize_s16", (*arguments, Widths(x.bits, 8, y.bits))
    low.steps.append(Step(name, arguments, (x,), y, (node,), overlaps={0: elementwise_overlap(x, y)}))
    low.bind(node.output, y)


def _requantize_sum(low: Legalizer, node: Node) -> None:
    if len(node.operands) != 2 or any(v.dtype not in CODES for v in (*node.operands, node.output)):
        types = ", ".join(v.dtype.name for v in node.operands)
        raise NoKernel(f"a sum of ({types}) to {node.output.dtype.name} has no kernel; two operands of codes have one")
    same_rounding(low, node)
    a, b = node.operands
    multipliers = list(node.attrs["multipliers"])
    if node in low.deferred:
        product, rescale = low.deferred[node]
        swap = rescale.output is b
        residual = a if swap else b
        terms = [(multipliers[swap], zero_point(rescale.output)), (multipliers[not swap], zero_point(residual))]
        emit_product(low, product, rescale, (node, residual, sum_params(low, node, terms)))
        return
    found = pairs(low, node)
    if found.swapped:
        a, b = b, a
        multipliers.reverse()
    y = low.new(node.output, found.a.order)
    params = sum_params(low, node, [(multipliers[0], zero_point(a)), (multipliers[1], zero_point(b))])
    emit_pairs(low, "qc_add", found, y, params, (node,))


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


RULES: dict[str, Rule] = {
    "requantize": _requantize,
    "requantize_sum": _requantize_sum,
}
