"""Codes that stay within limits narrower than their type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..ir import DType, QuantParams, Value

_TYPES = sorted((d for d in DType if d.is_integer and d.bits <= 32 and d is not DType.uint32), key=lambda d: d.bits)


def narrowest(low: int, high: int) -> DType | None:
    """The type of fewest bits that holds [low, high]; None if none does."""
    return next((d for d in _TYPES if d.min <= low <= high <= d.max), None)


def clipped(op: Callable[..., Any], x: Value, quant: QuantParams, low: int, high: int) -> Value:
    """A real tensor whose codes lie within [low, high]; itself where the type allows no more. `op` appends a node.

    Raises:
        ValueError: limits of scales per channel.
    """
    if (low, high) == (quant.dtype.min, quant.dtype.max):
        return x
    if not quant.per_tensor:
        raise ValueError(f"activations per channel with codes limited to [{low}, {high}]")
    ends = [float((code - int(quant.zero_point)) * quant.scale) for code in (low, high)]
    return op("clip", x, min=min(ends), max=max(ends))  # type: ignore[no-any-return]
