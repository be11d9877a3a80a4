"""Rounding of real numbers to grids that no scale and zero point describe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import GraphError
from .spec import AttrSpec, Op, RunContext, TensorType


def log2_table(attrs: Mapping[str, Any]) -> np.ndarray:
    """The number [2^bits] that each code of `round_log2` stands for, float64."""
    table = attrs["scale"] * np.exp2(-attrs["step"] * np.arange(1 << attrs["bits"]))
    if attrs["zero"]:
        table[-1] = 0.0
    return np.asarray(table)


def _infer(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    x = inputs[0]
    if not x.dtype.is_float:
        raise GraphError(f"needs a float operand, got {x.dtype.name}")
    if not 1 <= attrs["bits"] <= 8 or attrs["step"] <= 0 or attrs["scale"] <= 0:
        raise GraphError(f"bits lie in 1..8, step and scale are positive; got {dict(attrs)}")
    return [TensorType(x.dtype, x.shape)]


def _round_log2(ctx: RunContext, x: np.ndarray) -> np.ndarray:
    attrs = ctx.attrs
    with np.errstate(divide="ignore", invalid="ignore"):
        exact = np.log2(x / x.dtype.type(attrs["scale"])) / x.dtype.type(-attrs["step"])
    top = (1 << attrs["bits"]) - 1
    codes = np.clip(np.rint(np.where(x > 0, exact, top)), 0, top)
    return log2_table(attrs)[codes.astype(np.int64)].astype(x.dtype)


OPS: list[Op] = [
    Op(
        "round_log2",
        ("x",),
        (
            AttrSpec("bits", "int", 4),
            AttrSpec("step", "float", 1.0),
            AttrSpec("scale", "float", 1.0),
            AttrSpec("zero", "bool", False),
        ),
        _infer,
        _round_log2,
        "scale 2^(-step q) with q = clip(round(-log2(x / scale) / step), 0, 2^bits - 1); the last q stands for 0 where"
        " `zero`, and x <= 0 takes it",
        "elementwise",
    ),
]
