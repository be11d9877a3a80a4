"""Converters of functions that the graph composes: hyperbolic and inverse trigonometric ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ...ir import Value
from ..context import Context

Converter = Callable[..., Any]


def _const(c: Context, number: float) -> Value:
    return c.const(number, c.dtype)


def erfc(c: Context, x: Value) -> Value:
    """Gives 1 - erf(x)."""
    return c.op("sub", _const(c, 1), c.op("erf", c.cast(x, c.dtype)))


def sinh(c: Context, x: Value) -> Value:
    """Gives (e^x - 1 + (e^x - 1) / e^x) / 2, which keeps small x exact."""
    x = c.cast(x, c.dtype)
    grown = c.op("expm1", x)
    total = c.op("add", grown, c.op("div", grown, c.op("exp", x)))
    return c.op("mul", total, _const(c, 0.5))


def cosh(c: Context, x: Value) -> Value:
    """Gives (e^x + e^-x) / 2."""
    x = c.cast(x, c.dtype)
    total = c.op("add", c.op("exp", x), c.op("exp", c.op("neg", x)))
    return c.op("mul", total, _const(c, 0.5))


def asin(c: Context, x: Value) -> Value:
    """Gives 2 atan(x / (1 + sqrt(1 - x^2))), which has no division by zero at +-1."""
    x = c.cast(x, c.dtype)
    root = c.op("sqrt", c.op("sub", _const(c, 1), c.op("mul", x, x)))
    half = c.op("atan", c.op("div", x, c.op("add", root, _const(c, 1))))
    return c.op("add", half, half)


def acos(c: Context, x: Value) -> Value:
    """Gives pi/2 - asin(x)."""
    return c.op("sub", _const(c, math.pi / 2), asin(c, x))


def asinh(c: Context, x: Value) -> Value:
    """Gives sign(x) log(|x| + sqrt(x^2 + 1))."""
    x = c.cast(x, c.dtype)
    size = c.op("abs", x)
    root = c.op("sqrt", c.op("add", c.op("mul", x, x), _const(c, 1)))
    return c.op("mul", c.op("sign", x), c.op("log", c.op("add", size, root)))


def acosh(c: Context, x: Value) -> Value:
    """Gives log(x + sqrt(x^2 - 1))."""
    x = c.cast(x, c.dtype)
    root = c.op("sqrt", c.op("sub", c.op("mul", x, x), _const(c, 1)))
    return c.op("log", c.op("add", x, root))


def atanh(c: Context, x: Value) -> Value:
    """Gives (log(1 + x) - log(1 - x)) / 2."""
    x = c.cast(x, c.dtype)
    spread = c.op("sub", c.op("log1p", x), c.op("log1p", c.op("neg", x)))
    return c.op("mul", spread, _const(c, 0.5))


def atan2(c: Context, y: Value, x: Value) -> Value:
    """Gives the angle of (x, y): atan(y / x), plus or minus pi in the left half plane; 0 at the origin."""
    y, x = c.cast(y, c.dtype), c.cast(x, c.dtype)
    zero = _const(c, 0)
    right = c.op("where", c.op("equal", x, zero), _const(c, 1), x)  # no division by 0; its result is not used
    angle = c.op("atan", c.op("div", y, right))
    turn = c.op("where", c.op("less", y, zero), _const(c, -math.pi), _const(c, math.pi))
    angle = c.op("where", c.op("less", x, zero), c.op("add", angle, turn), angle)
    upright = c.op("mul", c.op("sign", y), _const(c, math.pi / 2))
    return c.op("where", c.op("equal", x, zero), upright, angle)


def hypot(c: Context, a: Value, b: Value) -> Value:
    """Gives sqrt(a^2 + b^2)."""
    a, b = c.cast(a, c.dtype), c.cast(b, c.dtype)
    return c.op("sqrt", c.op("add", c.op("mul", a, a), c.op("mul", b, b)))


_FUNCTIONS: dict[str, Converter] = {
    "erfc": erfc,
    "sinh": sinh,
    "cosh": cosh,
    "asin": asin,
    "acos": acos,
    "asinh": asinh,
    "acosh": acosh,
    "atanh": atanh,
    "atan2": atan2,
    "hypot": hypot,
    "special_erfc": erfc,
    "arcsin": asin,
    "arccos": acos,
    "arctan2": atan2,
}

CONVERTERS: dict[str, Converter] = {f"aten.{name}.default": fn for name, fn in _FUNCTIONS.items()}
