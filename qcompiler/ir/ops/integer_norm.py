"""Normalizations of level INTEGER, with an exact floor square root.

See `integer` for the notation. Differences from I-BERT and I-ViT (arXiv:2101.01321, section 3.6; arXiv:2207.01405,
section 3.4): the mean keeps fractional bits, eps counts, gamma may be negative or zero, and the square root stops
when it is exact instead of after a fixed number of steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import GraphError
from ..dims import same_shape
from ..dtypes import DType
from .integer import codes_of, result_quant, saturated, source_quant
from .spec import AttrSpec, Op, RunContext, TensorType, centred

RECIPROCAL_BITS = 40
NORMAL_BITS = 30


def floor_sqrt(v: np.ndarray) -> np.ndarray:
    """Largest k with k k <= v, for 0 <= v < 2^62; int64.

    Newton's iteration from 2^ceil(bits / 2), k' = (k + v div k) >> 1, stopped where k' >= k: it falls to the floor
    and would then oscillate between it and the next integer.
    """
    v = np.asarray(v, np.int64)
    bits = np.frexp(np.maximum(v, 1).astype(np.float64))[1].astype(np.int64)
    k = np.int64(1) << ((bits + 1) >> 1)
    k = np.where(k * k >= v, k, 2 * k)  # a rounding up of v to float64 never makes it too small, but be sure
    while True:
        following = (k + v // np.maximum(k, 1)) >> 1
        lower = following < k
        if not lower.any():
            return np.where(v == 0, 0, k)
        k = np.where(lower, following, k)


def _infer(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    x, weight, *bias = inputs
    codes_of(x, "x")
    quant = result_quant(attrs)
    if not x.shape or not isinstance(x.shape[-1], int):
        raise GraphError(f"needs a last axis of known size, got {x!r}")
    if weight.dtype is not DType.int32 or not same_shape(weight.shape, x.shape[-1:]):
        raise GraphError(f"weight must be int32[{x.shape[-1]}], got {weight!r}")
    if any(b is not None and (b.dtype is not DType.int64 or not same_shape(b.shape, x.shape[-1:])) for b in bias):
        raise GraphError(f"bias must be int64[{x.shape[-1]}], got {bias[0]!r}")
    if attrs["eps"] < 1 or attrs["fraction"] < 0 or not 1 <= attrs["shift"] <= 62:
        raise GraphError("needs eps >= 1, fraction >= 0 and shift in [1, 62]")
    return [TensorType(quant.dtype, x.shape, quant)]


def normalized(y: np.ndarray, eps: int) -> np.ndarray:
    """v = sum y y + eps over the last axis; k = isqrt(v); (y (2^40 div k)) >> 10: y / sqrt(v) with 30 fractional bits."""
    k = floor_sqrt((y * y).sum(-1, keepdims=True) + eps)
    return (y * ((1 << RECIPROCAL_BITS) // k)) >> (RECIPROCAL_BITS - NORMAL_BITS)


def _affine(ctx: RunContext, t: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    shift = ctx.attrs["shift"]
    total = t * weight.astype(np.int64) + (np.int64(1) << (shift - 1))
    if bias is not None:
        total = total + bias
    return saturated(total >> shift, ctx.attrs["quant"])


def _layer_norm(ctx: RunContext, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """a = (x - z) << fraction; mean = floor((2 sum a + C) / (2 C)); y = a - mean; t = normalized(y).

    result = clip(((t weight + bias + 2^(shift-1)) >> shift) + zero_point); weight and bias hold gamma and beta in
    the result's scale, sqrt(C) included.
    """
    a = centred(x, source_quant(ctx)) << ctx.attrs["fraction"]
    count = x.shape[-1]
    mean = (2 * a.sum(-1, keepdims=True) + count) // (2 * count)
    return _affine(ctx, normalized(a - mean, ctx.attrs["eps"]), weight, bias)


def _rms_norm(ctx: RunContext, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """As integer_layer_norm with y = (x - z) << fraction and no bias."""
    a = centred(x, source_quant(ctx)) << ctx.attrs["fraction"]
    return _affine(ctx, normalized(a, ctx.attrs["eps"]), weight, None)


ATTRS = (
    AttrSpec("quant", "quant"),
    AttrSpec("eps", "int"),
    AttrSpec("fraction", "int", 0),
    AttrSpec("shift", "int"),
)

OPS: list[Op] = [
    Op(
        "integer_layer_norm",
        ("x", "weight", "bias?"),
        ATTRS,
        _infer,
        _layer_norm,
        "layer normalization over the last axis, exact floor square root; eps in steps of y y summed over the axis",
        "integer",
    ),
    Op(
        "integer_rms_norm",
        ("x", "weight"),
        ATTRS,
        _infer,
        _rms_norm,
        "root-mean-square normalization over the last axis, exact floor square root",
        "integer",
    ),
]
