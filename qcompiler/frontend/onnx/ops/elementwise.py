"""Converters of elementwise ops."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from ....ir import DType, Value
from ...aten import trigonometry
from ..context import OnnxContext, Refusal

Converter = Callable[..., Any]

_UNARY = {
    "Abs": "abs", "Neg": "neg", "Exp": "exp", "Log": "log", "Sqrt": "sqrt", "Reciprocal": "reciprocal", "Sin": "sin",
    "Cos": "cos", "Tan": "tan", "Atan": "atan", "Tanh": "tanh", "Erf": "erf", "Sigmoid": "sigmoid", "Floor": "floor",
    "Ceil": "ceil", "Round": "round", "Sign": "sign", "Relu": "relu", "Mish": "mish", "HardSwish": "hard_swish",
    "Not": "logical_not", "IsNaN": "is_nan",
}  # fmt: skip
_BINARY = {"Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div"}
_COMPARE = {
    "Equal": "equal", "Less": "less", "Greater": "greater", "LessOrEqual": "less_equal",
    "GreaterOrEqual": "greater_equal", "And": "logical_and", "Or": "logical_or", "Xor": "logical_xor",
}  # fmt: skip
_FOLDED = {"Max": "maximum", "Min": "minimum", "Sum": "add"}


def unary(op: str) -> Converter:
    """An op of the table with the same meaning."""
    return lambda c, x: c.op(op, x)


def binary(op: str) -> Converter:
    """Two operands that broadcast; before operator set 7 by attributes."""

    def convert(c: OnnxContext, a: Value, b: Value) -> Value:
        if c.version < 7 and c.number("broadcast", 0):
            b = _at_axis(c, a, b)
        return c.op(op, a, b)

    return convert


def _at_axis(c: OnnxContext, a: Value, b: Value) -> Value:
    """Operator sets below 7: the axes of b stand for those of a from `axis` on."""
    axis = c.number("axis", None)
    if axis is None:
        return b
    start = c.axis(a, axis)
    return c.reshape(b, (*b.shape, *[1] * (len(a.shape) - start - len(b.shape))))


def folded(op: str) -> Converter:
    """Any number of operands, from left to right."""
    return lambda c, *xs: functools.reduce(lambda a, b: c.op(op, a, b), xs)


def mean(c: OnnxContext, *xs: Value) -> Value:
    """Sum over the operands divided by their number."""
    total = folded("add")(c, *xs)
    return total if len(xs) == 1 else c.op("div", total, c.scalar(len(xs), total.dtype))


def power(c: OnnxContext, a: Value, b: Value) -> Value:
    """The exponent may have another type; the result has the base's."""
    if a.dtype.is_integer and b.dtype.is_float:
        wide = c.op("pow", c.cast(a, DType.float64), c.cast(b, DType.float64))
        return c.cast(wide, a.dtype)
    return binary("pow")(c, a, c.cast(b, a.dtype))


def mod(c: OnnxContext, a: Value, b: Value) -> Value:
    """fmod=0: the sign of the divisor; 1: that of the dividend."""
    return c.op("fmod" if c.number("fmod", 0) else "mod", a, b)


def where(c: OnnxContext, condition: Value, a: Value, b: Value) -> Value:
    """Choice per element."""
    return c.op("where", condition, a, b)


def clip(c: OnnxContext, x: Value, low: Value | None = None, high: Value | None = None) -> Value:
    """Bounds are attributes (before 11), constants, or values."""
    if c.version < 11:
        return _limit(c, x, c.number("min", None), c.number("max", None))
    bounds = []
    for bound in (low, high):
        if bound is not None and bound.data is None:
            x = x if low is None else c.op("maximum", x, c.cast(low, x.dtype))
            return x if high is None else c.op("minimum", x, c.cast(high, x.dtype))
        bounds.append(None if bound is None or bound.data is None else bound.data.reshape(()).item())
    return _limit(c, x, *bounds)


def _limit(c: OnnxContext, x: Value, low: Any, high: Any) -> Value:
    """Bounds that do not bind are absent, so that one of them alone is a ReLU."""
    if x.dtype.is_float:
        low = None if low is not None and low <= -3.4e38 else low
        high = None if high is not None and high >= 3.4e38 else high
    if low is None and high is None:
        return x
    return c.op("relu", x) if low == 0 and high is None else c.op("clip", x, min=low, max=high)


def cast(c: OnnxContext, x: Value) -> Value:
    """Another type; float to integer truncates, anything but 0 is true."""
    return _cast(c, x, c.dtype_attr("to"))


def cast_like(c: OnnxContext, x: Value, like: Value) -> Value:
    """The type of another value."""
    return _cast(c, x, like.dtype)


def _cast(c: OnnxContext, x: Value, dtype: DType) -> Value:
    for kind in (x.dtype, dtype):
        if kind.is_integer and kind.bits < 8 and x.dtype is not dtype:
            raise Refusal(f"{x.dtype.name} to {dtype.name}: numbers below 8 bits exist as weights only")
    return c.cast(x, dtype)


def leaky_relu(c: OnnxContext, x: Value) -> Value:
    """Slope below 0."""
    return c.op("leaky_relu", x, slope=c.number("alpha", 0.01))


def elu(c: OnnxContext, x: Value) -> Value:
    """Exponential below 0."""
    return c.op("elu", x, alpha=c.number("alpha", 1.0))


def selu(c: OnnxContext, x: Value) -> Value:
    """Scaled exponential below 0 (Klambauer et al. 2017)."""
    alpha = c.number("alpha", 1.67326319217681884765625 if c.version >= 6 else 1.6732)
    gamma = c.number("gamma", 1.05070102214813232421875 if c.version >= 6 else 1.0507)
    return c.op("mul", c.op("elu", x, alpha=alpha), c.scalar(gamma, x.dtype))


def celu(c: OnnxContext, x: Value) -> Value:
    """max(0, x) + min(0, alpha (e^(x / alpha) - 1))."""
    alpha = c.scalar(c.number("alpha", 1.0), x.dtype)
    return c.op("mul", c.op("elu", c.op("div", x, alpha), alpha=1.0), alpha)


def thresholded_relu(c: OnnxContext, x: Value) -> Value:
    """x where it is above alpha, else 0."""
    above = c.op("greater", x, c.scalar(c.number("alpha", 1.0), x.dtype))
    return c.op("where", above, x, c.scalar(0, x.dtype))


def hard_sigmoid(c: OnnxContext, x: Value) -> Value:
    """clip(alpha x + beta, 0, 1); with 1/6 and 1/2 the graph's own op."""
    alpha, beta = c.number("alpha", 0.2), c.number("beta", 0.5)
    if math.isclose(alpha, 1 / 6, rel_tol=1e-6) and beta == 0.5:
        return c.op("hard_sigmoid", x)
    line = c.op("add", c.op("mul", x, c.scalar(alpha, x.dtype)), c.scalar(beta, x.dtype))
    return c.op("clip", line, min=0.0, max=1.0)


def softsign(c: OnnxContext, x: Value) -> Value:
    """x / (1 + |x|)."""
    return c.op("div", x, c.op("add", c.scalar(1, x.dtype), c.op("abs", x)))


def softplus(c: OnnxContext, x: Value) -> Value:
    """log(1 + e^x)."""
    return c.op("softplus", x)


def shrink(c: OnnxContext, x: Value) -> Value:
    """x + bias below -lambd, x - bias above lambd, else 0."""
    bias, edge = c.number("bias", 0.0), c.number("lambd", 0.5)
    low = c.op("less", x, c.scalar(-edge, x.dtype))
    high = c.op("greater", x, c.scalar(edge, x.dtype))
    shift = c.scalar(bias, x.dtype)
    upper = c.op("where", high, c.op("sub", x, shift), c.scalar(0, x.dtype))
    return c.op("where", low, c.op("add", x, shift), upper)


def swish(c: OnnxContext, x: Value) -> Value:
    """x sigmoid(alpha x)."""
    alpha = c.number("alpha", 1.0)
    if alpha == 1:
        return c.op("silu", x)
    return c.op("mul", x, c.op("sigmoid", c.op("mul", x, c.scalar(alpha, x.dtype))))


def gelu(c: OnnxContext, x: Value) -> Value:
    """approximate: none or tanh."""
    return c.op("gelu", x, approximate=c.text("approximate", "none"))


def prelu(c: OnnxContext, x: Value, slope: Value) -> Value:
    """A slope per channel; before operator set 7 it has no trailing axes."""
    if c.version < 7 and len(slope.shape) == 1 and len(x.shape) > 2:
        slope = c.reshape(slope, (*slope.shape, *[1] * (len(x.shape) - 2)))
    return c.op("prelu", x, slope)


def is_inf(c: OnnxContext, x: Value) -> Value:
    """Infinities of the signs that are asked for."""
    result = c.op("is_inf", x)
    for wanted, relation in ((c.number("detect_negative", 1), "greater"), (c.number("detect_positive", 1), "less")):
        if not wanted:
            result = c.op("logical_and", result, c.op(relation, x, c.scalar(0, x.dtype)))
    return result


def identity(c: OnnxContext, x: Value) -> Value:
    """The value itself."""
    return x


def dropout(c: OnnxContext, x: Value, ratio: Value | None = None, training: Value | None = None) -> list[Value]:
    """Nothing is dropped outside of training; the mask is all true."""
    active = training is not None and bool(c.array_of(training, "training_mode").any())
    if active and (ratio is None or c.array_of(ratio, "ratio").any()):
        raise Refusal("the model is in training mode; export it with eval()")
    if c.outputs < 2:
        return [x]
    return [x, c.op("full", shape=x.shape, value=1.0, dtype=DType.bool if c.version >= 10 else x.dtype)]


CONVERTERS: dict[str, Converter] = {
    **{name: unary(op) for name, op in _UNARY.items()},
    **{name: binary(op) for name, op in {**_BINARY, **_COMPARE}.items()},
    **{name: folded(op) for name, op in _FOLDED.items()},
    "Acos": trigonometry.acos, "Acosh": trigonometry.acosh, "Asin": trigonometry.asin, "Asinh": trigonometry.asinh,
    "Atanh": trigonometry.atanh, "Cosh": trigonometry.cosh, "Sinh": trigonometry.sinh,
    "Mean": mean, "Pow": power, "Mod": mod, "Where": where, "Clip": clip, "Cast": cast, "CastLike": cast_like,
    "LeakyRelu": leaky_relu, "Elu": elu, "Selu": selu, "Celu": celu, "ThresholdedRelu": thresholded_relu,
    "HardSigmoid": hard_sigmoid, "Softsign": softsign, "Softplus": softplus, "Shrink": shrink, "Swish": swish,
    "Gelu": gelu, "PRelu": prelu, "IsInf": is_inf, "Identity": identity, "Dropout": dropout,
}  # fmt: skip
