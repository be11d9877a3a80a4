"""The table from ONNX ops to converters, one file per family.

A converter takes the context and the node's operands (None for absent ones) and returns the results: a value, or a
list where the op has several. Names outside of the default domain have it in front: `com.microsoft.FusedMatMul`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from . import (
    attention,
    blocks,
    create,
    dynamic,
    elementwise,
    index,
    linear,
    microsoft,
    norm,
    pool,
    qonnx,
    quantized,
    recurrent,
    reduce,
    resize,
    shape_ops,
)

_FAMILIES = (
    elementwise, shape_ops, create, index, reduce, linear, norm, pool, resize, attention, recurrent, microsoft,
    quantized, dynamic, blocks, qonnx,
)  # fmt: skip

CONVERTERS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {name: convert for family in _FAMILIES for name, convert in family.CONVERTERS.items()}
)
