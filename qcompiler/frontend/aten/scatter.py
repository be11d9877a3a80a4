"""Converters of assignment to indexed places; the result is a new tensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...ir import DType, Value
from ...ir.dims import product
from ..context import Context, Refusal
from .elementwise import truth
from .index import stack_indices
from .shape_ops import strided_places

Converter = Callable[..., Any]


def index_put(
    c: Context, x: Value, indices: Sequence[Value | None], values: Value, accumulate: bool = False, *_: Any
) -> Value:
    """Gives x with x[indices] replaced by values, or increased by them."""
    values = c.cast(values, x.dtype)
    if len(indices) == 1 and indices[0] is not None and indices[0].dtype is DType.bool:
        return _masked_put(c, x, indices[0], values, accumulate)
    if any(i is not None and i.dtype is DType.bool for i in indices):
        raise Refusal("assignment to x[mask, ...] is in the graph for a mask alone")
    axes = [a for a, i in enumerate(indices) if i is not None]
    stacked = stack_indices(c, [i for i in indices if i is not None])
    rest = [a for a in range(len(x.shape)) if a not in axes]
    grid = stacked.shape[:-1]
    adjacent = axes == list(range(axes[0], axes[-1] + 1))
    # NumPy's rule: the grid of indices stands where the indexed axes were, or in front if those are apart.
    before = rest[: axes[0]] if adjacent else []
    after = rest[len(before) :]
    wide = (*(x.shape[a] for a in before), *grid, *(x.shape[a] for a in after))
    n, m = len(before), len(grid)
    updates = c.transpose(c.expand(values, wide), [*range(n, n + m), *range(n), *range(n + m, len(wide))])
    order = [*axes, *rest]
    y = c.op("scatter_nd", c.transpose(x, order), stacked, updates, accumulate=accumulate)
    return c.transpose(y, np.argsort(order).tolist())


def _masked_put(c: Context, x: Value, mask: Value, values: Value, accumulate: bool) -> Value:
    if len(values.shape) > len(x.shape) - len(mask.shape):
        raise Refusal("x[mask] = values is in the graph where one value serves all places")
    mask = c.reshape(mask, (*mask.shape, *[1] * (len(x.shape) - len(mask.shape))))
    return c.op("where", mask, c.op("add", x, values) if accumulate else values, x)


def scatter(c: Context, x: Value, dim: int, index: Value, source: Any, *, reduce: Any = None) -> Value:
    """Gives x with x[index[i][j]][j] replaced by (or increased by) source[i][j]."""
    if reduce not in (None, "add"):
        raise Refusal(f"scatter with reduce={reduce!r} is not in the graph")
    return _scatter(c, x, dim, index, source, reduce == "add")


def scatter_add(c: Context, x: Value, dim: int, index: Value, source: Value) -> Value:
    """Gives x with x[index[i][j]][j] increased by source[i][j]."""
    return _scatter(c, x, dim, index, source, True)


def _scatter(c: Context, x: Value, dim: int, index: Value, source: Any, accumulate: bool) -> Value:
    axis = dim % len(x.shape)
    updates = c.tensor(source, x.dtype)
    if not updates.shape:
        updates = c.expand(updates, index.shape)
    grid = []
    for i, size in enumerate(index.shape):
        view = [1] * len(index.shape)
        view[i] = size
        grid.append(index if i == axis else c.reshape(c.op("arange", stop=size), view))
    if updates.shape != index.shape:
        for i, size in enumerate(index.shape):
            updates = c.slice(updates, i, 0, size)
    return c.op("scatter_nd", x, stack_indices(c, grid), updates, accumulate=accumulate)


def masked_scatter(c: Context, x: Value, mask: Value, source: Value) -> Value:
    """Gives x with source's elements, in order, where mask is true: the k-th true place takes source[k]."""
    mask = c.expand(truth(c, mask), x.shape)
    flat = c.reshape(mask, (c.dims.dim(c.fake.numel()),))
    position = c.op("sub", c.op("cumsum", c.cast(flat, DType.int64), axis=0), c.const(1, DType.int64))
    position = c.op("maximum", position, c.const(0, DType.int64))
    total: Any = 1
    for d in source.shape:
        total = total * d
    position = c.op("minimum", position, c.tensor(total - 1, DType.int64))
    taken = c.op("gather", c.reshape(c.cast(source, x.dtype), (total,)), position, axis=0)
    return c.op("where", mask, c.reshape(taken, x.shape), x)


def as_strided_scatter(
    c: Context, x: Value, src: Value, size: Any, stride: Any, storage_offset: Any = 0
) -> Value:
    """Gives x with a strided view of it replaced: how torch writes an assignment to a diagonal."""
    places = strided_places(c, x, size, stride, storage_offset)
    flat = c.reshape(x, (product(x.shape),))
    updates = c.reshape(c.cast(src, x.dtype), (places.size,))
    y = c.op("scatter_nd", flat, c.const(places.reshape(-1, 1)), updates, accumulate=False)
    return c.reshape(y, x.shape)


def index_fill(c: Context, x: Value, dim: int, index: Value, value: Any) -> Value:
    """X with the slices x[index] along an axis filled with a number: true where an index equals the position."""
    axis = dim % len(x.shape)
    positions = c.op("arange", stop=x.shape[axis])
    hit = c.op("equal", c.unsqueeze(positions, -1), c.cast(c.reshape(index, (*index.shape,)), DType.int64))
    hit = c.op("reduce_any", hit, axes=[-1])
    hit = c.reshape(hit, [x.shape[axis] if i == axis else 1 for i in range(len(x.shape))])
    return c.op("where", hit, c.tensor(value, x.dtype), x)


CONVERTERS: dict[str, Converter] = {
    "aten.index_put.default": index_put,
    "aten._unsafe_index_put.default": index_put,
    "aten.as_strided_scatter.default": as_strided_scatter,
    "prims.as_strided_scatter.default": as_strided_scatter,
    **{f"aten.index_fill.{o}": index_fill for o in ("int_Scalar", "int_Tensor")},
    **{f"aten.scatter.{o}": scatter for o in ("src", "value", "reduce", "value_reduce")},
    "aten.scatter_add.default": scatter_add,
    "aten.masked_scatter.default": masked_scatter,
}
