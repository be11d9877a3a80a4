"""Converters of gather, scatter and selection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ....ir import DType, Value
from ....ir.dims import is_symbolic, product
from ...aten.index import stack_indices
from ..context import OnnxContext, Refusal

Converter = Callable[..., Any]


def gather(c: OnnxContext, data: Value, indices: Value) -> Value:
    """Slices of data along an axis; a constant scalar index is a slice."""
    axis = c.axis(data, c.number("axis", 0))
    if not indices.shape and indices.data is not None and not is_symbolic(data.shape[axis]) and data.data is None:
        place = int(indices.data) % int(data.shape[axis] or 1)
        return c.select(data, axis, place)
    return c.op("gather", data, indices, axis=axis)


def gather_elements(c: OnnxContext, data: Value, indices: Value) -> Value:
    """out[i][j] = data[index[i][j]][j]."""
    return c.op("gather_elements", data, _wrapped(c, data, indices, c.number("axis", 0)), axis=c.axis(data, c.number("axis", 0)))


def _wrapped(c: OnnxContext, data: Value, indices: Value, axis: int) -> Value:
    """Negative indices counted from the end."""
    if indices.data is not None and (indices.data >= 0).all():
        return indices
    size = c.tensor(data.shape[c.axis(data, axis)], indices.dtype)
    negative = c.op("less", indices, c.scalar(0, indices.dtype))
    return c.op("where", negative, c.op("add", indices, size), indices)


def gather_nd(c: OnnxContext, data: Value, indices: Value) -> Value:
    """Indexing by several axes; batch axes become one more index."""
    batch = c.number("batch_dims", 0)
    indices = c.cast(indices, DType.int64)
    if not batch:
        return c.op("gather_nd", data, indices)
    columns = [c.slice(indices, -1, i, i + 1) for i in range(indices.shape[-1])]
    columns = [c.reshape(v, v.shape[:-1]) for v in columns]
    counters = [_counter(c, indices.shape[:-1], axis) for axis in range(batch)]
    return c.op("gather_nd", data, stack_indices(c, [*counters, *columns]))


def _counter(c: OnnxContext, shape: tuple[Any, ...], axis: int) -> Value:
    """0, 1, ... along one axis of a shape."""
    steps = c.op("arange", stop=shape[axis])
    return c.expand(c.reshape(steps, [d if i == axis else 1 for i, d in enumerate(shape)]), shape)


def scatter_nd(c: OnnxContext, data: Value, indices: Value, updates: Value) -> Value:
    """A copy of data with slices replaced or added to."""
    reduction = _reduction(c)
    return c.op("scatter_nd", data, c.cast(indices, DType.int64), updates, accumulate=reduction == "add")


def _reduction(c: OnnxContext) -> str:
    reduction = c.text("reduction", "none")
    if reduction not in ("none", "add"):
        raise Refusal(f"reduction {reduction!r} is not in the graph")
    return reduction


def scatter_elements(c: OnnxContext, data: Value, indices: Value, updates: Value) -> Value:
    """A copy of data with single elements replaced or added to."""
    axis = c.axis(data, c.number("axis", 0))
    reduction = _reduction(c)
    places = c.cast(_wrapped(c, data, indices, axis), DType.int64)
    grid = [places if i == axis else _counter(c, indices.shape, i) for i in range(len(indices.shape))]
    return c.op("scatter_nd", data, stack_indices(c, grid), updates, accumulate=reduction == "add")


def topk(c: OnnxContext, x: Value, k: Value | None = None) -> list[Value]:
    """The k largest or smallest along an axis."""
    (count,) = c.ints_of(k, "k") if k is not None else (c.number("k"),)
    values, indices = c.ops(
        "topk", x, k=int(count), axis=c.axis(x, c.number("axis", -1)), largest=bool(c.number("largest", 1))
    )
    return [values, indices]


def compress(c: OnnxContext, x: Value, condition: Value) -> Value:
    """Slices where a known condition holds."""
    chosen = np.flatnonzero(c.array_of(condition, "the condition of Compress"))
    axis = c.number("axis", None)
    if axis is None:
        x, axis = c.reshape(x, (product(x.shape),)), 0
    return c.op("gather", x, c.const(chosen.astype(np.int64)), axis=c.axis(x, axis))


CONVERTERS: dict[str, Converter] = {
    "Gather": gather, "GatherElements": gather_elements, "GatherND": gather_nd, "ScatterND": scatter_nd,
    "ScatterElements": scatter_elements, "Scatter": scatter_elements, "TopK": topk, "Compress": compress,
}  # fmt: skip
