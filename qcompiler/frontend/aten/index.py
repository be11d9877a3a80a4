"""Converters of embedding, gather and advanced indexing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...ir import DType, Value
from ...ir.ops.spec import broadcast_shapes as broadcast
from ..context import Context, Refusal, static

Converter = Callable[..., Any]


def embedding(c: Context, weight: Value, indices: Value, *_: Any) -> Value:
    """Rows of a table."""
    return c.op("gather", weight, indices, axis=0)


def index_select(c: Context, x: Value, dim: int, index: Value) -> Value:
    """Slices of x along an axis."""
    return c.op("gather", x, index, axis=dim % max(len(x.shape), 1))


def gather(c: Context, x: Value, dim: int, index: Value, *, sparse_grad: bool = False) -> Value:
    """out[i][j] = x[index[i][j]][j]; an index that only broadcasts one vector of indices becomes a plain gather."""
    axis = dim % max(len(x.shape), 1)
    return c.op("gather_elements", x, index, axis=axis)


def index(c: Context, x: Value, indices: Sequence[Value | None]) -> Value:
    """x[indices] with tensors as in NumPy; None stands for `:`."""
    if any(i is not None and i.dtype is DType.bool for i in indices):
        raise Refusal("indexing by a boolean tensor has a size that depends on the data; use torch.where")
    axes = [a for a, i in enumerate(indices) if i is not None]
    tensors = [i for i in indices if i is not None]
    if len(axes) == 1:
        return c.op("gather", x, tensors[0], axis=axes[0])
    whole = _whole_axes(c, x, axes, tensors)
    if whole is not None:
        return whole
    rank = len(x.shape)
    moved = c.transpose(x, [*axes, *(a for a in range(rank) if a not in axes)])
    y = c.op("gather_nd", moved, stack_indices(c, tensors))
    if axes == list(range(axes[0], axes[-1] + 1)) and axes[0]:  # adjacent: the result's axes stay where they were
        count = len(y.shape) - (rank - len(axes))
        front = list(range(count, count + axes[0]))
        y = c.transpose(y, [*front, *range(count), *range(count + axes[0], len(y.shape))])
    return y


def stack_indices(c: Context, tensors: Sequence[Value]) -> Value:
    """[..., K] int64: the indices broadcast against each other, side by side."""
    shape = broadcast(*[t.shape for t in tensors])
    wide = [c.unsqueeze(c.expand(c.cast(t, DType.int64), shape), -1) for t in tensors]
    return c.op("concat", *wide, axis=-1)


def _whole_axes(c: Context, x: Value, axes: Sequence[int], tensors: Sequence[Value]) -> Value | None:
    """Indices that are all 0, 1, ..., n - 1, each along an axis of its own: a reshape of x.

    Mask builders write `mask[batch_index, key_index]` so, with indices of shapes [B, 1, 1, 1] and [S].
    """
    if axes != list(range(len(x.shape))):
        return None
    rank = max(len(t.shape) for t in tensors)
    places = []
    for axis, t in zip(axes, tensors, strict=True):
        sizes = [(i + rank - len(t.shape), d) for i, d in enumerate(t.shape) if d != 1]
        if x.shape[axis] == 1 and not sizes and _is_zero(c, t):
            sizes = [(rank, 1)]
        elif len(sizes) != 1 or sizes[0][1] != x.shape[axis] or not _counts_up(c, t):
            return None
        places.append(sizes[0][0])
    real = [p for p in places if p < rank]
    if real != sorted(set(real)):
        return None
    shape: list[Any] = [1] * rank
    for axis, place in zip(axes, places, strict=True):
        if place < rank:
            shape[place] = x.shape[axis]
    return c.reshape(x, shape)


def _counts_up(c: Context, value: Value) -> bool:
    """True if the elements are provably 0, 1, 2, ... in row-major order."""
    while True:
        if value.data is not None:
            return bool(np.array_equal(value.data.ravel(), np.arange(value.data.size)))
        node = c.producers.get(value)
        if node is None:
            return False
        if node.op == "arange":
            return bool(node.attrs["start"] == 0 and node.attrs["step"] == 1)
        operand = node.inputs[0] if node.inputs else None
        if operand is None:
            return False
        if node.op == "add":
            other = node.inputs[1]
            if other is None or other.data is None or other.data.size != 1 or other.data.any():
                return False
        elif node.op == "cast":
            if not (node.attrs["dtype"].is_integer and operand.dtype.is_integer):
                return False
        elif node.op != "reshape":
            return False
        value = operand


def _is_zero(c: Context, value: Value) -> bool:
    if value.data is not None:
        return not value.data.any()
    return _counts_up(c, value)  # one element that counts up from 0


def masked_select(c: Context, *_: Any) -> Value:
    """Refuse sizes that depend on data."""
    raise Refusal("the size of the result depends on the data; use torch.where")


def unfold(c: Context, x: Value, dim: int, size: int, step: int) -> Value:
    """Overlapping windows along an axis, each as a new last axis."""
    axis = dim % len(x.shape)
    count = static(c.shape[axis], "the number of windows of unfold")
    windows = np.arange(count)[:, None] * step + np.arange(size)
    y = c.op("gather", x, c.const(windows.astype(np.int64)), axis=axis)
    order = [i for i in range(len(y.shape)) if i != axis + 1]
    return c.transpose(y, [*order, axis + 1])


def im2col(c: Context, x: Value, kernel: Any, dilation: Any, padding: Any, stride: Any) -> Value:
    """F.unfold: [N, C, H, W] -> [N, C kh kw, windows]."""
    batch, channels = x.shape[:2]
    out = []
    if any(padding):
        pads = [0, 0, padding[0], padding[1]] * 2
        x = c.op("pad", x, pads=pads)
    for i in range(2):
        size = static(x.shape[2 + i], "the height and width that unfold takes")
        out.append((size - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1)
    for i, axis in ((0, 2), (1, 4)):  # [N, C, kh, oh, W] then [N, C, kh, oh, kw, ow]
        taps = np.arange(kernel[i])[:, None] * dilation[i] + np.arange(out[i]) * stride[i]
        x = c.op("gather", x, c.const(taps.astype(np.int64)), axis=axis)
    x = c.transpose(x, (0, 1, 2, 4, 3, 5))
    return c.reshape(x, (batch, channels * kernel[0] * kernel[1], out[0] * out[1]))


CONVERTERS: dict[str, Converter] = {
    "aten.embedding.default": embedding,
    "aten.index_select.default": index_select,
    "aten.gather.default": gather,
    "aten.take_along_dim.default": lambda c, x, index, dim: gather(c, x, dim, index),
    "aten.index.Tensor": index,
    "aten._unsafe_index.Tensor": index,
    **{f"aten.{n}.default": masked_select for n in ("masked_select", "nonzero", "unique2", "_unique2")},
    "aten.nonzero_numpy.default": masked_select,
    "aten.item.default": masked_select,
    "aten._local_scalar_dense.default": masked_select,
    "aten.unfold.default": unfold,
    "aten.im2col.default": im2col,
}
