"""Codes that stay within limits narrower than their type."""

from __future__ import annotations

from ..ir import QuantParams, Value
from .context import Context, Refusal


def limited_codes(c: Context, x: Value, quant: QuantParams, low: int, high: int) -> Value:
    """Codes of a real tensor within [low, high]; its operand is clipped where the type allows more.

    Raises:
        Refusal: limits of scales per channel.
    """
    if (low, high) != (quant.dtype.min, quant.dtype.max):
        if not quant.per_tensor:
            raise Refusal(f"activations per channel with codes limited to [{low}, {high}]")
        ends = [float((code - int(quant.zero_point)) * quant.scale) for code in (low, high)]
        x = c.op("clip", x, min=min(ends), max=max(ends))
    return c.op("quantize", x, quant=quant)
