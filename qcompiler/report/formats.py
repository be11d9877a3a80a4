"""Numbers as people read them. The same functions serve the page and the console.

A missing figure is an en dash. Sizes are decimal (1 MB = 10^6 bytes). Numbers and units are joined by
a no-break space.
"""

from __future__ import annotations

import math

MISSING = "\N{EN DASH}"
_NBSP = "\N{NO-BREAK SPACE}"
_MINUS = "\N{MINUS SIGN}"
_TIMES = "\N{MULTIPLICATION SIGN}"
_SAME = 0.01
"""Ratios nearer to 1 than this are called the same."""


def number(value: float | None, digits: int = 3) -> str:
    """`digits` significant digits; plain notation between 1e-4 and 1e6."""
    if value is None:
        return MISSING
    if math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return "∞" if value > 0 else f"{_MINUS}∞"
    if value == 0:
        return "0"
    magnitude = abs(value)
    if 1e-4 <= magnitude < 1e6:
        places = max(0, digits - 1 - math.floor(math.log10(magnitude)))
        text = f"{value:,.{places}f}"
    else:
        text = f"{value:.{digits - 1}e}"
    return text.replace("-", _MINUS)


def figure(value: object) -> str:
    """A figure of any JSON type."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return MISSING if value is None else str(value)
    return whole(value) if isinstance(value, int) else number(value)


def whole(value: int | None) -> str:
    """An integer with thousands separators."""
    return MISSING if value is None else f"{value:,}".replace("-", _MINUS)


def decibels(value: float | None) -> str:
    """`24.1 dB`; infinite is `exact`."""
    if value is None:
        return MISSING
    if value == math.inf:
        return "exact"
    return (f"{value:.1f}".replace("-", _MINUS) if math.isfinite(value) else number(value)) + f"{_NBSP}dB"


def milliseconds(value: float | None) -> str:
    """`5.31 ms`."""
    return MISSING if value is None else f"{number(value)}{_NBSP}ms"


def seconds(value: float | None) -> str:
    """`4.2 s`, `3 min 20 s`."""
    if value is None:
        return MISSING
    if value < 60:
        return f"{value:.1f}{_NBSP}s" if value >= 0.1 else f"{value * 1000:.0f}{_NBSP}ms"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes}{_NBSP}min {rest}{_NBSP}s"


def size(value: float | None) -> str:
    """Bytes as `4.92 MB`."""
    if value is None:
        return MISSING
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= scale:
            return f"{number(value / scale)}{_NBSP}{unit}"
    return f"{value:.0f}{_NBSP}B"


def percent(share: float | None) -> str:
    """One decimal. Only exactly 1 is `100 %` and only exactly 0 is `0 %`: a rest is never rounded away."""
    if share is None:
        return MISSING
    if not math.isfinite(share):
        return number(share)
    if share in (0, 1):
        text = f"{share:.0%}"[:-1]
    elif 0 < share < 0.001:
        text = number(share * 100, 1)
    elif 0.999 < share < 1:
        text = ">99.9"
    else:
        text = f"{share * 100:.1f}".replace("-", _MINUS)
    return f"{text}{_NBSP}%"


def times(value: float | None) -> str:
    """`0.43×`."""
    return MISSING if value is None else f"{number(value)}{_TIMES}"


def faster(ratio: float | None) -> str:
    """A latency ratio (quantized / float) in words: `2.3× faster`."""
    return _compare(ratio, "faster", "slower", "same speed")


def smaller(ratio: float | None) -> str:
    """A size ratio (artefact / float) in words: `3.8× smaller`."""
    return _compare(ratio, "smaller", "larger", "same size")


def _compare(ratio: float | None, better: str, worse: str, same: str) -> str:
    if ratio is None:
        return MISSING
    if abs(ratio - 1) < _SAME:
        return same
    if ratio == 0:
        return f"∞{_TIMES} {better}"
    factor = 1 / ratio if ratio < 1 else ratio
    digits = 3 if factor < 1.1 or ratio > 1 else 2
    return f"{number(factor, digits)}{_TIMES} {better if ratio < 1 else worse}"
