"""Converters of views and data movement. The result's shape, as torch infers it, settles most of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...ir import Value
from ...ir.dims import Dim, product
from ..context import Context, Refusal, static

Converter = Callable[..., Any]


def to_result_shape(c: Context, x: Value, *_: Any, **__: Any) -> Value:
    """view, reshape, flatten, squeeze, unsqueeze: the result's shape says it all."""
    if x.dtype is not c.dtype:
        raise Refusal(f"a view of {x.dtype.name} as {c.dtype.name} reinterprets bits")
    return c.reshape(x, c.shape)


def expand(c: Context, x: Value, *_: Any, **__: Any) -> Value:
    """Broadcast to the result's shape."""
    return c.expand(x, c.shape)


def permute(c: Context, x: Value, dims: Sequence[int]) -> Value:
    """Axes in another order."""
    return c.transpose(x, [d % len(x.shape) for d in dims])


def transpose(c: Context, x: Value, dim0: int = 0, dim1: int = 1) -> Value:
    """Two axes exchanged; `t` of a vector is the vector."""
    rank = len(x.shape)
    if rank < 2:
        return x
    perm = list(range(rank))
    a, b = dim0 % rank, dim1 % rank
    perm[a], perm[b] = b, a
    return c.transpose(x, perm)


def swap_matrix(c: Context, x: Value) -> Value:
    """mT: the last two axes exchanged."""
    return c.swap_last(x)


def reverse_axes(c: Context, x: Value) -> Value:
    """numpy_T."""
    return c.transpose(x, range(len(x.shape))[::-1])


def movedim(c: Context, x: Value, source: Any, destination: Any) -> Value:
    """Axes moved, the others in order."""
    rank = len(x.shape)
    sources = [s % rank for s in (source if isinstance(source, (list, tuple)) else [source])]
    targets = [d % rank for d in (destination if isinstance(destination, (list, tuple)) else [destination])]
    rest = iter(a for a in range(rank) if a not in sources)
    return c.transpose(x, [sources[targets.index(a)] if a in targets else next(rest) for a in range(rank)])


def cat(c: Context, tensors: Sequence[Value], dim: int = 0) -> Value:
    """Joined along an axis; torch skips legacy empty vectors of shape (0,)."""
    rank = len(c.shape)
    parts = [c.cast(t, c.dtype) for t in tensors if not (t.shape == (0,) and rank != 1)]
    return parts[0] if len(parts) == 1 else c.op("concat", *parts, axis=dim % rank)


def stack(c: Context, tensors: Sequence[Value], dim: int = 0) -> Value:
    """Joined along a new axis."""
    axis = dim % len(c.shape)
    return cat(c, [c.unsqueeze(t, axis) for t in tensors], axis)


def bound(index: Any, size: Dim, default: Dim) -> Dim:
    """A slice bound in [0, size] as Python slices take it; torch has proven symbolic ones to be inside."""
    if index is None:
        return default
    if isinstance(index, int):
        if index >= 1 << 62:
            return size
        if isinstance(size, int):
            return max(0, min(size, index + size if index < 0 else index))
        return index + size if index < 0 else index
    return index


def slice_(c: Context, x: Value, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Value:
    """x[start:end:step]; the end follows from the result's size."""
    axis = dim % len(x.shape)
    size = x.shape[axis]
    begin = bound(start, size, 0)
    length = c.shape[axis]
    if length == size and step == 1:
        return x
    if isinstance(begin, int) and not isinstance(size, int) and begin > 1 and length != size - begin:
        end_ = bound(end, size, size)
    else:
        end_ = begin + length if step == 1 else bound(end, size, size)
    return c.slice(x, axis, begin, end_, static(step, "the step of a slice"))


def narrow(c: Context, x: Value, dim: int, start: Any, length: Any) -> Value:
    """x[start:start + length]."""
    return c.slice(x, dim, bound(start, x.shape[dim], 0), bound(start, x.shape[dim], 0) + length)


def select(c: Context, x: Value, dim: int, index: Any) -> Value:
    """x[index] along an axis."""
    axis = dim % len(x.shape)
    return c.select(x, axis, bound(index, x.shape[axis], 0))


def split(c: Context, x: Value, sizes: Any, dim: int = 0) -> list[Value]:
    """Several slices, as long as torch says they are."""
    axis = dim % len(x.shape)
    parts: list[Value] = []
    start: Dim = 0
    for fake in c.fake:
        length = c.dims.dim(fake.shape[axis])
        parts.append(c.slice(x, axis, start, start + length))
        start = start + length
    return parts


def unbind(c: Context, x: Value, dim: int = 0) -> list[Value]:
    """One value per index of an axis."""
    return [c.select(x, dim, i) for i in range(static(x.shape[dim], "the size of an axis that unbind takes apart"))]


def roll(c: Context, x: Value, shifts: Any, dims: Any = ()) -> Value:
    """Cyclic shifts: two slices and a concat per axis."""
    shifts = shifts if isinstance(shifts, (list, tuple)) else [shifts]
    dims = dims if isinstance(dims, (list, tuple)) else [dims]
    shape = x.shape
    if not dims:
        x, dims = c.reshape(x, (c.dims.dim(c.fake.numel()),)), [0]
    for shift, dim in zip(shifts, dims, strict=True):
        axis = dim % len(x.shape)
        size = x.shape[axis]
        shift = shift % size if isinstance(size, int) else (shift if shift >= 0 else size + shift)
        if shift == 0:
            continue
        tail = c.slice(x, axis, size - shift, size)
        x = c.op("concat", tail, c.slice(x, axis, 0, size - shift), axis=axis)
    return c.reshape(x, shape)


def flip(c: Context, x: Value, dims: Sequence[int]) -> Value:
    """Reversed along axes."""
    return c.op("flip", x, axes=[d % len(x.shape) for d in dims])


def repeat(c: Context, x: Value, repeats: Sequence[Dim]) -> Value:
    """Tiled: broadcast along a new axis before each repeated one, then merged."""
    extra = len(repeats) - len(x.shape)
    x = c.reshape(x, (*[1] * extra, *x.shape))
    wide: list[Dim] = []
    narrow_: list[Dim] = []
    for times, size in zip(repeats, x.shape, strict=True):
        if times == 1:
            wide, narrow_ = [*wide, size], [*narrow_, size]
        elif size == 1:
            wide, narrow_ = [*wide, times], [*narrow_, 1]
        else:
            wide, narrow_ = [*wide, times, size], [*narrow_, 1, size]
    return c.reshape(c.expand(c.reshape(x, narrow_), wide), c.shape)


def repeat_interleave(c: Context, x: Value, repeats: Any, dim: int | None = None, *, output_size: Any = None) -> Value:
    """Each element several times in a row, a known number of times."""
    if isinstance(repeats, Value):
        raise Refusal("repeat_interleave by a tensor has a size that depends on the data")
    if dim is None:
        x, dim = c.reshape(x, (c.dims.dim(c.node.args[0].meta["val"].numel()),)), 0
    axis = dim % len(x.shape)
    before, after = x.shape[: axis + 1], x.shape[axis + 1 :]
    return c.reshape(c.expand(c.reshape(x, (*before, 1, *after)), (*before, repeats, *after)), c.shape)


def pad(c: Context, x: Value, pads: Sequence[Any], mode: str = "constant", value: float | None = None) -> Value:
    """Padding given from the last axis forward, (begin, end) each; negative crops."""
    rank = len(x.shape)
    modes = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}
    amounts = [static(p, "padding") for p in pads]
    begins, ends = [0] * rank, [0] * rank
    for i in range(len(amounts) // 2):
        begins[rank - 1 - i], ends[rank - 1 - i] = amounts[2 * i], amounts[2 * i + 1]
    if not any(amounts):
        return x
    if mode == "circular":
        return _pad_circular(c, x, begins, ends)
    return c.op("pad", x, pads=[*begins, *ends], mode=modes[mode], value=value or 0.0)


def _pad_circular(c: Context, x: Value, begins: Sequence[int], ends: Sequence[int]) -> Value:
    for axis, (begin, end) in enumerate(zip(begins, ends, strict=True)):
        size = x.shape[axis]
        parts = [c.slice(x, axis, size - begin, size)] if begin else []
        parts += [x] + ([c.slice(x, axis, 0, end)] if end else [])
        x = c.op("concat", *parts, axis=axis) if len(parts) > 1 else x
    return x


def pad_mode(mode: str) -> Converter:
    """The forms of pad that name their mode."""
    return lambda c, x, pads, value=None: pad(c, x, pads, mode, value)


def pixel_shuffle(c: Context, x: Value, factor: int) -> Value:
    """[..., C r^2, H, W] -> [..., C, H r, W r]."""
    *lead, channels, height, width = x.shape
    n = len(lead)
    y = c.reshape(x, (*lead, channels // factor**2, factor, factor, height, width))
    y = c.transpose(y, (*range(n), n, n + 3, n + 1, n + 4, n + 2))
    return c.reshape(y, c.shape)


def pixel_unshuffle(c: Context, x: Value, factor: int) -> Value:
    """[..., C, H r, W r] -> [..., C r^2, H, W]."""
    *lead, channels, _, _ = x.shape
    n = len(lead)
    height, width = c.shape[-2:]
    y = c.reshape(x, (*lead, channels, height, factor, width, factor))
    y = c.transpose(y, (*range(n), n, n + 2, n + 4, n + 1, n + 3))
    return c.reshape(y, c.shape)


def channel_shuffle(c: Context, x: Value, groups: int) -> Value:
    """[N, C, ...]: channels of the groups interleaved."""
    batch, channels, *rest = x.shape
    y = c.reshape(x, (batch, groups, channels // groups, *rest))
    return c.reshape(c.transpose(y, (0, 2, 1, *range(3, len(y.shape)))), x.shape)


def tri(upper: bool) -> Converter:
    """Upper or lower triangle of the last two axes."""
    return lambda c, x, diagonal=0: c.op("tri", x, upper=upper, diagonal=diagonal)


def scatter_slice(c: Context, x: Value, src: Value, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Value:
    """Gives x with x[start:end] replaced by src."""
    axis = dim % len(x.shape)
    size = x.shape[axis]
    begin = bound(start, size, 0)
    parts = [c.cast(src, x.dtype)]
    if step != 1:
        places = np.arange(static(size, "an axis that is assigned to with a step"))
        count = static(src.shape[axis], "what is assigned with a step")
        places[static(begin, "the begin of a slice with a step") :: step] = len(places) + np.arange(count)
        return c.op("gather", c.op("concat", x, *parts, axis=axis), c.const(places), axis=axis)
    if begin != 0:
        parts.insert(0, c.slice(x, axis, 0, begin))
    stop = begin + src.shape[axis]
    if stop != size:
        parts.append(c.slice(x, axis, stop, size))
    return parts[0] if len(parts) == 1 else c.op("concat", *parts, axis=axis)


def scatter_select(c: Context, x: Value, src: Value, dim: int, index: Any) -> Value:
    """Gives x with x[index] replaced by src."""
    axis = dim % len(x.shape)
    at = bound(index, x.shape[axis], 0)
    return scatter_slice(c, x, c.unsqueeze(src, axis), axis, at, at + 1)


def diagonal_of(c: Context, x: Value, offset: int, dim1: int, dim2: int) -> Value:
    """The diagonal of two axes as a new last axis: a gather from the axes laid flat."""
    rank = len(x.shape)
    a, b = dim1 % rank, dim2 % rank
    rows, columns = static(x.shape[a], "the size of a diagonal"), static(x.shape[b], "the size of a diagonal")
    length = max(0, min(rows + min(offset, 0), columns - max(offset, 0)))
    places = np.arange(length) * (columns + 1) + max(offset, 0) - min(offset, 0) * columns
    rest = [i for i in range(rank) if i not in (a, b)]
    y = c.transpose(x, [*rest, a, b])
    flat = c.reshape(y, (*y.shape[:-2], rows * columns))
    return c.op("gather", flat, c.const(places.astype(np.int64)), axis=rank - 2)


def diagonal(c: Context, x: Value, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Value:
    """The diagonal of two axes."""
    return diagonal_of(c, x, offset, dim1, dim2)


def strided_places(c: Context, x: Value, size: Any, stride: Any, storage_offset: Any) -> np.ndarray:
    """Positions, in row-major order of x, of the elements of a strided view of it.

    Raises:
        Refusal: x does not lie in memory in row-major order, or a size is not known.
    """
    fake = c.node.args[0].meta["val"]
    if not fake.is_contiguous() or fake.storage_offset():
        raise Refusal("as_strided of a tensor that is itself a view depends on its memory; use slices and reshape")
    places = np.full((), static(storage_offset or 0, "the offset of as_strided"), np.int64)
    for n, step in zip(size, stride, strict=True):
        step = static(step, "the stride of as_strided")
        places = places[..., None] + np.arange(static(n, "the size of as_strided")) * step
    return places


def as_strided(c: Context, x: Value, size: Any, stride: Any, storage_offset: Any = None) -> Value:
    """A view by strides of a tensor that lies in memory in row-major order: a gather."""
    places = strided_places(c, x, size, stride, storage_offset)
    return c.op("gather", c.reshape(x, (product(x.shape),)), c.const(places), axis=0)


def copy(c: Context, x: Value, src: Value, non_blocking: bool = False) -> Value:
    """x.copy_(src): src in x's shape and dtype."""
    return c.expand(c.cast(src, x.dtype), x.shape)


def item(c: Context, values: Any, index: int) -> Any:
    """One of several results."""
    return values[index]


RESHAPES = (
    "view.default reshape.default flatten.using_ints unflatten.int squeeze.default squeeze.dim squeeze.dims"
    " unsqueeze.default _unsafe_view.default view_as.default reshape_as.default view.dtype ravel.default"
    " _reshape_copy.default view_copy.default"
).split()

CONVERTERS: dict[str, Converter] = {
    **{f"aten.{name}": to_result_shape for name in RESHAPES},
    **{f"aten.{name}.default": expand for name in ("expand", "expand_as", "expand_copy", "broadcast_to")},
    "aten.permute.default": permute,
    "aten.transpose.int": transpose,
    "aten.swapaxes.default": transpose,
    "aten.swapdims.default": transpose,
    "aten.t.default": transpose,
    "aten.adjoint.default": swap_matrix,
    "aten.mT.default": swap_matrix,
    "aten.numpy_T.default": reverse_axes,
    "aten.movedim.int": movedim,
    "aten.movedim.intlist": movedim,
    "aten.moveaxis.int": movedim,
    "aten.cat.default": cat,
    "aten.concat.default": cat,
    "aten.concatenate.default": cat,
    "aten.stack.default": stack,
    "aten.slice.Tensor": slice_,
    "aten.narrow.default": narrow,
    "aten.select.int": select,
    "aten.split.Tensor": split,
    "aten.split.sizes": split,
    "aten.split_with_sizes.default": split,
    "aten.chunk.default": split,
    "aten.tensor_split.sections": split,
    "aten.tensor_split.indices": split,
    "aten.unbind.int": unbind,
    "aten.roll.default": roll,
    "aten.flip.default": flip,
    "aten.repeat.default": repeat,
    "aten.tile.default": lambda c, x, dims: repeat(c, x, (*[1] * max(0, len(x.shape) - len(dims)), *dims)),
    "aten.repeat_interleave.self_int": repeat_interleave,
    "aten.repeat_interleave.self_Tensor": repeat_interleave,
    "aten.pad.default": pad,
    "aten.constant_pad_nd.default": lambda c, x, pads, value=0: pad(c, x, pads, "constant", value),
    **{f"aten.reflection_pad{n}d.default": pad_mode("reflect") for n in (1, 2, 3)},
    **{f"aten.replication_pad{n}d.default": pad_mode("replicate") for n in (1, 2, 3)},
    "aten.pixel_shuffle.default": pixel_shuffle,
    "aten.pixel_unshuffle.default": pixel_unshuffle,
    "aten.channel_shuffle.default": channel_shuffle,
    "aten.native_channel_shuffle.default": channel_shuffle,
    "aten.tril.default": tri(False),
    "aten.triu.default": tri(True),
    "aten.slice_scatter.default": scatter_slice,
    "aten.select_scatter.default": scatter_select,
    "aten.diagonal.default": diagonal,
    "aten.as_strided.default": as_strided,
    "aten.copy.default": copy,
    "operator.getitem": item,
}
