"""e^x of float32 in plain vector arithmetic: calls of the C library take one element each."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import tirx

LEAST, MOST = -86.5, 88.72
"""Below, the result is 0 (it is less than 2.8e-38); above, infinite."""
COEFFICIENTS = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
"""Of (e^r - 1 - r) / r^2 for |r| <= log(2) / 2, highest power first; from Cephes' expf."""
LOG2_HIGH, LOG2_LOW = 0.693359375, -2.12194440e-4
"""log(2) in two parts; the first has so few bits that its products with whole numbers are exact."""


def _f(value: float) -> Any:
    return tirx.const(float(np.float32(value)), "float32")


def exponential(x: Any) -> Any:
    """e^x within 2 units in the last place, 0 and infinity beyond float32's normal numbers; not a number stays none."""
    inside = tirx.max(tirx.min(x, _f(MOST)), _f(LEAST))
    whole = tirx.nearbyint(inside * _f(1.4426950408889634))
    r = (inside - whole * _f(LOG2_HIGH)) - whole * _f(LOG2_LOW)
    value: Any = _f(COEFFICIENTS[0])
    for c in COEFFICIENTS[1:]:
        value = value * r + _f(c)
    value = value * (r * r) + (r + _f(1))
    # half of the power: 2^128 is no float32
    power = tirx.reinterpret("float32", (whole.astype("int32") + tirx.const(126, "int32")) << tirx.const(23, "int32"))
    result = value * power * _f(2)
    result = tirx.Select(x < _f(LEAST), _f(0), tirx.Select(x > _f(MOST), _f(float("inf")), result))
    return tirx.Select(tirx.isnan(x), x, result)
