"""Converters of activation functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...ir import Value
from ..context import Context
from .elementwise import unary

Converter = Callable[..., Any]


def gelu(c: Context, x: Value, *, approximate: str = "none") -> Value:
    """GELU, exact or tanh."""
    return c.op("gelu", x, approximate=approximate)


def relu6(c: Context, x: Value) -> Value:
    """clip(x, 0, 6)."""
    return c.op("clip", x, min=0.0, max=6.0)


def hardtanh(c: Context, x: Value, min_val: float = -1.0, max_val: float = 1.0) -> Value:
    """clip(x, min, max)."""
    return c.op("clip", x, min=min_val, max=max_val)


def leaky_relu(c: Context, x: Value, negative_slope: float = 0.01) -> Value:
    """Leaky ReLU."""
    return c.op("leaky_relu", x, slope=negative_slope)


def elu(c: Context, x: Value, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Value:
    """Scaled exponential linear unit."""
    if input_scale != 1:
        x = c.op("where", c.op("greater", x, c.const(0, c.dtype)), x, _times(c, x, input_scale))
    return _times(c, c.op("elu", x, alpha=alpha), scale)


def selu(c: Context, x: Value) -> Value:
    """Self-normalizing ELU (Klambauer et al. 2017, equation 2)."""
    return elu(c, x, 1.6732632423543772848170429916717, 1.0507009873554804934193349852946)


def celu(c: Context, x: Value, alpha: float = 1.0) -> Value:
    """max(0, x) + min(0, alpha (e^(x/alpha) - 1))."""
    return _times(c, c.op("elu", _times(c, x, 1 / alpha), alpha=1.0), alpha)


def _times(c: Context, x: Value, factor: float) -> Value:
    return x if factor == 1 else c.op("mul", x, c.const(factor, x.dtype))


def softplus(c: Context, x: Value, beta: float = 1.0, threshold: float = 20.0) -> Value:
    """log(1 + e^(beta x)) / beta."""
    return c.op("softplus", x, beta=beta, threshold=threshold)


def prelu(c: Context, x: Value, weight: Value) -> Value:
    """Slope per channel of axis 1, or one for all."""
    rank = len(x.shape)
    if rank > 2 or (rank == 2 and weight.shape and weight.shape[0] != 1):
        weight = c.reshape(weight, (weight.shape[0] if weight.shape else 1, *[1] * (rank - 2)))
    return c.op("prelu", x, weight)


def log_sigmoid(c: Context, x: Value) -> Value:
    """-softplus(-x)."""
    return c.op("neg", c.op("softplus", c.op("neg", x)))


def glu(c: Context, x: Value, dim: int = -1) -> Value:
    """First half times the sigmoid of the second."""
    axis = dim % len(x.shape)
    half = x.shape[axis] // 2
    gate = c.op("sigmoid", c.slice(x, axis, half, x.shape[axis]))
    return c.op("mul", c.slice(x, axis, 0, half), gate)


CONVERTERS: dict[str, Converter] = {
    "aten.hardsigmoid.default": unary("hard_sigmoid"),
    "aten.hardswish.default": unary("hard_swish"),
    "aten.gelu.default": gelu,
    "aten.relu6.default": relu6,
    "aten.hardtanh.default": hardtanh,
    "aten.leaky_relu.default": leaky_relu,
    "aten.elu.default": elu,
    "aten.selu.default": selu,
    "aten.celu.default": celu,
    "aten.softplus.default": softplus,
    "aten.prelu.default": prelu,
    "aten._prelu_kernel.default": lambda c, x, weight: c.op("prelu", x, weight),
    "aten.log_sigmoid.default": log_sigmoid,
    "aten.glu.default": glu,
}
