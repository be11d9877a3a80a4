"""Converters of normalizations and softmax."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...ir import Value
from ..context import Context, Refusal

Converter = Callable[..., Any]


def layer_norm(
    c: Context,
    x: Value,
    normalized_shape: Sequence[int],
    weight: Value | None = None,
    bias: Value | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Value:
    """Layer norm over the last axes."""
    return c.op("layer_norm", x, weight, bias, eps=eps, axes=len(normalized_shape))


def native_layer_norm(c: Context, *args: Any) -> list[Value | None]:
    """The form of decomposed programs: (y, mean, rstd), of which inference uses y."""
    return [layer_norm(c, *args), None, None]


def rms_norm(
    c: Context, x: Value, normalized_shape: Sequence[int], weight: Value | None = None, eps: float | None = None
) -> Value:
    """RMS norm over the last axes; eps defaults to the type's machine epsilon."""
    if eps is None:
        eps = float(np.finfo(x.dtype.numpy).eps)
    return c.op("rms_norm", x, weight, eps=eps, axes=len(normalized_shape))


def batch_norm(
    c: Context,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    mean: Value | None,
    var: Value | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = True,
) -> Value:
    """Batch norm with stored statistics."""
    if mean is None or var is None:
        return _standardize(c, x, weight, bias, eps)
    if training:
        raise Refusal("batch norm uses the statistics of the batch; call eval() on the model first")
    return c.op("batch_norm", x, mean, var, weight, bias, eps=eps)


def _standardize(c: Context, x: Value, weight: Value | None, bias: Value | None, eps: float) -> Value:
    """Batch norm without stored statistics, over all axes but 1: how weight standardization is written."""
    axes = [a for a in range(len(x.shape)) if a != 1]
    view = [-1 if a == 1 else 1 for a in range(len(x.shape))]
    centred = c.op("sub", x, c.op("reduce_mean", x, axes=axes, keepdims=True))
    var = c.op("reduce_mean", c.op("mul", centred, centred), axes=axes, keepdims=True)
    y = c.op("mul", centred, c.op("rsqrt", c.op("add", var, c.const(eps, x.dtype))))
    for op, value in (("mul", weight), ("add", bias)):
        if value is not None:
            y = c.op(op, y, c.reshape(value, [value.shape[0] if n == -1 else 1 for n in view]))
    return y


def native_batch_norm(
    c: Context, x: Value, weight: Value, bias: Value, mean: Value, var: Value, momentum: float, eps: float
) -> list[Value | None]:
    """The form of decomposed programs."""
    return [batch_norm(c, x, weight, bias, mean, var, False, momentum, eps), None, None]


def group_norm(
    c: Context,
    x: Value,
    groups: int,
    weight: Value | None = None,
    bias: Value | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Value:
    """Group norm."""
    return c.op("group_norm", x, weight, bias, groups=groups, eps=eps)


def native_group_norm(
    c: Context, x: Value, weight: Value, bias: Value, n: Any, channels: Any, size: Any, groups: int, eps: float
) -> list[Value | None]:
    """The form of decomposed programs."""
    return [group_norm(c, x, groups, weight, bias, eps), None, None]


def instance_norm(
    c: Context,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    mean: Value | None,
    var: Value | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = True,
) -> Value:
    """Instance norm: group norm with one channel per group, or batch norm on stored statistics."""
    if not use_input_stats:
        return c.op("batch_norm", x, mean, var, weight, bias, eps=eps)
    return c.op("group_norm", x, weight, bias, groups=x.shape[1], eps=eps)


def weight_norm(c: Context, v: Value, g: Value, dim: int = 0) -> Value:
    """G v / |v|, the norm taken over all axes but `dim` (Salimans & Kingma 2016, equation 2)."""
    axes = [a for a in range(len(v.shape)) if a != dim % len(v.shape)]
    length = c.op("sqrt", c.op("reduce_sum", c.op("mul", v, v), axes=axes, keepdims=True))
    return c.op("mul", v, c.op("div", g, length))


def softmax(op: str) -> Converter:
    """Softmax or its logarithm, in the result's dtype."""
    return lambda c, x, dim, *_, **__: c.op(op, c.cast(x, c.dtype), axis=dim % max(len(x.shape), 1))


def softmin(c: Context, x: Value, dim: int) -> Value:
    """softmax(-x)."""
    return c.op("softmax", c.op("neg", x), axis=dim % len(x.shape))


CONVERTERS: dict[str, Converter] = {
    "aten.layer_norm.default": layer_norm,
    "aten.native_layer_norm.default": native_layer_norm,
    "aten.rms_norm.default": rms_norm,
    "aten.batch_norm.default": batch_norm,
    "aten._native_batch_norm_legit_no_training.default": native_batch_norm,
    "aten.group_norm.default": group_norm,
    "aten.native_group_norm.default": native_group_norm,
    "aten.instance_norm.default": instance_norm,
    **{f"aten.{name}": softmax("softmax") for name in ("softmax.int", "_softmax.default", "_safe_softmax.default")},
    **{f"aten.{name}": softmax("log_softmax") for name in ("log_softmax.int", "_log_softmax.default")},
    "aten._weight_norm.default": weight_norm,
    "aten.softmin.int": softmin,
}
