"""Converters of pooling over x [N, C, spatial...]."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ....ir import Value
from ....ir.dims import is_symbolic
from ..context import OnnxContext, Refusal
from .linear import window

Converter = Callable[..., Any]


def _ceil_as_pads(c: OnnxContext, x: Value, kernel: tuple[int, ...], attrs: dict[str, Any]) -> bool:
    """What ceil_mode of the table is: True where the window at the end must be rounded up."""
    return bool(c.number("ceil_mode", 0)) and c.text("auto_pad", "NOTSET") in ("NOTSET", "VALID")


def max_pool(c: OnnxContext, x: Value) -> list[Value]:
    """Largest element of each window; where it was is not in the graph."""
    if c.outputs > 1:
        raise Refusal("the indices of MaxPool are not in the graph")
    kernel = c.integers("kernel_shape")
    attrs = window(c, x, kernel)
    if x.dtype.bits < 8:
        raise Refusal(f"MaxPool of {x.dtype.name}")
    return [c.op("max_pool", x, kernel=kernel, ceil_mode=_ceil_as_pads(c, x, kernel, attrs), **attrs)]


def avg_pool(c: OnnxContext, x: Value) -> Value:
    """Mean of each window; dilated windows as a depthwise convolution."""
    kernel = c.integers("kernel_shape")
    attrs = window(c, x, kernel)
    count_pad = bool(c.number("count_include_pad", 0))
    ceil = _ceil_as_pads(c, x, kernel, attrs)
    dilations = attrs.pop("dilations")
    if all(d == 1 for d in dilations):
        return c.op("avg_pool", x, kernel=kernel, ceil_mode=ceil, count_include_pad=count_pad, **attrs)
    if ceil or (not count_pad and any(attrs["pads"])):
        raise Refusal("a dilated AveragePool with ceil_mode, or padding that does not count")
    return _dilated(c, x, kernel, {**attrs, "dilations": dilations})


def _dilated(c: OnnxContext, x: Value, kernel: tuple[int, ...], attrs: dict[str, Any]) -> Value:
    import numpy as np

    channels = x.shape[1]
    if is_symbolic(channels):
        raise Refusal("a dilated AveragePool of a dynamic number of channels")
    taps = int(np.prod(kernel))
    weight = c.const(np.full((int(channels), 1, *kernel), 1 / taps).astype(x.dtype.numpy), x.dtype)
    return c.op("conv", x, weight, None, groups=int(channels), **attrs)


def lp_pool(c: OnnxContext, x: Value) -> Value:
    """(sum |x|^p)^(1/p) of each window: the mean of the powers times their number."""
    kernel, p = c.integers("kernel_shape"), c.number("p", 2)
    if p not in (1, 2):
        raise Refusal(f"LpPool with p={p}")
    attrs = window(c, x, kernel)
    dilations = attrs.pop("dilations")
    if _ceil_as_pads(c, x, kernel, attrs):
        raise Refusal("LpPool with ceil_mode")
    powers = c.op("abs", x) if p == 1 else c.op("mul", x, x)
    if all(d == 1 for d in dilations):
        mean = c.op("avg_pool", powers, kernel=kernel, ceil_mode=False, count_include_pad=True, **attrs)
    else:
        mean = _dilated(c, powers, kernel, {**attrs, "dilations": dilations})
    taps = 1
    for k in kernel:
        taps *= k
    total = c.op("mul", mean, c.scalar(taps, x.dtype))
    return total if p == 1 else c.op("sqrt", total)


def global_pool(op: str) -> Converter:
    """One window over all spatial axes."""
    return lambda c, x: c.op(op, x, axes=list(range(2, len(x.shape))), keepdims=True)


CONVERTERS: dict[str, Converter] = {
    "MaxPool": max_pool, "AveragePool": avg_pool, "LpPool": lp_pool,
    "GlobalAveragePool": global_pool("reduce_mean"), "GlobalMaxPool": global_pool("reduce_max"),
}  # fmt: skip
