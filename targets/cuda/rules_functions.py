"""Sums of codes, tables, softmaxes and normalizations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qcompiler.ir import Node, Value
from qcompiler.kernels.gpu import pointwise, rows
from qcompiler.kernels.gpu.launch import View
from qcompiler.targets.cuda.lower import (
    Lowering,
    NoKernel,
    Rule,
    first,
    known_shape,
    limits,
    multipliers,
    only_limits,
    sum_base,
    zero_point,
)


def _table(node: Node, index: int) -> np.ndarray:
    value = node.inputs[index]
    assert value is not None
    if value.data is None:
        raise NoKernel("its table is computed")
    return value.data


def _sum(low: Lowering, node: Node) -> None:
    if len(node.operands) > pointwise.OPERANDS:
        raise NoKernel(f"a sum of {len(node.operands)} operands; kernels take up to {pointwise.OPERANDS}")
    views = [low.view(v) for v in node.operands]
    whole = next((v for v in views if v.shape == known_shape(node.output)), None)
    y = low.new(node.output) if whole is None else low.like(node.output, whole)
    operands = [(view, zero_point(v)) for view, v in zip(views, node.operands)]
    rescale = replace(only_limits(node), profile=node.attrs["rounding"])
    launch = pointwise.requantize_sum(operands, multipliers(node), node.attrs["shift"], y, rescale, sum_base(node))
    low.add(launch, [node], node.output, y)


def _lookup(low: Lowering, node: Node) -> None:
    x = low.view(first(node))
    y = low.like(node.output, x)
    low.add(pointwise.lookup(x, _table(node, 1), y, low.fresh("lookup")), [node], node.output, y)


def _interpolated(low: Lowering, node: Node) -> None:
    x = low.view(first(node))
    y = low.like(node.output, x)
    launch = pointwise.lookup_interpolated(x, _table(node, 1), node.attrs["shift"], y, only_limits(node), low.fresh("lookup"))
    low.add(launch, [node], node.output, y)


def _mask(low: Lowering, value: Value | None) -> View | None:
    return None if value is None else low.view(value)


MOST_LENGTH = 1 << 15
"""Elements of a row whose exponentials from a table add up in 32 bits."""


def _check_length(node: Node) -> None:
    length = known_shape(first(node))[-1]
    if length > MOST_LENGTH:
        raise NoKernel(f"a softmax over {length} elements; with exponentials from a table rows have up to {MOST_LENGTH}")


def _softmax_lookup(low: Lowering, node: Node) -> None:
    _check_length(node)
    y = low.new(node.output)
    launch = rows.softmax_lookup(low.view(first(node)), _table(node, 1), _mask(low, node.inputs[2]), y, limits(node))
    low.add(launch, [node], node.output, y)


def _log2_softmax(low: Lowering, node: Node) -> None:
    _check_length(node)
    y = low.new(node.output)
    launch = rows.log2_softmax(low.view(first(node)), _table(node, 1), _mask(low, node.inputs[2]), y)
    low.add(launch, [node], node.output, y)


def _shiftmax(low: Lowering, node: Node) -> None:
    y, attrs = low.new(node.output), node.attrs
    launch = rows.shiftmax(
        low.view(first(node)), _mask(low, node.inputs[1]), y, limits(node), attrs["unit"], attrs["bits"], attrs["division"]
    )
    low.add(launch, [node], node.output, y)


def _norm(low: Lowering, node: Node) -> None:
    value, attrs = first(node), node.attrs
    x, y = low.view(value), low.new(node.output)
    mean = node.op == "integer_layer_norm"
    bias = _table(node, 2) if mean and node.inputs[2] is not None else None
    launch = rows.normalize(
        (x, zero_point(value)), _table(node, 1), bias, y, limits(node), mean=mean, eps=attrs["eps"], fraction=attrs["fraction"],
        shift=attrs["shift"],
    )  # fmt: skip
    low.add(launch, [node], node.output, y)


RULES: dict[str, Rule] = {
    "requantize_sum": _sum,
    "lookup": _lookup,
    "lookup_interpolated": _interpolated,
    "softmax_lookup": _softmax_lookup,
    "log2_softmax": _log2_softmax,
    "shiftmax": _shiftmax,
    "integer_layer_norm": _norm,
    "integer_rms_norm": _norm,
}
