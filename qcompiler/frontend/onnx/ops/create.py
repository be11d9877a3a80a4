"""Converters of constants and of tensors made from sizes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ....ir import DType, Value
from ....ir.dims import is_symbolic, normalize
from ..context import OnnxContext, Refusal

Converter = Callable[..., Any]


def constant(c: OnnxContext) -> Value:
    """A tensor or a number written into the node."""
    if "value" in c.attrs:
        array, dtype = c.tensor_attr("value")
        return c.builder.const(array, dtype, name=c.node.name)
    for name, kind in (("value_float", np.float32), ("value_floats", np.float32), ("value_int", np.int64), ("value_ints", np.int64)):
        if name in c.attrs:
            return c.builder.const(np.asarray(c.attr(name), kind), name=c.node.name)
    raise Refusal(f"a constant of {', '.join(c.attrs) or 'nothing'}")


def constant_of_shape(c: OnnxContext, shape: Value) -> Value:
    """One number everywhere."""
    array, dtype = c.tensor_attr("value") if "value" in c.attrs else (np.zeros(1, np.float32), DType.float32)
    dims = c.dims_of(shape, "the shape")
    if any(not is_symbolic(d) and d < 0 for d in dims):
        raise Refusal(f"shape {list(dims)} has a negative size")
    number = array.reshape(-1)[0]
    if dtype.is_integer and float(number) != int(number):
        return c.expand(c.scalar(number, dtype), dims)
    return c.op("full", shape=dims, value=float(number), dtype=dtype)


def range_(c: OnnxContext, start: Value, limit: Value, delta: Value) -> Value:
    """start, start + delta, ... up to limit."""
    if start.dtype.is_float:
        first, last, step = (c.array_of(v, "the bounds of Range").item() for v in (start, limit, delta))
        count = max(math.ceil((last - first) / step), 0)
        steps = c.op("arange", stop=count, dtype=start.dtype)
        return c.op("add", c.op("mul", steps, c.scalar(step, start.dtype)), c.scalar(first, start.dtype))
    (first,), (last,), (step,) = (c.dims_of(v, "the bounds of Range") for v in (start, limit, delta))
    if is_symbolic(step) or step == 0:
        raise Refusal(f"Range with step {step}")
    count = normalize(-((first - last) // step))
    if not is_symbolic(count) and count <= 0:
        return c.op("arange", stop=0, dtype=start.dtype)
    if step > 0:
        return c.op("arange", start=first, stop=last, step=step, dtype=start.dtype)
    steps = c.op("arange", stop=count, dtype=start.dtype)
    return c.op("add", c.op("mul", steps, c.scalar(step, start.dtype)), c.tensor(first, start.dtype))


def eye_like(c: OnnxContext, x: Value) -> Value:
    """Ones on a diagonal."""
    rows, columns = x.shape
    if is_symbolic(rows) or is_symbolic(columns):
        raise Refusal("EyeLike of a dynamic shape")
    dtype = c.dtype_attr("dtype", x.dtype)
    return c.const(np.eye(int(rows), int(columns), c.number("k", 0)).astype(dtype.numpy), dtype)


def one_hot(c: OnnxContext, indices: Value, depth: Value, values: Value) -> Value:
    """values[1] where a position equals the index (negative ones count from the end), else values[0]."""
    (count,) = (int(v) for v in c.array_of(depth, "the depth").ravel())
    rank = len(indices.shape) + 1
    axis = c.number("axis", -1)
    if not -rank <= axis < rank:
        raise Refusal(f"axis {axis} outside rank {rank}")
    places = c.unsqueeze(c.cast(indices, DType.int64), axis)
    wrapped = c.op("add", places, c.const(np.int64(count)))
    places = c.op("where", c.op("less", places, c.const(np.int64(0))), wrapped, places)
    positions = np.arange(count).reshape([-1 if i == axis % rank else 1 for i in range(rank)])
    hit = c.op("equal", places, c.const(positions.astype(np.int64)))
    off, on = (c.reshape(c.slice(values, 0, i, i + 1), ()) for i in (0, 1))
    return c.op("where", hit, on, off)


def window(a0: float, a1: float, a2: float) -> Converter:
    """Cosine windows: a0 - a1 cos(2 pi i / N) + a2 cos(4 pi i / N)."""

    def convert(c: OnnxContext, size: Value) -> Value:
        (count,) = c.ints_of(size, "the size")
        dtype = c.dtype_attr("output_datatype", DType.float32)
        whole = count if c.number("periodic", 1) else count - 1
        angle = 2 * np.pi * np.arange(count) / whole
        return c.const((a0 - a1 * np.cos(angle) + a2 * np.cos(2 * angle)).astype(dtype.numpy), dtype)

    return convert


CONVERTERS: dict[str, Converter] = {
    "Constant": constant, "ConstantOfShape": constant_of_shape, "Range": range_, "EyeLike": eye_like, "OneHot": one_hot,
    "HannWindow": window(0.5, 0.5, 0.0), "HammingWindow": window(25 / 46, 21 / 46, 0.0),
    "BlackmanWindow": window(0.42, 0.5, 0.08),
}  # fmt: skip
