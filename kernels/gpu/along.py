"""Places of extrema, running sums, largest elements, indexing by several axes (`cuda/qc_along.cuh`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from qcompiler.kernels.gpu.launch import (
    RANK,
    Field,
    Kernel,
    Launch,
    View,
    ceil_div,
    ints,
    longs,
    reading,
    writing,
)
from qcompiler.kernels.gpu.pointwise import padded, strided

THREADS = 128


def _type(view: View) -> str:
    return "float" if view.dtype.kind == "f" else "int64_t"


def _row(view: View, axis: int) -> View:
    """The first element of every row."""
    return view.part(axis, 0, 1)


def _along(form: str, x: View, axis: int, out: View, index: View | None = None, most: int = 0, smallest: bool = False) -> Launch:
    rows = _row(x, axis).shape
    fields: list[Field] = [("p", reading(x)), *strided(_row(x, axis), real=True)[1:]]
    for view in (out, index):
        if view is None:
            fields += strided(None)
        else:
            fields += [("p", writing(view)), *strided(_row(view, axis), real=True)[1:]]
    steps = (x.strides[axis], out.strides[axis], 0 if index is None else index.strides[axis])
    count = math.prod(rows)
    fields += [*longs(*steps), *ints(*padded(rows), count, x.shape[axis], most, smallest), ("a", 8)]
    kind = _type(x)
    kernel = Kernel(f"along_{form.lower()}_{kind}", "qc_along.cuh", "qc::AlongParams", f"qc::along<{kind}, qc::{form}>(p)", THREADS)
    return Launch(kernel, (ceil_div(count, THREADS), 1, 1), tuple(fields), x.count)


def place(x: View, axis: int, out: View, smallest: bool) -> Launch:
    """Index of the first largest (smallest) element; `out` has the axis, of size 1."""
    return _along("PLACE", x, axis, out, smallest=smallest)


def running_sum(x: View, axis: int, out: View) -> Launch:
    """Sums of all elements up to each."""
    return _along("RUNNING", x, axis, out)


def top(x: View, axis: int, values: View, indices: View, smallest: bool) -> Launch:
    """The largest (smallest) elements and their places, in order; as many as the results have."""
    return _along("TOP", x, axis, values, indices, values.shape[axis], smallest)


def _index_fields(data: View, indices: View, shape: Sequence[int], count: int, places: int, add: bool) -> list[Field]:
    depth = indices.shape[-1]
    return [
        *longs(*data.strides[:depth], *[0] * (RANK - depth), indices.strides[-1]), *ints(*data.shape[:depth], *[0] * (RANK - depth)),
        *ints(*padded(shape), count, depth, places, add), ("a", 8),
    ]  # fmt: skip


def gather_nd(data: View, indices: View, out: View) -> Launch:
    """out[i] = data[indices[i]]; indices [..., depth] count from the end where they are negative, and are not checked."""
    depth, lead = indices.shape[-1], len(indices.shape) - 1
    behind = len(data.shape) - depth
    rest = View(data.buffer, data.dtype, (*[1] * lead, *data.shape[depth:]), (*[0] * lead, *data.strides[depth:]), data.offset)
    places = View(
        indices.buffer, indices.dtype, (*indices.shape[:-1], *[1] * behind), (*indices.strides[:-1], *[0] * behind), indices.offset
    )  # fmt: skip
    fields = [
        ("p", reading(data)), *strided(rest)[1:], ("p", reading(indices)), *strided(places)[1:], *strided(out, write=True),
        *_index_fields(data, indices, out.shape, out.count, 1, False),
    ]  # fmt: skip
    kernel = Kernel("gather_nd", "qc_along.cuh", "qc::IndexParams", "qc::gather_nd(p)", THREADS)
    return Launch(kernel, (ceil_div(out.count, THREADS), 1, 1), tuple(fields), out.count)


def scatter_nd(updates: View, indices: View, out: View, add: bool) -> Launch:
    """out[indices[i]] = or += updates[i], in order; `out` holds the data already. Updates and indices lie without gaps."""
    assert updates.contiguous and indices.contiguous
    depth = indices.shape[-1]
    rest = View(out.buffer, out.dtype, out.shape[depth:], out.strides[depth:], out.offset)
    fields = [
        *strided(updates, real=True), *strided(indices), ("p", replace(writing(out), access="part")),
        *strided(rest, real=True)[1:], *_index_fields(out, indices, rest.shape, rest.count, math.prod(indices.shape[:-1]), add),
    ]  # fmt: skip
    kind = _type(out)
    kernel = Kernel(f"scatter_nd_{kind}", "qc_along.cuh", "qc::IndexParams", f"qc::scatter_nd<{kind}>(p)", THREADS)
    return Launch(kernel, (ceil_div(rest.count, THREADS), 1, 1), tuple(fields), updates.count)
