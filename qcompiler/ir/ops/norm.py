"""Normalizations, softmax, attention and rotary embedding."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import GraphError
from ..dims import is_symbolic, same, same_shape
from ..dtypes import DType
from ..graph import Value
from .spec import AttrSpec, Op, RunContext, TensorType, axis_in_range, broadcast_shapes


def _real(x: Value) -> None:
    if not x.dtype.is_float:
        raise GraphError(f"takes real numbers, got {x.dtype.name}")


def _norm_infer(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    x, *affine = inputs
    _real(x)
    count = attrs["axes"]
    if not 1 <= count <= len(x.shape):
        raise GraphError(f"axes={count} does not fit rank {len(x.shape)}")
    for value in affine:
        if value is not None and not same_shape(value.shape, x.shape[-count:]):
            raise GraphError(f"weight and bias must have shape {x.shape[-count:]}, got {value.shape}")
    return [TensorType(x.dtype, x.shape)]


def _layer_norm(
    ctx: RunContext, x: np.ndarray, weight: np.ndarray | None, bias: np.ndarray | None
) -> np.ndarray:
    axes = tuple(range(-ctx.attrs["axes"], 0))
    centred = x - x.mean(axes, keepdims=True)
    y = centred / np.sqrt((centred * centred).mean(axes, keepdims=True) + x.dtype.type(ctx.attrs["eps"]))
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def _rms_norm(ctx: RunContext, x: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    axes = tuple(range(-ctx.attrs["axes"], 0))
    y = x / np.sqrt((x * x).mean(axes, keepdims=True) + x.dtype.type(ctx.attrs["eps"]))
    return y if weight is None else y * weight


def _channel_infer(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    x, *stats = inputs
    _real(x)
    if len(x.shape) < 2:
        raise GraphError(f"needs x [N, C, ...], got {x.shape}")
    for value in stats:
        if value is not None and not (len(value.shape) == 1 and same(value.shape[0], x.shape[1])):
            raise GraphError(f"per-channel operands must have shape ({x.shape[1]},), got {value.shape}")
    groups = attrs.get("groups", 1)
    if not is_symbolic(x.shape[1]) and (groups < 1 or x.shape[1] % groups):
        raise GraphError(f"{x.shape[1]} channels do not divide into {groups} groups")
    return [TensorType(x.dtype, x.shape)]


def _per_channel(a: np.ndarray, rank: int) -> np.ndarray:
    return a.reshape([-1 if i == 1 else 1 for i in range(rank)])


def _batch_norm(
    ctx: RunContext,
    x: np.ndarray,
    mean: np.ndarray,
    var: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
) -> np.ndarray:
    scale = 1 / np.sqrt(var + var.dtype.type(ctx.attrs["eps"]))
    scale = scale if weight is None else scale * weight
    shift = -mean * scale if bias is None else bias - mean * scale
    return x * _per_channel(scale, x.ndim) + _per_channel(shift, x.ndim)


def _group_norm(
    ctx: RunContext, x: np.ndarray, weight: np.ndarray | None, bias: np.ndarray | None
) -> np.ndarray:
    flat = x.reshape(x.shape[0], ctx.attrs["groups"], -1)
    centred = flat - flat.mean(-1, keepdims=True)
    y = centred / np.sqrt((centred * centred).mean(-1, keepdims=True) + x.dtype.type(ctx.attrs["eps"]))
    y = y.reshape(x.shape)
    y = y if weight is None else y * _per_channel(weight, x.ndim)
    return y if bias is None else y + _per_channel(bias, x.ndim)


def _axis_infer(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    _real(inputs[0])
    axis_in_range(attrs["axis"], len(inputs[0].shape))
    return [TensorType(inputs[0].dtype, inputs[0].shape)]


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    """exp(x - max) / sum along an axis; a row of -inf only gives NaN as in torch."""
    with np.errstate(invalid="ignore"):
        e = np.exp(x - x.max(axis, keepdims=True))
        return e / e.sum(axis, keepdims=True)


def _log_softmax(ctx: RunContext, x: np.ndarray) -> np.ndarray:
    axis = ctx.attrs["axis"]
    shifted = x - x.max(axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))


def _attention_infer(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    q, k, v, mask = inputs
    for value in (q, k, v):
        _real(value)
        if len(value.shape) < 3:
            raise GraphError(f"needs [..., H, T, D], got {value.shape}")
    if (
        not same(q.shape[-1], k.shape[-1])
        or not same(k.shape[-2], v.shape[-2])
        or not same(k.shape[-3], v.shape[-3])
    ):
        raise GraphError(f"q {q.shape}, k {k.shape}, v {v.shape} do not fit")
    if q.shape[-3] % k.shape[-3]:
        raise GraphError(f"{q.shape[-3]} query heads are no multiple of {k.shape[-3]} key heads")
    scores = (*broadcast_shapes(q.shape[:-3], k.shape[:-3]), q.shape[-3], q.shape[-2], k.shape[-2])
    if mask is not None:
        if mask.dtype is not DType.bool and mask.dtype is not q.dtype:
            raise GraphError(f"mask must be bool or {q.dtype.name}, got {mask.dtype.name}")
        if not same_shape(broadcast_shapes(mask.shape, scores), scores):
            raise GraphError(f"mask {mask.shape} does not broadcast to {scores}")
    return [TensorType(q.dtype, (*scores[:-1], v.shape[-1]))]


def _attention(
    ctx: RunContext, q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None
) -> np.ndarray:
    repeat = q.shape[-3] // k.shape[-3]
    if repeat > 1:
        k, v = np.repeat(k, repeat, -3), np.repeat(v, repeat, -3)
    scale = ctx.attrs["scale"]
    scale = q.dtype.type(1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    scores = (q * scale) @ k.swapaxes(-1, -2)
    lowest = q.dtype.type(-np.inf)
    if ctx.attrs["causal"]:
        scores = np.where(np.tri(*scores.shape[-2:], dtype=np.bool_), scores, lowest)
    if mask is not None:
        scores = np.where(mask, scores, lowest) if mask.dtype == np.bool_ else scores + mask
    # A query that may look at nothing gives 0, as in torch, not NaN.
    blind = (scores == lowest).all(-1, keepdims=True)
    return np.where(blind, q.dtype.type(0), softmax(scores, -1)) @ v


def _rotary_infer(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    x, cos, sin = inputs
    _real(x)
    width = cos.shape[-1]
    if not same_shape(cos.shape, sin.shape) or is_symbolic(width) or width % 2 or width > x.shape[-1]:
        raise GraphError(
            f"cos {cos.shape} and sin {sin.shape} must agree, with an even width <= {x.shape[-1]}"
        )
    rotated = (*x.shape[:-1], width)
    if not same_shape(broadcast_shapes(rotated, cos.shape), rotated):
        raise GraphError(f"cos {cos.shape} does not broadcast to {rotated}")
    return [TensorType(x.dtype, x.shape)]


def _rotary(ctx: RunContext, x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    width = cos.shape[-1]
    part, rest = x[..., :width], x[..., width:]
    turned = np.empty_like(part)
    if ctx.attrs["interleaved"]:
        turned[..., 0::2], turned[..., 1::2] = -part[..., 1::2], part[..., 0::2]
    else:
        half = width // 2
        turned[..., :half], turned[..., half:] = -part[..., half:], part[..., :half]
    return np.concatenate([part * cos + turned * sin, rest], -1)


EPS = AttrSpec("eps", "float")
AXES = AttrSpec("axes", "int", 1)

OPS: list[Op] = [
    Op(
        "layer_norm",
        ("x", "weight?", "bias?"),
        (EPS, AXES),
        _norm_infer,
        _layer_norm,
        "(x - mean) / sqrt(var + eps) * weight + bias over the last `axes` axes",
        "norm",
    ),
    Op(
        "rms_norm",
        ("x", "weight?"),
        (EPS, AXES),
        _norm_infer,
        _rms_norm,
        "x / sqrt(mean(x^2) + eps) * weight over the last `axes` axes",
        "norm",
    ),
    Op(
        "batch_norm",
        ("x", "mean", "var", "weight?", "bias?"),
        (EPS,),
        _channel_infer,
        _batch_norm,
        "(x - mean) / sqrt(var + eps) * weight + bias per channel of axis 1",
        "norm",
    ),
    Op(
        "group_norm",
        ("x", "weight?", "bias?"),
        (AttrSpec("groups", "int"), EPS),
        _channel_infer,
        _group_norm,
        "normalized over each group of channels and all spatial axes",
        "norm",
    ),
    Op(
        "softmax",
        ("x",),
        (AttrSpec("axis", "int", -1),),
        _axis_infer,
        lambda ctx, x: softmax(x, ctx.attrs["axis"]),
        "exp(x) / sum(exp(x)) along an axis",
        "norm",
    ),
    Op(
        "log_softmax",
        ("x",),
        (AttrSpec("axis", "int", -1),),
        _axis_infer,
        _log_softmax,
        "log(softmax(x)) along an axis",
        "norm",
    ),
    Op(
        "attention",
        ("q", "k", "v", "mask?"),
        (AttrSpec("scale", "float", None), AttrSpec("causal", "bool", False)),
        _attention_infer,
        _attention,
        "q [..., H, T, D], k [..., Hk, S, D], v [..., Hk, S, E]; softmax(q k^T * scale + mask) v; scale defaults to"
        " 1/sqrt(D); H may be a multiple of Hk (each key head serves H/Hk queries); bool mask: true takes part;"
        " a query that may look at nothing gives 0",
        "attention",
    ),
    Op(
        "rotary",
        ("x", "cos", "sin"),
        (AttrSpec("interleaved", "bool", False),),
        _rotary_infer,
        _rotary,
        "x [..., T, D], cos and sin [..., T, R]: x cos + turn(x) sin on the first R channels; turn pairs channel i"
        " with i + R/2, or 2i with 2i + 1 if interleaved",
        "attention",
    ),
]
