"""Dimensions as ONNX files write them."""

from __future__ import annotations

import keyword
import re

from ...ir.dims import Dim, parse, symbol


def named_dim(text: str) -> Dim:
    """A dynamic dimension; names that are no identifiers lose what does not fit, expressions are kept."""
    try:
        return parse(text)
    except (ValueError, TypeError, AttributeError):
        plain = re.sub(r"\W", "_", text, flags=re.ASCII).strip("_") or "dim"
        plain = f"d_{plain}" if plain[0].isdigit() or keyword.iskeyword(plain) else plain
        return symbol(plain)
