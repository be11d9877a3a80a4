"""Products of activations with each other, averages, functions by shifts, each with the rescale of its accumulators."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from qcompiler.ir import DType, Node
from qcompiler.kernels.mcu import pack, scratch
from qcompiler.targets.mcu.layouts import Order, plain, strides
from qcompiler.targets.mcu.legalize import Legalizer, NoKernel
from qcompiler.targets.mcu.program import Argument, At, Scratch, Step, Struct, Tensor, Widths
from qcompiler.targets.mcu.rule_tools import (
    CODES,
    Pairs,
    any_factor,
    elementwise_overlap,
    first,
    in_any_order,
    limits,
    one_factor,
    pairs,
    reduced,
    same_rounding,
    zero_point,
)

FORMS = {"sigmoid": 0, "tanh": 1, "gated": 2}
"""QC_SIGMOID, QC_TANH, QC_GATED."""


def emit_pairs(low: Legalizer, name: str, found: Pairs, y: Tensor, params: Struct, nodes: tuple[Node, ...]) -> None:
    """Append an elementwise call, the one for 8 bits if all codes have them, and bind the last node's result."""
    narrow = found.a.bits == found.b.bits == y.bits == 8
    widths: tuple[Argument, ...] = () if narrow else (Widths(found.a.bits, found.b.bits, y.bits),)
    arguments = (*found.pointers(y), found.count, found.period, params, *widths)
    low.steps.append(
        Step(
            f"{name}_s8" if narrow else f"{name}_s16", arguments, (found.a, found.b), y, nodes, overlaps=found.overlaps(y),
            repeat=found.repeat,
        )
    )  # fmt: skip
    low.bind(nodes[-1].output, y)


def _check(product: Node, rescale: Node, kinds: tuple[DType, ...] = CODES) -> None:
    if any(v.dtype not in kinds for v in product.operands) or rescale.output.dtype not in CODES:
        types = ", ".join(v.dtype.name for v in product.operands)
        raise NoKernel(f"{product.op} of ({types}) to {rescale.output.dtype.name} has no kernel")


def _matmul(low: Legalizer, product: Node, rescale: Node) -> None:
    """Heads that lie side by side, and transposes, are strides; nothing is moved if the inner axis of `a` is innermost."""
    a, b = product.operands
    rank = len(a.shape)
    _check(product, rescale, (DType.int8,))
    same_rounding(low, rescale)
    if len(b.shape) != rank or tuple(a.shape[:-2]) != tuple(b.shape[:-2]):
        raise NoKernel(f"a product of {list(a.shape)} and {list(b.shape)}, which is broadcast, has no kernel")
    y = low.new(rescale.output, _order_asked(low, rescale))
    x, other = in_any_order(low, a, product), in_any_order(low, b, product)
    if x.shape[-1] != 1 and strides(x.shape, x.order)[-1] != 1 or _batch_step(x) is None:
        x = low.ordered(a, plain(rank), product)
    if _batch_step(other) is None:
        other = low.ordered(b, plain(rank), product)
    if _batch_step(y) is None:
        y = low.new(rescale.output, plain(rank))
    rows, inner, columns = x.shape[-2], x.shape[-1], other.shape[-1]
    steps = [strides(t.shape, t.order) for t in (x, other, y)]
    m, s = pack.pack_factor(*one_factor(rescale), low.profile)
    params = Struct(
        low.fresh(product.origin.module or "matmul"), "qc_matmul_s8_params",
        {
            "rows": rows, "inner": inner, "columns": columns, "multiplier": m, "shift": s, "a_zero_point": zero_point(a),
            "b_zero_point": zero_point(b), **limits(rescale), "y_bits": y.bits, "a_stride": steps[0][-2],
            "b_step": steps[1][-2], "b_apart": steps[1][-1], "y_stride": steps[2][-2],
        },
    )  # fmt: skip
    times = math.prod(x.shape[:-2])
    pointers = [At(t, (_batch_step(t) or 0) * t.item) for t in (x, other, y)]
    size = scratch.matmul_s8(rows, inner, columns, low.isa)
    arguments = (*pointers, params, Scratch())
    low.steps.append(
        Step("qc_matmul_s8", arguments, (x, other), y, (product, rescale), size, {}, times, times * rows * inner * columns)
    )
    low.bind(rescale.output, y)


def _order_asked(low: Legalizer, rescale: Node) -> Order:
    """That in which a transpose which alone reads the result lies plain, if its columns stay innermost; else plain."""
    rank = len(rescale.output.shape)
    reader = low.graph.sole_user(rescale.output)
    perm = tuple(reader.attrs["perm"]) if reader is not None and reader.op == "transpose" else plain(rank)
    return perm if perm[-1] == rank - 1 else plain(rank)


def _batch_step(t: Tensor) -> int | None:
    """Elements from one matrix to the next along all axes but the last two; None if that is no one number."""
    steps = strides(t.shape, t.order)
    axes = [i for i in range(len(t.shape) - 2) if t.shape[i] != 1]
    if any(steps[i] != t.shape[j] * steps[j] for i, j in zip(axes, axes[1:], strict=False)):
        return None
    return steps[axes[-1]] if axes else 0


def _mul(low: Legalizer, product: Node, rescale: Node) -> None:
    _check(product, rescale)
    found = pairs(low, product)
    a, b = reversed(product.operands) if found.swapped else product.operands
    y = low.new(rescale.output, found.a.order)
    fields = {**any_factor(low, rescale), "a_zero_point": zero_point(a), "b_zero_point": zero_point(b), **limits(rescale)}
    params = Struct(low.fresh(product.origin.module or "mul"), "qc_mul_params", fields)
    emit_pairs(low, "qc_mul", found, y, params, (product, rescale))


def _mean(low: Legalizer, product: Node, rescale: Node) -> None:
    """An average over neighbouring axes: one window as large as they are, over the axes inside as channels."""
    value = first(product)
    _check(product, rescale)
    found = reduced(low, product)
    x, count, inner = found.x, found.count, found.inner
    y = low.new(rescale.output, found.order)
    factor, name = any_factor(low, rescale), low.fresh(product.origin.module or "mean")
    nodes = (product, rescale)
    if x.bits == y.bits == 8:
        fields: dict[str, Any] = {"window": vars(found.window()), **factor, "input_zero_point": zero_point(value), **limits(rescale)}
        arguments = (At(x, count * inner), At(y, inner), Struct(name, "qc_avg_pool_s8_params", fields))
        low.steps.append(Step("qc_avg_pool_s8", arguments, (x,), y, nodes, repeat=found.outer))
    else:
        fields = {**factor, "a_zero_point": zero_point(value), "b_zero_point": 0, **limits(rescale)}
        widths = Widths(x.bits, 8, y.bits)
        calls = (At(x), At(y), found.outer, count, inner, Struct(name, "qc_mul_params", fields), widths)
        low.steps.append(Step("qc_mean_s16", calls, (x,), y, nodes))
    low.bind(rescale.output, y)


def _shift_sigmoid(low: Legalizer, product: Node, rescale: Node) -> None:
    value, attrs = first(product), product.attrs
    _check(product, rescale)
    x = in_any_order(low, value, product)
    y = low.new(rescale.output, x.order)
    fields = {
        "unit": attrs["unit"], **any_factor(low, rescale), "bits": attrs["bits"], "gate_bits": attrs["gate_bits"],
        "form": FORMS[attrs["form"]], "input_zero_point": zero_point(value), **limits(rescale), "x_bits": x.bits,
        "y_bits": y.bits,
    }  # fmt: skip
    params = Struct(low.fresh(product.origin.module or "sigmoid"), "qc_shift_sigmoid_params", fields)
    overlaps = {0: elementwise_overlap(x, y)}
    low.steps.append(
        Step("qc_shift_sigmoid", (At(x), At(y), x.count, params), (x,), y, (product, rescale), overlaps=overlaps)
    )
    low.bind(rescale.output, y)


ACTIVATIONS: dict[str, Callable[[Legalizer, Node, Node], None]] = {
    "matmul": _matmul,
    "integer_mul": _mul,
    "reduce_mean": _mean,
    "reduce_sum": _mean,
    "shift_sigmoid": _shift_sigmoid,
}
