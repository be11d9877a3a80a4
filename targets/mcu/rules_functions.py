"""Functions of codes: tables, softmax, norms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from qcompiler.ir import DType, Node, Value
from qcompiler.targets.mcu.layouts import plain
from qcompiler.targets.mcu.legalize import Legalizer, NoKernel, Rule
from qcompiler.targets.mcu.program import Argument, At, Step, Struct, Tensor
from qcompiler.targets.mcu.rule_tools import CODES, elementwise_overlap, first, in_any_order, zero_point


def _table(node: Node, index: int = 1) -> np.ndarray:
    value = node.inputs[index]
    if value is None or value.data is None:
        raise NoKernel("its table is computed")
    return value.data


def _codes(node: Node, kinds: tuple[DType, ...] = CODES) -> Value:
    """Operand 0, checked as the result is."""
    value = first(node)
    if value.dtype not in kinds or node.output.dtype not in CODES:
        raise NoKernel(f"{node.op} of {value.dtype.name} to {node.output.dtype.name} has no kernel")
    return value


def _bounds(node: Node) -> dict[str, int]:
    """Zero point and the ends of the type."""
    quant = node.attrs["quant"]
    return {"zero_point": int(quant.zero_point), "qmin": quant.dtype.min, "qmax": quant.dtype.max}


def _lookup(low: Legalizer, node: Node) -> None:
    """Kernels read signed bytes: the upper half of a table of unsigned ones is that of the negative ones."""
    value = _codes(node, (DType.int8, DType.uint8))
    x, table = in_any_order(low, value, node), _table(node)
    if value.dtype is DType.uint8:
        x = low.view(Value(DType.int8, value.shape, name=value.name), x, x.order)
        table = np.roll(table, len(table) // 2)
    y = low.new(node.output, x.order)
    data = low.data("table", table, y.c_type)
    name = "qc_lookup_s8" if y.bits == 8 else "qc_lookup_s8_s16"
    overlaps = {0: elementwise_overlap(x, y)}
    low.steps.append(Step(name, (At(x), At(y), x.count, data), (x,), y, (node,), overlaps=overlaps))
    low.bind(node.output, y)


def _lookup_interpolated(low: Legalizer, node: Node) -> None:
    x = in_any_order(low, _codes(node, (DType.int16,)), node)
    y = low.new(node.output, x.order)
    table = low.data("knots", _table(node), "int16_t")
    fields = {"table": table, "shift": node.attrs["shift"], **_bounds(node), "y_bits": y.bits}
    params = Struct(low.fresh("interpolated"), "qc_lookup_interpolated_params", fields)
    overlaps = {0: elementwise_overlap(x, y)}
    low.steps.append(
        Step("qc_lookup_interpolated_s16", (At(x), At(y), x.count, params), (x,), y, (node,), overlaps=overlaps)
    )
    low.bind(node.output, y)


def _rows(low: Legalizer, value: Value, node: Node) -> Tensor:
    """An operand whose last axis lies innermost."""
    x = in_any_order(low, value, node)
    last = len(x.shape) - 1
    return x if x.lies_as((*[a for a in x.order if a != last], last)) else low.ordered(value, plain(last + 1), node)


def _masked(low: Legalizer, node: Node, mask: Value | None) -> tuple[Tensor, Argument, tuple[Tensor, ...], int, int]:
    """(x, mask argument, tensors read, calls, mask rows).

    x lies plain where there is a mask, which may be broadcast: over leading axes its rows repeat, over axes in the
    middle there is a call for each of the axes before.
    """
    value = _codes(node)
    if mask is None:
        x = _rows(low, value, node)
        return x, 0, (x,), 1, 1
    x = low.ordered(value, plain(len(value.shape)), node)
    m = low.ordered(mask, plain(len(mask.shape)), node)
    shape = [1] * (len(x.shape) - len(m.shape)) + list(m.shape)
    if shape[-1] != x.shape[-1]:
        raise NoKernel(f"a mask {list(mask.shape)} that is broadcast along the rows of {list(x.shape)} has no kernel")
    lead = next((i for i in range(len(shape) - 1) if shape[i] != x.shape[i]), len(shape) - 1)
    if all(s == 1 for s in shape[:lead]):
        lead = 0
    rest = shape[lead:-1]
    ones = next((i for i, s in enumerate(rest) if s != 1), len(rest))
    if rest[ones:] != list(x.shape[lead + ones : -1]):
        raise NoKernel(f"a mask {list(mask.shape)} of scores {list(x.shape)} has no kernel")
    mask_rows = math.prod(rest[ones:])
    return x, At(m, mask_rows * shape[-1]), (x, m), math.prod(shape[:lead]), mask_rows


def _emit_softmax(low: Legalizer, node: Node, name: str, mask: Value | None, fields: dict[str, Any]) -> None:
    x, pointer, reads, calls, mask_rows = _masked(low, node, mask)
    y = low.new(node.output, x.order)
    length = x.shape[-1]
    rows = x.count // max(1, length * calls)
    widths = {"x_bits": x.bits} if "lookup_s" not in name else {}
    params = Struct(
        low.fresh(node.origin.module or "softmax"), name.removesuffix("_s8").removesuffix("_s16") + "_params",
        {"rows": rows, "length": length, "mask_rows": mask_rows, **fields, **widths},
    )  # fmt: skip
    arguments = (At(x, rows * length * x.item), At(y, rows * length * y.item), pointer, params)
    overlaps = {0: elementwise_overlap(x, y)}
    low.steps.append(Step(name, arguments, reads, y, (node,), overlaps=overlaps, repeat=calls))
    low.bind(node.output, y)


def _softmax_lookup(low: Legalizer, node: Node) -> None:
    table = _table(node)
    fields = {"table": low.data("exponentials", table, "int16_t"), "table_length": table.size, "zero_point": _bounds(node)["zero_point"]}
    _emit_softmax(low, node, f"qc_softmax_lookup_s{first(node).dtype.bits}", node.inputs[2], fields)


def _log2_softmax(low: Legalizer, node: Node) -> None:
    table = _table(node)
    fields = {"table": low.data("exponentials", table, "int16_t"), "table_length": table.size}
    _emit_softmax(low, node, "qc_log2_softmax", node.inputs[2], fields)


def _shiftmax(low: Legalizer, node: Node) -> None:
    attrs = node.attrs
    fields = {
        "unit": attrs["unit"], "bits": attrs["bits"], "reciprocal": int(attrs["division"] == "reciprocal"), **_bounds(node),
    }  # fmt: skip
    _emit_softmax(low, node, "qc_shiftmax", node.inputs[1], fields)


def _norm(low: Legalizer, node: Node) -> None:
    value = _codes(node)
    x = _rows(low, value, node)
    y = low.new(node.output, x.order)
    attrs = node.attrs
    layer_norm = node.op == "integer_layer_norm"
    bias = low.data("bias", _table(node, 2), "int64_t") if layer_norm and node.inputs[2] is not None else None
    name = low.fresh(node.origin.module or "norm")
    fields = {
        "rows": x.count // x.shape[-1], "length": x.shape[-1], "weight": low.data("weight", _table(node), "int32_t"),
        "bias": bias, "eps": attrs["eps"], "fraction": attrs["fraction"], "shift": attrs["shift"],
        "input_zero_point": zero_point(value), **_bounds(node), "centre": int(layer_norm), "x_bits": x.bits,
        "y_bits": y.bits,
    }  # fmt: skip
    params = Struct(name, "qc_normalize_params", fields)
    overlaps = {0: elementwise_overlap(x, y)} if y.item <= x.item else {}
    low.steps.append(Step("qc_normalize_s16", (At(x), At(y), params), (x,), y, (node,), overlaps=overlaps))
    low.bind(node.output, y)


RULES: dict[str, Rule] = {
    "lookup": _lookup,
    "lookup_interpolated": _lookup_interpolated,
    "softmax_lookup": _softmax_lookup,
    "log2_softmax": _log2_softmax,
    "shiftmax": _shiftmax,
    "integer_layer_norm": _norm,
    "integer_rms_norm": _norm,
}
