"""Converters of ops that make tensors out of nothing. What their size depends on stays symbolic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...ir import DType, Value
from ..context import Context, Operand, Refusal, is_symbolic_dim, static

Converter = Callable[..., Any]

# `full` keeps its value as a float attribute: integers beyond this would lose digits.
_EXACT = 1 << 53


def filled(value: Any) -> Converter:
    """zeros, ones, empty and their `like` and `new` forms."""
    return lambda c, *_, **__: full_of(c, value)


def full_of(c: Context, value: Operand) -> Value:
    """The result's shape filled with a number, a symbolic dimension or a scalar tensor."""
    if isinstance(value, Value) or is_symbolic_dim(value):
        return c.expand(c.tensor(value, c.dtype), c.shape)
    if isinstance(value, int) and abs(value) >= _EXACT or not c.shape:
        return c.expand(c.const(value, c.dtype), c.shape)
    return c.op("full", shape=c.shape, value=value, dtype=c.dtype)


def full(c: Context, size: Any, value: Operand, **_: Any) -> Value:
    """Gives a tensor of one value, of a given size or that of another."""
    return full_of(c, value)


def new_full(c: Context, x: Value, size: Any, value: Operand, **_: Any) -> Value:
    """x.new_full(size, value)."""
    return full_of(c, value)


def scalar_tensor(c: Context, value: Operand, **_: Any) -> Value:
    """A number as a tensor."""
    return c.tensor(value, c.dtype)


def arange(c: Context, *bounds: Any, **_: Any) -> Value:
    """Gives numbers from a start (0) to before an end, by a step (1)."""
    start, stop = (0, bounds[0]) if len(bounds) == 1 else bounds[:2]
    step = bounds[2] if len(bounds) > 2 else 1
    values = (start, stop, step)
    if not any(is_symbolic_dim(v) for v in values):
        if all(isinstance(v, int) for v in values):
            return c.op("arange", start=start, stop=stop, step=step, dtype=c.dtype)
        size = static(c.shape[0], "the length of arange")
        kind = np.float64 if c.dtype.is_float else np.int64
        return c.const((start + step * np.arange(size)).astype(kind), c.dtype)
    if all(isinstance(v, int) or is_symbolic_dim(v) for v in values) and isinstance(step, int):
        kind = c.dtype if c.dtype in (DType.int64, DType.int32) else DType.int64
        return c.cast(c.op("arange", start=start, stop=stop, step=step, dtype=kind), c.dtype)
    index = c.cast(c.op("arange", start=0, stop=c.shape[0], step=1), c.dtype)
    y = index if step == 1 else c.op("mul", index, c.tensor(step, c.dtype))
    return y if start == 0 else c.op("add", y, c.tensor(start, c.dtype))


def linspace(c: Context, start: Operand, end: Operand, steps: Any, **_: Any) -> Value:
    """Evenly spaced numbers."""
    if isinstance(start, Value) or isinstance(end, Value):
        raise Refusal("linspace between tensors is not in the graph")
    if not is_symbolic_dim(steps) and not is_symbolic_dim(start) and not is_symbolic_dim(end):
        return c.const(np.linspace(start, end, static(steps, "steps")), c.dtype)
    index = c.cast(c.op("arange", start=0, stop=steps, step=1), c.dtype)
    first, last = c.tensor(start, c.dtype), c.tensor(end, c.dtype)
    gaps = c.op("maximum", c.tensor(steps - 1, c.dtype), c.const(1, c.dtype))
    return c.op("add", c.op("mul", index, c.op("div", c.op("sub", last, first), gaps)), first)


def eye(c: Context, *_: Any, **__: Any) -> Value:
    """Identity matrix."""
    rows, columns = c.shape
    if isinstance(rows, int) and isinstance(columns, int):
        return c.const(np.eye(rows, columns), c.dtype)
    i = c.reshape(c.op("arange", stop=rows), (rows, 1))
    return c.cast(c.op("equal", i, c.op("arange", stop=columns)), c.dtype)


def fill_diagonal(c: Context, x: Value, value: Operand, wrap: bool = False) -> Value:
    """A matrix with a number on its diagonal."""
    if len(x.shape) != 2 or wrap:
        raise Refusal("fill_diagonal is in the graph for matrices, without wrap")
    rows = c.reshape(c.op("arange", stop=x.shape[0]), (x.shape[0], 1))
    return c.op("where", c.op("equal", rows, c.op("arange", stop=x.shape[1])), c.tensor(value, x.dtype), x)


def tri_indices(upper: bool) -> Converter:
    """Row and column numbers of a triangle."""

    def convert(c: Context, row: int, col: int, offset: int = 0, **_: Any) -> Value:
        indices = np.triu_indices(row, offset, col) if upper else np.tril_indices(row, offset, col)
        return c.const(np.stack(indices), c.dtype)

    return convert


def one_hot(c: Context, x: Value, num_classes: int = -1) -> Value:
    """1 where the class number is the index along a new last axis."""
    if num_classes < 0:
        raise Refusal("one_hot without num_classes has a size that depends on the data")
    classes = c.op("arange", stop=num_classes, dtype=x.dtype)
    return c.cast(c.op("equal", c.unsqueeze(x, -1), classes), c.dtype)


def meshgrid(c: Context, tensors: Any, indexing: str = "ij") -> list[Value]:
    """Each vector broadcast to the grid."""
    results = []
    order = list(range(len(tensors)))
    if indexing == "xy" and len(order) > 1:
        order[0], order[1] = 1, 0
    shape = c.shape
    for i, t in enumerate(tensors):
        view = [1] * len(tensors)
        view[order.index(i)] = t.shape[0] if t.shape else 1
        results.append(c.expand(c.reshape(t, view), shape))
    return results


def random(c: Context, *_: Any, **__: Any) -> Value:
    """Refuse random numbers."""
    raise Refusal("the model draws random numbers; pass them in as an input")


CONVERTERS: dict[str, Converter] = {
    **{f"aten.{n}.default": filled(0) for n in ("zeros", "zeros_like", "new_zeros", "zero", "empty_like", "new_empty")},
    "aten.empty.memory_format": filled(0),
    "aten.empty_permuted.default": filled(0),
    "aten.new_empty_strided.default": filled(0),
    **{f"aten.{n}.default": filled(1) for n in ("ones", "ones_like", "new_ones")},
    **{f"aten.{n}.default": full for n in ("full", "full_like")},
    **{f"aten.fill.{o}": full for o in ("Scalar", "Tensor")},
    "aten.new_full.default": new_full,
    "aten.scalar_tensor.default": scalar_tensor,
    **{f"aten.arange.{o}": arange for o in ("default", "start", "start_step")},
    "aten.linspace.default": linspace,
    **{f"aten.eye.{o}": eye for o in ("default", "m")},
    "aten.fill_diagonal.default": fill_diagonal,
    "aten.tril_indices.default": tri_indices(False),
    "aten.triu_indices.default": tri_indices(True),
    "aten.one_hot.default": one_hot,
    **{f"aten.meshgrid.{o}": meshgrid for o in ("default", "indexing")},
    **{
        f"aten.{n}": random
        for n in (
            "rand.default randn.default rand_like.default randn_like.default randint.default randint.low"
            " bernoulli.default bernoulli.p randperm.default normal.Tensor_Tensor multinomial.default"
        ).split()
    },
}
