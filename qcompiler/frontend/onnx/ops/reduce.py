"""Converters of reductions, arg extrema and running sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ....ir import DType, Value
from ....ir.dims import is_symbolic
from ..context import OnnxContext, Refusal

Converter = Callable[..., Any]


def _axes(c: OnnxContext, x: Value, axes: Value | None) -> tuple[list[int] | None, bool]:
    """(axes to reduce, None for nothing to do; whether they are kept)."""
    given = c.ints_or_attr(axes, "axes", ())
    keep = bool(c.number("keepdims", 1))
    if not given:
        return (None if c.number("noop_with_empty_axes", 0) else list(range(len(x.shape)))), keep
    return [c.axis(x, a) for a in given], keep


def reduction(op: str, before: str = "", after: str = "") -> Converter:
    """A reduction of the table, with an elementwise op before and after it."""

    def convert(c: OnnxContext, x: Value, axes: Value | None = None) -> Value:
        which, keep = _axes(c, x, axes)
        x = _applied(c, before, x)
        if which and op == "reduce_mean" and not x.dtype.is_float:
            total = c.op("reduce_sum", x, axes=which, keepdims=keep)
            count = 1
            for a in which:
                count *= int(x.shape[a])
            return c.op("div", total, c.scalar(count, x.dtype))
        if which:
            x = _reduce(c, op, x, which, keep)
        return _applied(c, after, x)

    return convert


def _reduce(c: OnnxContext, op: str, x: Value, axes: list[int], keep: bool) -> Value:
    """Extrema of booleans are logical; of no elements, the identity of the op."""
    if x.dtype is DType.bool:
        op = {"reduce_max": "reduce_any", "reduce_min": "reduce_all"}.get(op, op)
    empty = any(not is_symbolic(x.shape[a]) and x.shape[a] == 0 for a in axes)
    if empty and op in ("reduce_max", "reduce_min"):
        shape = [1 if i in axes else d for i, d in enumerate(x.shape) if keep or i not in axes]
        if x.dtype.is_float:
            edge = float("-inf") if op == "reduce_max" else float("inf")
        else:
            edge = x.dtype.min if op == "reduce_max" else x.dtype.max
        return c.expand(c.scalar(edge, x.dtype), shape)
    return c.op(op, x, axes=axes, keepdims=keep)


def _applied(c: OnnxContext, op: str, x: Value) -> Value:
    if op == "square":
        return c.op("mul", x, x)
    if op and not x.dtype.is_float and op in ("log", "sqrt", "exp"):
        return c.cast(c.op(op, c.cast(x, DType.float64)), x.dtype)
    return c.op(op, x) if op else x


def log_sum_exp(c: OnnxContext, x: Value, axes: Value | None = None) -> Value:
    """log(sum(e^x)), shifted by the largest element so that nothing overflows."""
    which, keep = _axes(c, x, axes)
    if which is None:
        return x
    if any(not is_symbolic(x.shape[a]) and x.shape[a] == 0 for a in which):
        return c.op("log", c.op("reduce_sum", c.op("exp", x), axes=which, keepdims=keep))
    peak = c.op("reduce_max", x, axes=which, keepdims=True)
    total = c.op("reduce_sum", c.op("exp", c.op("sub", x, peak)), axes=which, keepdims=True)
    y = c.op("add", c.op("log", total), peak)
    return y if keep else c.reshape(y, [d for i, d in enumerate(y.shape) if i not in which])


def arg(op: str) -> Converter:
    """Index of the first extremum along an axis, or of the last."""

    def convert(c: OnnxContext, x: Value) -> Value:
        axis, keep = c.axis(x, c.number("axis", 0)), bool(c.number("keepdims", 1))
        if not c.number("select_last_index", 0):
            return c.op(op, x, axis=axis, keepdims=keep)
        found = c.op(op, c.op("flip", x, axes=[axis]), axis=axis, keepdims=keep)
        return c.op("sub", c.tensor(x.shape[axis] - 1, DType.int64), found)

    return convert


def cumsum(c: OnnxContext, x: Value, axis: Value) -> Value:
    """Running sum; exclusive and reversed forms."""
    (where,) = c.ints_of(axis, "axis")
    where = c.axis(x, where)
    back = bool(c.number("reverse", 0))
    x = c.op("flip", x, axes=[where]) if back else x
    y = c.op("cumsum", x, axis=where)
    y = c.op("sub", y, x) if c.number("exclusive", 0) else y
    return c.op("flip", y, axes=[where]) if back else y


def hardmax(c: OnnxContext, x: Value) -> Value:
    """1 at the first largest element along an axis, else 0; before 13 over all axes from `axis` on."""
    axis = c.axis(x, c.number("axis", -1 if c.version >= 13 else 1))
    if c.version < 13 and axis != len(x.shape) - 1:
        raise Refusal("Hardmax over several axes")
    place = c.op("argmax", x, axis=axis, keepdims=True)
    steps = c.op("arange", stop=x.shape[axis])
    steps = c.reshape(steps, [d if i == axis else 1 for i, d in enumerate(x.shape)])
    return c.cast(c.op("equal", place, steps), x.dtype)


CONVERTERS: dict[str, Converter] = {
    "ReduceSum": reduction("reduce_sum"),
    "ReduceMean": reduction("reduce_mean"),
    "ReduceMax": reduction("reduce_max"),
    "ReduceMin": reduction("reduce_min"),
    "ReduceProd": reduction("reduce_prod"),
    "ReduceL1": reduction("reduce_sum", before="abs"),
    "ReduceL2": reduction("reduce_sum", before="square", after="sqrt"),
    "ReduceSumSquare": reduction("reduce_sum", before="square"),
    "ReduceLogSum": reduction("reduce_sum", after="log"),
    "ReduceLogSumExp": log_sum_exp,
    "ArgMax": arg("argmax"),
    "ArgMin": arg("argmin"),
    "CumSum": cumsum,
    "Hardmax": hardmax,
}
