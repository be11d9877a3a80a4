"""Converters of pooling and resizing over x [N, C, spatial...]; a missing batch axis is added and removed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from ...ir import Value
from ..context import Context, Refusal, static

Converter = Callable[..., Any]


def _each(value: Any, rank: int) -> list[int]:
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    return [static(v, "kernel, stride and padding") for v in (values * rank if len(values) == 1 else values)]


def max_pool(rank: int) -> Converter:
    """Largest element of each window."""

    def convert(
        c: Context, x: Value, kernel: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
    ) -> Value:
        kernel = _each(kernel, rank)
        attrs = {
            "kernel": kernel,
            "strides": _each(stride, rank) if stride not in ((), []) else kernel,
            "pads": _each(padding, rank) * 2,
            "dilations": _each(dilation, rank),
        }
        return _batched(c, x, rank, lambda v: c.op("max_pool", v, ceil_mode=ceil_mode, **attrs))

    return convert


def with_indices(rank: int) -> Converter:
    """The form of decomposed programs; indices of the maxima have no counterpart and must not be used."""
    return lambda c, *args, **kwargs: [max_pool(rank)(c, *args, **kwargs), None]


def avg_pool(rank: int) -> Converter:
    """Mean of each window."""

    def convert(
        c: Context,
        x: Value,
        kernel: Any,
        stride: Any = (),
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Value:
        if divisor_override is not None:
            raise Refusal("avg_pool with divisor_override is not in the graph")
        kernel = _each(kernel, rank)
        attrs = {
            "kernel": kernel,
            "strides": _each(stride, rank) if stride not in ((), []) else kernel,
            "pads": _each(padding, rank) * 2,
            "ceil_mode": ceil_mode,
            "count_include_pad": count_include_pad,
        }
        return _batched(c, x, rank, lambda v: c.op("avg_pool", v, **attrs))

    return convert


def _batched(c: Context, x: Value, rank: int, fn: Callable[[Value], Value]) -> Value:
    if len(x.shape) == rank + 2:
        return fn(x)
    return c.reshape(fn(c.unsqueeze(x, 0)), c.shape)


def adaptive_pool(kind: str, rank: int) -> Converter:
    """Pooling to a given size: a reduction to size 1, equal windows where they divide, else windows that overlap."""

    def convert(c: Context, x: Value, size: Any) -> Value:
        lead = len(x.shape) - rank
        wanted = list(size) if isinstance(size, (list, tuple)) else [size] * rank
        target = [x.shape[lead + i] if n is None else n for i, n in enumerate(wanted)]
        if all(n == 1 for n in target):
            op = "reduce_mean" if kind == "avg" else "reduce_max"
            return c.op(op, x, axes=range(lead, lead + rank), keepdims=True)
        if list(x.shape[lead:]) == target:
            return x
        have = [static(d, "the size that adaptive pooling starts from") for d in x.shape[lead:]]
        if all(h % n == 0 for h, n in zip(have, target, strict=True)):
            kernel = [h // n for h, n in zip(have, target, strict=True)]
            pool = max_pool(rank) if kind == "max" else avg_pool(rank)
            return pool(c, x, kernel)
        for i, n in enumerate(target):
            x = _overlapping(c, x, lead + i, n, "reduce_mean" if kind == "avg" else "reduce_max")
        return x

    return convert


def _overlapping(c: Context, x: Value, axis: int, count: int, op: str) -> Value:
    """Window i spans [floor(i n / m), ceil((i + 1) n / m)) along an axis of n, as in torch."""
    size = static(x.shape[axis], "the size that adaptive pooling starts from")
    parts = []
    for i in range(count):
        window = c.slice(x, axis, i * size // count, -(-(i + 1) * size // count))
        parts.append(c.op(op, window, axes=[axis], keepdims=True))
    return parts[0] if count == 1 else c.op("concat", *parts, axis=axis)


def max_with_indices(rank: int) -> Converter:
    """adaptive_max_pool: (values, indices), of which the values exist here."""
    return lambda c, x, size: [adaptive_pool("max", rank)(c, x, size), None]


def upsample(mode: str, exact: bool = True) -> Converter:
    """Gives interpolate. `exact` modes are the graph's resize where the scale is the ratio of the sizes."""

    def convert(c: Context, x: Value, *args: Any, **kwargs: Any) -> Value:
        schema = [a.name for a in c.node.target._schema.arguments[1:]]
        given = {**dict(zip(schema, args, strict=False)), **kwargs}
        size = c.shape[2:]
        corners = bool(given.get("align_corners", False))
        if exact and _plain_ratio(x.shape[2:], size, given):
            return c.op("resize", x, size=size, mode=mode, align_corners=corners)
        for i in range(len(size)):
            x = _resample(c, x, i, given)
        return x

    return convert


def _plain_ratio(before: Sequence[Any], after: Sequence[Any], given: dict[str, Any]) -> bool:
    """True if the scale that torch uses is the ratio of the two sizes (always so with align_corners)."""
    scales = given.get("scale_factors") or [v for k, v in given.items() if k.startswith("scales")]
    if given.get("align_corners") or not scales or all(s is None for s in scales):
        return True
    return all(s is None or b * s == a or b * int(s) == a and s == int(s) for b, a, s in zip(before, after, scales, strict=False))


def _resample(c: Context, x: Value, i: int, given: dict[str, Any]) -> Value:
    """One axis through the matrix that torch's own op applies to it: [in] -> [out], found from unit vectors."""
    axis = 2 + i
    size = static(x.shape[axis], "a size that is resampled so")
    out = static(c.shape[axis], "a size that is resampled so")
    rank = len(c.shape) - 2
    # The other axes have 2 elements: with 1, torch's antialiasing kernel takes the wrong axis for the rows.
    units = torch.eye(size, dtype=torch.float32).reshape(1, size, *[size if j == i else 1 for j in range(rank)])
    units = units.expand(1, size, *[size if j == i else 2 for j in range(rank)]).contiguous()
    arguments = dict(given)
    if arguments.get("output_size") is not None:
        arguments["output_size"] = [out if j == i else 2 for j in range(rank)]
    if arguments.get("scale_factors"):
        arguments["scale_factors"] = [s if j == i else 1.0 for j, s in enumerate(arguments["scale_factors"])]
    with torch.no_grad():
        resampled = c.node.target(units, **arguments)[0]
    for j in reversed([j for j in range(rank) if j != i]):
        resampled = resampled.select(1 + j, 0)
    matrix = resampled.numpy()
    if np.array_equal(matrix.sum(0), np.ones(out)) and set(np.unique(matrix)) <= {0.0, 1.0}:
        return c.op("gather", x, c.const(matrix.argmax(0).astype(np.int64)), axis=axis)
    perm = [a for a in range(len(x.shape)) if a != axis] + [axis]
    y = c.op("matmul", c.transpose(x, perm), c.const(matrix, x.dtype))
    return c.transpose(y, np.argsort(perm).tolist())


CONVERTERS: dict[str, Converter] = {
    **{f"aten.max_pool{n}d.default": max_pool(n) for n in (1, 2, 3)},
    **{f"aten.max_pool{n}d_with_indices.default": with_indices(n) for n in (2, 3)},
    **{f"aten.avg_pool{n}d.default": avg_pool(n) for n in (1, 2, 3)},
    **{f"aten.adaptive_avg_pool{n}d.default": adaptive_pool("avg", n) for n in (1, 2, 3)},
    **{f"aten._adaptive_avg_pool{n}d.default": adaptive_pool("avg", n) for n in (2, 3)},
    **{f"aten.adaptive_max_pool{n}d.default": max_with_indices(n) for n in (1, 2, 3)},
    **{
        f"aten.upsample_{name}.{o}": upsample(mode)
        for name, mode in (
            ("nearest1d", "nearest"),
            ("nearest2d", "nearest"),
            ("nearest3d", "nearest"),
            ("linear1d", "linear"),
            ("bilinear2d", "linear"),
            ("trilinear3d", "linear"),
            ("bicubic2d", "cubic"),
        )
        for o in ("default", "vec")
    },
    **{
        f"aten.{name}.{o}": upsample("", exact=False)
        for name in (
            "_upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d _upsample_bilinear2d_aa"
            " _upsample_bicubic2d_aa"
        ).split()
        for o in ("default", "vec")
    },
}
