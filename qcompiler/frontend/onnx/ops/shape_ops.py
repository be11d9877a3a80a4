"""Converters of data movement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ....ir import DType, Value
from ....ir.dims import Dim, is_symbolic, normalize, product, same
from ....ir.ops.spec import broadcast_shapes
from ..context import OnnxContext, Refusal

Converter = Callable[..., Any]
LARGEST = (1 << 31) - 1  # bounds beyond this mean "to the end"


def reshape(c: OnnxContext, x: Value, shape: Value | None = None) -> Value:
    """0 keeps an axis (unless allowzero), -1 takes what is left."""
    wanted = list(c.integers("shape") if shape is None else c.dims_of(shape, "the shape"))
    if not c.number("allowzero", 0):
        wanted = [x.shape[i] if not is_symbolic(d) and d == 0 else d for i, d in enumerate(wanted)]
    if any(not is_symbolic(d) and d == -1 for d in wanted):
        place = wanted.index(-1)
        rest = product([d for i, d in enumerate(wanted) if i != place])
        total = product(x.shape)
        if not is_symbolic(rest) and rest == 0:
            wanted[place] = 0
        else:
            wanted[place] = _quotient(total, rest)
    return c.reshape(x, wanted)


def _quotient(total: Dim, rest: Dim) -> Dim:
    if not is_symbolic(total) and not is_symbolic(rest):
        return int(total // rest)
    import sympy

    return normalize(sympy.cancel(sympy.sympify(total) / rest))


def flatten(c: OnnxContext, x: Value) -> Value:
    """Two axes: those before `axis`, and the rest."""
    axis = c.number("axis", 1)
    axis = axis + len(x.shape) if axis < 0 else axis
    return c.reshape(x, (product(x.shape[:axis]), product(x.shape[axis:])))


def squeeze(c: OnnxContext, x: Value, axes: Value | None = None) -> Value:
    """Without axes of size 1."""
    given = c.ints_or_attr(axes, "axes")
    gone = [i for i, d in enumerate(x.shape) if same(d, 1)] if given is None else [c.axis(x, a) for a in given]
    if any(not same(x.shape[a], 1) for a in gone):
        raise Refusal(f"axes {gone} of shape {list(x.shape)} are not all 1")
    return c.reshape(x, [d for i, d in enumerate(x.shape) if i not in gone])


def unsqueeze(c: OnnxContext, x: Value, axes: Value | None = None) -> Value:
    """More axes of size 1."""
    given = c.ints_or_attr(axes, "axes", ())
    rank = len(x.shape) + len(given)
    new = {a % rank for a in given}
    if len(new) != len(given) or any(not -rank <= a < rank for a in given):
        raise Refusal(f"axes {list(given)} for a result of rank {rank}")
    sizes = iter(x.shape)
    return c.reshape(x, [1 if i in new else next(sizes) for i in range(rank)])


def transpose(c: OnnxContext, x: Value) -> Value:
    """Axes in another order; reversed by default."""
    return c.transpose(x, c.integers("perm", tuple(reversed(range(len(x.shape))))))


def concat(c: OnnxContext, *xs: Value) -> Value:
    """Joined along an axis; operands without elements are left out."""
    axis = c.axis(xs[0], c.number("axis", 1))
    parts = [x for x in xs if not same(x.shape[axis], 0)] or [xs[0]]
    return parts[0] if len(parts) == 1 else c.op("concat", *parts, axis=axis)


def split(c: OnnxContext, x: Value, sizes: Value | None = None) -> list[Value]:
    """Parts of given sizes, or equal ones (the last smaller)."""
    axis = c.axis(x, c.number("axis", 0))
    given = c.ints_or_attr(sizes, "split")
    if given is None:
        count = c.number("num_outputs", None) or c.outputs
        if is_symbolic(x.shape[axis]):
            raise Refusal("equal parts of a dynamic axis")
        size = -(-int(x.shape[axis]) // count)
        given = [min(size, int(x.shape[axis]) - i * size) for i in range(count)]
    starts = np.cumsum([0, *given]).tolist()
    return [c.slice(x, axis, a, b) for a, b in zip(starts, starts[1:], strict=False)]


def slice_(c: OnnxContext, x: Value, *operands: Value | None) -> Value:
    """Slices along several axes; negative steps read backwards."""
    if c.version < 10:
        starts, ends = c.integers("starts"), c.integers("ends")
        axes, steps = c.integers("axes"), None
    else:
        given = [*operands, None, None][:4]
        if given[0] is None or given[1] is None:
            raise Refusal("needs starts and ends")
        starts, ends = c.dims_of(given[0], "starts"), c.dims_of(given[1], "ends")
        axes = None if given[2] is None else c.ints_of(given[2], "axes")
        steps = None if given[3] is None else c.ints_of(given[3], "steps")
    axes = range(len(starts)) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        x = _slice_axis(c, x, c.axis(x, axis), start, end, step)
    return x


def _slice_axis(c: OnnxContext, x: Value, axis: int, start: Dim, end: Dim, step: int) -> Value:
    size = x.shape[axis]
    if step > 0:
        return c.slice(x, axis, _bound(start, size), _bound(end, size), step)
    if is_symbolic(size) and (not _is_end(start) and start != -1 or end > -LARGEST):
        raise Refusal("a part of a dynamic axis is read backwards")
    if is_symbolic(size):
        first, last = 0, size
    else:
        indices = range(*slice(int(start), int(end), step).indices(int(size)))
        # Read forwards from the flipped axis: element i is size - 1 - i.
        first, last = (int(size) - 1 - indices[0], int(size) - indices[-1]) if len(indices) else (0, 0)
    flipped = c.op("flip", x, axes=[axis])
    return c.slice(flipped, axis, first, last, -step)


def _is_end(bound: Dim) -> bool:
    return not is_symbolic(bound) and bound >= LARGEST


def _bound(bound: Dim, size: Dim) -> Dim:
    if is_symbolic(bound):
        return bound
    if bound >= LARGEST:
        return size
    return 0 if bound <= -LARGEST else bound


def expand(c: OnnxContext, x: Value, shape: Value) -> Value:
    """Broadcast with a shape, which may have ones itself."""
    return c.expand(x, broadcast_shapes(x.shape, c.dims_of(shape, "the shape")))


def tile(c: OnnxContext, x: Value, repeats: Value) -> Value:
    """Repeated along each axis: broadcast along a new axis before it, then merged."""
    times = c.dims_of(repeats, "repeats")
    if len(times) != len(x.shape):
        raise Refusal(f"{len(times)} repeats for rank {len(x.shape)}")
    narrow = [d for size in x.shape for d in (1, size)]
    wide = [d for count, size in zip(times, x.shape, strict=True) for d in (count, size)]
    result = [normalize(count * size) for count, size in zip(times, x.shape, strict=True)]
    if all(not is_symbolic(t) and t == 1 for t in times):
        return x
    return c.reshape(c.expand(c.reshape(x, narrow), wide), result)


def pad(c: OnnxContext, x: Value, pads: Value | None = None, fill: Value | None = None, axes: Value | None = None) -> Value:
    """Pads of all axes or of some; constant, reflect, edge and wrap."""
    rank, mode = len(x.shape), c.text("mode", "constant")
    widths = c.ints_of(pads, "pads") if pads is not None else c.integers("pads" if c.version > 1 else "paddings")
    which = range(rank) if axes is None else [c.axis(x, a) for a in c.ints_of(axes, "axes")]
    count = len(which)
    if len(widths) != 2 * count:
        raise Refusal(f"{len(widths)} pads for {count} axes")
    full = [0] * (2 * rank)
    for i, axis in enumerate(which):
        full[axis], full[rank + axis] = widths[i], widths[count + i]
    if mode == "wrap":
        return _wrap(c, x, full)
    value = c.number("value", 0.0) if fill is None else c.array_of(fill, "the value").item()
    if mode == "constant" and not np.isfinite(float(value)) or abs(float(value)) > (1 << 53) and x.dtype.is_integer:
        return _pad_with(c, x, full, value)
    return c.op("pad", x, pads=full, mode=mode, value=float(value) if mode == "constant" else 0.0)


def _pad_with(c: OnnxContext, x: Value, pads: Sequence[int], value: Any) -> Value:
    """Padding by numbers that a float attribute does not hold."""
    rank = len(x.shape)
    for axis in range(rank):
        parts = []
        for width in (pads[axis], pads[rank + axis]):
            shape = tuple(width if i == axis else d for i, d in enumerate(x.shape))
            parts.append(c.expand(c.scalar(value, x.dtype), shape) if width > 0 else None)
        pieces = [p for p in (parts[0], x, parts[1]) if p is not None]
        x = x if len(pieces) == 1 else c.op("concat", *pieces, axis=axis)
    return x


def _wrap(c: OnnxContext, x: Value, pads: Sequence[int]) -> Value:
    """The axis goes round."""
    rank = len(x.shape)
    for axis in range(rank):
        before, after, size = pads[axis], pads[rank + axis], x.shape[axis]
        if not before and not after:
            continue
        if is_symbolic(size):
            raise Refusal("wrap padding of a dynamic axis")
        places = np.arange(-before, int(size) + after) % int(size)
        x = c.op("gather", x, c.const(places.astype(np.int64)), axis=axis)
    return x


def depth_to_space(c: OnnxContext, x: Value) -> Value:
    """[N, C, H, W] -> [N, C/b^2, H b, W b]; DCR and CRD order of the channels."""
    b, (n, channels, height, width) = c.number("blocksize"), x.shape
    depth = channels // (b * b)
    if c.text("mode", "DCR") == "DCR":
        y = c.transpose(c.reshape(x, (n, b, b, depth, height, width)), (0, 3, 4, 1, 5, 2))
    else:
        y = c.transpose(c.reshape(x, (n, depth, b, b, height, width)), (0, 1, 4, 2, 5, 3))
    return c.reshape(y, (n, depth, height * b, width * b))


def space_to_depth(c: OnnxContext, x: Value) -> Value:
    """[N, C, H, W] -> [N, C b^2, H/b, W/b]."""
    b, (n, channels, height, width) = c.number("blocksize"), x.shape
    split_up = c.reshape(x, (n, channels, normalize(height // b), b, normalize(width // b), b))
    order = (0, 3, 5, 1, 2, 4) if c.text("mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    y = c.transpose(split_up, order)
    return c.reshape(y, (n, channels * b * b, normalize(height // b), normalize(width // b)))


def shape(c: OnnxContext, x: Value) -> Value:
    """Sizes of the axes from `start` to `end`."""
    rank = len(x.shape)
    start, end = c.number("start", 0), c.number("end", rank)
    return c.vector(x.shape[slice(*slice(start, end).indices(rank))])


def size(c: OnnxContext, x: Value) -> Value:
    """Number of elements."""
    total = product(x.shape)
    return c.op("dim", value=total) if is_symbolic(total) else c.const(np.int64(total))


def trilu(c: OnnxContext, x: Value, k: Value | None = None) -> Value:
    """Upper or lower triangle."""
    diagonal = 0 if k is None else c.ints_of(k, "k")[0]
    return c.op("tri", x, upper=bool(c.number("upper", 1)), diagonal=diagonal)


def reverse_sequence(c: OnnxContext, x: Value, lengths: Value) -> Value:
    """The first lengths[b] elements of each batch in reverse."""
    time, batch = c.number("time_axis", 0), c.number("batch_axis", 1)
    steps = c.op("arange", stop=x.shape[time])
    lengths = c.unsqueeze(c.cast(lengths, DType.int64), -1)
    back = c.op("sub", c.op("sub", lengths, c.const(np.int64(1))), steps)
    index = c.op("where", c.op("less", back, c.const(np.int64(0))), steps, back)  # [batch, time]
    index = c.transpose(index, (1, 0)) if time < batch else index
    index = c.reshape(index, (*index.shape, *[1] * (len(x.shape) - 2)))
    return c.op("gather_elements", x, c.expand(index, x.shape), axis=time)


CONVERTERS: dict[str, Converter] = {
    "Reshape": reshape, "Flatten": flatten, "Squeeze": squeeze, "Unsqueeze": unsqueeze, "Transpose": transpose,
    "Concat": concat, "Split": split, "Slice": slice_, "Expand": expand, "Tile": tile, "Pad": pad,
    "DepthToSpace": depth_to_space, "SpaceToDepth": space_to_depth, "Shape": shape, "Size": size, "Trilu": trilu,
    "ReverseSequence": reverse_sequence,
}  # fmt: skip
