"""Converters of normalizations and softmax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ....ir import Value
from ....ir.dims import product
from ..context import OnnxContext, Refusal

Converter = Callable[..., Any]


def softmax(op: str) -> Converter:
    """Along one axis; before operator set 13 over all axes from `axis` on."""

    def convert(c: OnnxContext, x: Value) -> Value:
        axis = c.axis(x, c.number("axis", -1 if c.version >= 13 else 1)) if x.shape else 0
        if c.version >= 13 or axis == len(x.shape) - 1:
            return c.op(op, x, axis=axis)
        flat = c.reshape(x, (*x.shape[:axis], product(x.shape[axis:])))
        return c.reshape(c.op(op, flat, axis=axis), x.shape)

    return convert


def batch_norm(
    c: OnnxContext, x: Value, scale: Value, bias: Value, mean: Value, var: Value
) -> Value:
    """Per channel of axis 1, with stored statistics."""
    if c.number("training_mode", 0) or (c.version < 14 and c.outputs > 1):
        raise Refusal("the model is in training mode; export it with eval()")
    if not c.number("spatial", 1) and len(x.shape) > 2:
        raise Refusal("BatchNormalization with statistics per element")
    stats = [c.cast(v, x.dtype) for v in (mean, var, scale, bias)]
    return c.op("batch_norm", x, *stats, eps=c.number("epsilon", 1e-5))


def instance_norm(c: OnnxContext, x: Value, scale: Value, bias: Value) -> Value:
    """Every channel by itself: a group norm with as many groups as channels."""
    return c.op("group_norm", x, scale, bias, groups=int(x.shape[1]), eps=c.number("epsilon", 1e-5))


def group_norm(c: OnnxContext, x: Value, scale: Value, bias: Value) -> Value:
    """Groups of channels; before operator set 21 scale and bias are per group."""
    groups, channels = c.number("num_groups"), x.shape[1]
    if c.version < 21 and scale.shape != (channels,):
        each = channels // groups
        scale, bias = (c.reshape(c.expand(c.reshape(v, (groups, 1)), (groups, each)), (channels,)) for v in (scale, bias))
    return c.op("group_norm", x, scale, bias, groups=groups, eps=c.number("epsilon", 1e-5))


def _affine_fits(x: Value, value: Value | None, axis: int) -> bool:
    return value is None or value.shape == tuple(x.shape[axis:])


def layer_norm(c: OnnxContext, x: Value, scale: Value | None = None, bias: Value | None = None) -> list[Value]:
    """Over all axes from `axis` on; mean and inverse deviation are further results."""
    axis, eps = c.axis(x, c.number("axis", -1)), c.number("epsilon", 1e-5)
    count = len(x.shape) - axis
    fits = _affine_fits(x, scale, axis) and _affine_fits(x, bias, axis)
    y = c.op("layer_norm", x, scale if fits else None, bias if fits else None, eps=eps, axes=count)
    if not fits:
        y = y if scale is None else c.op("mul", y, scale)
        y = y if bias is None else c.op("add", y, bias)
    if c.outputs < 2:
        return [y]
    axes = list(range(axis, len(x.shape)))
    mean = c.op("reduce_mean", x, axes=axes, keepdims=True)
    centred = c.op("sub", x, mean)
    var = c.op("reduce_mean", c.op("mul", centred, centred), axes=axes, keepdims=True)
    return [y, mean, c.op("rsqrt", c.op("add", var, c.scalar(eps, x.dtype)))]


def rms_norm(c: OnnxContext, x: Value, scale: Value) -> Value:
    """x / rms(x) times a scale, over all axes from `axis` on."""
    axis, eps = c.axis(x, c.number("axis", -1)), c.number("epsilon", 1e-5)
    count = len(x.shape) - axis
    if _affine_fits(x, scale, axis):
        return c.op("rms_norm", x, scale, eps=eps, axes=count)
    return c.op("mul", c.op("rms_norm", x, eps=eps, axes=count), scale)


def lp_norm(c: OnnxContext, x: Value) -> Value:
    """x / |x|_p along an axis; 0 where the norm is 0."""
    axis, p = c.axis(x, c.number("axis", -1)), c.number("p", 2)
    if p not in (1, 2):
        raise Refusal(f"LpNormalization with p={p}")
    powers = c.op("abs", x) if p == 1 else c.op("mul", x, x)
    size = c.op("reduce_sum", powers, axes=[axis], keepdims=True)
    size = size if p == 1 else c.op("sqrt", size)
    zero = c.scalar(0, x.dtype)
    safe = c.op("where", c.op("equal", size, zero), c.scalar(1, x.dtype), size)
    return c.op("div", x, safe)


def local_response(c: OnnxContext, x: Value) -> Value:
    """x / (bias + alpha/size * sum of squares over `size` neighbouring channels)^beta (Krizhevsky et al. 2012)."""
    size = c.number("size")
    alpha, beta, bias = c.number("alpha", 1e-4), c.number("beta", 0.75), c.number("bias", 1.0)
    rank = len(x.shape)
    pads = [0] * (2 * rank)
    pads[1], pads[rank + 1] = (size - 1) // 2, size - 1 - (size - 1) // 2
    padded = c.op("pad", c.op("mul", x, x), pads=pads, mode="constant", value=0.0)
    total = c.slice(padded, 1, 0, x.shape[1])
    for i in range(1, size):
        total = c.op("add", total, c.op("slice", padded, axis=1, start=i, stop=i + x.shape[1]))
    base = c.op("add", c.op("mul", total, c.scalar(alpha / size, x.dtype)), c.scalar(bias, x.dtype))
    return c.op("div", x, c.op("pow", base, c.scalar(beta, x.dtype)))


CONVERTERS: dict[str, Converter] = {
    "Softmax": softmax("softmax"), "LogSoftmax": softmax("log_softmax"), "BatchNormalization": batch_norm,
    "InstanceNormalization": instance_norm, "GroupNormalization": group_norm, "LayerNormalization": layer_norm,
    "RMSNormalization": rms_norm, "LpNormalization": lp_norm, "LRN": local_response,
}  # fmt: skip

