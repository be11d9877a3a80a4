"""Converters of reductions, running sums and selection by size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...ir import DType, Value
from ...ir.dims import is_symbolic, product
from ..context import Context, axes_of, static
from .elementwise import truth

Converter = Callable[..., Any]


def reduction(op: str) -> Converter:
    """Gives op over some axes (none named: all), computed in the result's dtype."""

    def convert(c: Context, x: Value, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Value:
        axes = axes_of(dim, len(x.shape))
        x = c.cast(x, c.dtype)
        return c.op(op, x, axes=axes, keepdims=keepdim) if axes else x

    return convert


def truth_reduction(op: str) -> Converter:
    """Gives any and all."""

    def convert(c: Context, x: Value, dim: Any = None, keepdim: bool = False) -> Value:
        axes = axes_of(dim, len(x.shape))
        return c.op(op, truth(c, x), axes=axes, keepdims=keepdim) if axes else truth(c, x)

    return convert


def extremum(op: str, arg: str) -> Converter:
    """max.dim and min.dim: values and their indices; a dead index node is dropped later."""

    def convert(c: Context, x: Value, dim: int, keepdim: bool = False) -> list[Value]:
        axis = dim % len(x.shape)
        return [c.op(op, x, axes=[axis], keepdims=keepdim), c.op(arg, x, axis=axis, keepdims=keepdim)]

    return convert


def arg(op: str) -> Converter:
    """Gives argmax and argmin; without an axis, over the flattened tensor."""

    def convert(c: Context, x: Value, dim: int | None = None, keepdim: bool = False) -> Value:
        if dim is None:
            y = c.op(op, c.reshape(x, (product(x.shape),)), axis=0, keepdims=False)
            return c.reshape(y, c.shape)
        return c.op(op, x, axis=dim % len(x.shape), keepdims=keepdim)

    return convert


def variance(c: Context, x: Value, dim: Any = None, unbiased: Any = True, keepdim: bool = False, *, correction: Any = None) -> Value:
    """mean((x - mean)^2), times n / (n - correction)."""
    return moments(c, x, dim, unbiased, keepdim, correction)[0]


def moments(c: Context, x: Value, dim: Any, unbiased: Any, keepdim: bool, correction: Any) -> tuple[Value, Value]:
    """(variance, mean). The overloads `correction` and plain share these arguments."""
    if isinstance(dim, bool):  # var(x, unbiased)
        dim, unbiased = None, dim
    axes = axes_of(dim, len(x.shape))
    lost = (1 if unbiased else 0) if correction is None else correction
    mean = c.op("reduce_mean", x, axes=axes, keepdims=True)
    centred = c.op("sub", x, mean)
    square = c.op("mul", centred, centred)
    var = c.op("reduce_mean", square, axes=axes, keepdims=keepdim)
    if lost:
        count = product([x.shape[a] for a in axes])
        n = c.tensor(count, x.dtype)
        rest = c.tensor(count - lost, x.dtype)
        factor = c.const(count / (count - lost), x.dtype) if not is_symbolic(count) else c.op("div", n, rest)
        var = c.op("mul", var, factor)
    return var, mean if keepdim else c.reshape(mean, var.shape)


def correction_form(fn: Converter) -> Converter:
    """The `.correction` overloads, whose correction defaults to 1."""

    def convert(c: Context, x: Value, dim: Any = None, *, correction: Any = None, keepdim: bool = False) -> Any:
        return fn(c, x, dim, True, keepdim, correction=1 if correction is None else correction)

    return convert


def deviation(c: Context, *args: Any, **kwargs: Any) -> Value:
    """Square root of the variance."""
    return c.op("sqrt", variance(c, *args, **kwargs))


def variance_mean(c: Context, x: Value, dim: Any = None, unbiased: Any = True, keepdim: bool = False, *, correction: Any = None) -> list[Value]:
    """(variance, mean)."""
    return list(moments(c, x, dim, unbiased, keepdim, correction))


def deviation_mean(c: Context, *args: Any, **kwargs: Any) -> list[Value]:
    """(standard deviation, mean)."""
    var, mean = variance_mean(c, *args, **kwargs)
    return [c.op("sqrt", var), mean]


def norm(c: Context, x: Value, p: Any = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Value:
    """(sum |x|^p)^(1/p); the largest |x| for p = inf."""
    p = 2 if p is None else p
    axes = axes_of(dim, len(x.shape))
    x = c.cast(x, c.dtype)
    if p == 2:
        return c.op("sqrt", c.op("reduce_sum", c.op("mul", x, x), axes=axes, keepdims=keepdim))
    size = c.op("abs", x)
    if p in (float("inf"), float("-inf")):
        return c.op("reduce_max" if p > 0 else "reduce_min", size, axes=axes, keepdims=keepdim)
    if p == 1:
        return c.op("reduce_sum", size, axes=axes, keepdims=keepdim)
    if p == 0:
        nonzero = c.cast(c.op("not_equal", x, c.const(0, x.dtype)), c.dtype)
        return c.op("reduce_sum", nonzero, axes=axes, keepdims=keepdim)
    total = c.op("reduce_sum", c.op("pow", size, c.const(p, c.dtype)), axes=axes, keepdims=keepdim)
    return c.op("pow", total, c.const(1 / p, c.dtype))


def cdist(c: Context, a: Value, b: Value, p: float = 2.0, compute_mode: Any = None) -> Value:
    """Distances between the rows of two matrices."""
    difference = c.op("sub", c.unsqueeze(a, -2), c.unsqueeze(b, -3))
    return norm(c, difference, p, -1)


def logsumexp(c: Context, x: Value, dim: Any, keepdim: bool = False) -> Value:
    """Gives max + log(sum(e^(x - max)))."""
    axes = axes_of(dim, len(x.shape))
    top = c.op("reduce_max", x, axes=axes, keepdims=True)
    total = c.op("reduce_sum", c.op("exp", c.op("sub", x, top)), axes=axes, keepdims=keepdim)
    return c.op("add", c.op("log", total), top if keepdim else c.reshape(top, total.shape))


def cumsum(c: Context, x: Value, dim: int, *, dtype: Any = None) -> Value:
    """Running sum."""
    x = c.cast(x, c.dtype)
    return c.op("cumsum", x, axis=dim % len(x.shape)) if x.shape else x


def diff(
    c: Context, x: Value, n: int = 1, dim: int = -1, prepend: Value | None = None, append: Value | None = None
) -> Value:
    """Differences of neighbours along an axis, n times."""
    axis = dim % len(x.shape)
    parts = [p for p in (prepend, x, append) if p is not None]
    x = c.op("concat", *parts, axis=axis) if len(parts) > 1 else x
    for _ in range(n):
        size = x.shape[axis]
        later, earlier = c.slice(x, axis, 1, size), c.slice(x, axis, 0, size - 1)
        boolean = x.dtype is DType.bool
        x = c.op("logical_xor" if boolean else "sub", later, earlier)
    return x


def count_nonzero(c: Context, x: Value, dim: Any = None) -> Value:
    """How many elements are not 0."""
    return c.op("reduce_sum", c.cast(truth(c, x), DType.int64), axes=axes_of(dim, len(x.shape)))


def topk(c: Context, x: Value, k: Any, dim: int = -1, largest: bool = True, sorted: bool = True) -> list[Value]:
    """The k largest or smallest along an axis, in order, and their indices."""
    return list(c.ops("topk", x, k=static(k, "k of topk"), axis=dim % len(x.shape), largest=largest))


def sort(c: Context, x: Value, dim: int = -1, descending: bool = False) -> list[Value]:
    """All elements in order, and their indices."""
    return topk(c, x, x.shape[dim], dim, descending)


def stable_sort(c: Context, x: Value, *, stable: Any = None, dim: int = -1, descending: bool = False) -> list[Value]:
    """Gives sort that keeps the order of equal elements, as ours does."""
    return sort(c, x, dim, descending)


def argsort(c: Context, x: Value, *args: Any, **kwargs: Any) -> Value:
    """Indices that sort."""
    kwargs.pop("stable", None)
    return sort(c, x, *args, **kwargs)[1]


CONVERTERS: dict[str, Converter] = {
    **{f"aten.sum.{o}": reduction("reduce_sum") for o in ("default", "dim_IntList")},
    **{f"aten.mean.{o}": reduction("reduce_mean") for o in ("default", "dim")},
    "aten.amax.default": reduction("reduce_max"),
    "aten.amin.default": reduction("reduce_min"),
    "aten.max.default": reduction("reduce_max"),
    "aten.min.default": reduction("reduce_min"),
    **{f"aten.prod.{o}": reduction("reduce_prod") for o in ("default", "dim_int")},
    "aten.max.dim": extremum("reduce_max", "argmax"),
    "aten.min.dim": extremum("reduce_min", "argmin"),
    "aten.argmax.default": arg("argmax"),
    "aten.argmin.default": arg("argmin"),
    **{f"aten.any.{o}": truth_reduction("reduce_any") for o in ("default", "dim", "dims")},
    **{f"aten.all.{o}": truth_reduction("reduce_all") for o in ("default", "dim", "dims")},
    **{f"aten.var.{o}": variance for o in ("default", "dim")},
    "aten.var.correction": correction_form(variance),
    **{f"aten.std.{o}": deviation for o in ("default", "dim")},
    "aten.std.correction": correction_form(deviation),
    **{f"aten.var_mean.{o}": variance_mean for o in ("default", "dim")},
    "aten.var_mean.correction": correction_form(variance_mean),
    **{f"aten.std_mean.{o}": deviation_mean for o in ("default", "dim")},
    "aten.std_mean.correction": correction_form(deviation_mean),
    "aten.linalg_vector_norm.default": norm,
    **{f"aten.norm.{o}": norm for o in ("Scalar", "ScalarOpt_dim", "ScalarOpt_dim_dtype", "ScalarOpt_dtype")},
    "aten.frobenius_norm.dim": lambda c, x, dim, keepdim=False: norm(c, x, 2, dim, keepdim),
    "aten.cdist.default": cdist,
    "aten._cdist_forward.default": cdist,
    "aten.logsumexp.default": logsumexp,
    "aten.cumsum.default": cumsum,
    **{f"aten.count_nonzero.{o}": count_nonzero for o in ("default", "dim_IntList")},
    "aten.diff.default": diff,
    "aten.topk.default": topk,
    "aten.sort.default": sort,
    "aten.sort.stable": stable_sort,
    "aten.argsort.default": argsort,
    "aten.argsort.stable": argsort,
}
