"""The table from ATen overloads to converters, one file per family.

A converter takes the context and the op's arguments (values, numbers, dimensions, lists of those) and returns the
result: a value, or a list where the op has several.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from . import (
    activation,
    create,
    einsum,
    elementwise,
    index,
    linear,
    norm,
    pool,
    quantized,
    recurrent,
    reduce,
    scatter,
    shape_ops,
    trigonometry,
)

_FAMILIES = (
    elementwise,
    activation,
    trigonometry,
    shape_ops,
    create,
    index,
    scatter,
    reduce,
    linear,
    recurrent,
    einsum,
    norm,
    pool,
    quantized,
)

CONVERTERS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        name: convert
        for family in _FAMILIES
        for name, convert in family.CONVERTERS.items()
    }
)
