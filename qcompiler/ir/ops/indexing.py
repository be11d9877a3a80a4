"""Indexing by several axes at once, and selection by size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import GraphError
from ..dims import is_symbolic, same_shape
from ..dtypes import DType
from ..graph import Value
from .spec import AttrSpec, Op, RunContext, TensorType, axis_in_range, per_tensor_quant


def _depth(data: Value, indices: Value) -> int:
    """How many leading axes of the data the last axis of the indices addresses."""
    if indices.dtype is not DType.int64 or not indices.shape:
        raise GraphError(f"indices must be int64 [..., K], got {indices!r}")
    depth = indices.shape[-1]
    if is_symbolic(depth) or not 1 <= depth <= len(data.shape):
        raise GraphError(f"indices [..., {depth}] do not fit data of rank {len(data.shape)}")
    return int(depth)


def _gather_nd_infer(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    data, indices = inputs
    depth = _depth(data, indices)
    return [
        TensorType(data.dtype, indices.shape[:-1] + data.shape[depth:], per_tensor_quant(data, "gather_nd"))
    ]


def _gather_nd(ctx: RunContext, data: np.ndarray, indices: np.ndarray) -> np.ndarray:
    return data[tuple(np.moveaxis(indices, -1, 0))]


def _scatter_nd_infer(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    data, indices, updates = inputs
    depth = _depth(data, indices)
    if data.quant is not None or updates.quant is not None or data.dtype is not updates.dtype:
        raise GraphError(f"data and updates must be plain numbers of one dtype, got {data!r} and {updates!r}")
    if not same_shape(updates.shape, indices.shape[:-1] + data.shape[depth:]):
        raise GraphError(f"updates {updates.shape} must be {indices.shape[:-1] + data.shape[depth:]}")
    return [TensorType(data.dtype, data.shape)]


def _scatter_nd(ctx: RunContext, data: np.ndarray, indices: np.ndarray, updates: np.ndarray) -> np.ndarray:
    result = data.copy()
    at = tuple(np.moveaxis(indices, -1, 0))
    if ctx.attrs["accumulate"]:
        np.add.at(result, at, updates)
    else:
        result[at] = updates
    return result


def _topk_infer(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    x = inputs[0]
    axis, k = axis_in_range(attrs["axis"], len(x.shape)), attrs["k"]
    if x.quant is not None:
        raise GraphError("takes real numbers; dequantize first")
    if k < 0 or (not is_symbolic(x.shape[axis]) and k > x.shape[axis]):
        raise GraphError(f"k={k} of {x.shape[axis]} elements")
    shape = tuple(k if i == axis else d for i, d in enumerate(x.shape))
    return [TensorType(x.dtype, shape), TensorType(DType.int64, shape)]


def _topk(ctx: RunContext, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    axis = ctx.attrs["axis"] % x.ndim
    # A stable order of the reversed sequence, read backwards, puts the first of equal elements first.
    if ctx.attrs["largest"]:
        last = x.shape[axis] - 1
        order = last - np.flip(np.argsort(np.flip(x, axis), axis, kind="stable"), axis)
    else:
        order = np.argsort(x, axis, kind="stable")
    index = order[(slice(None),) * axis + (slice(0, ctx.attrs["k"]),)].astype(np.int64)
    return np.take_along_axis(x, index, axis), index


OPS: list[Op] = [
    Op(
        "gather_nd",
        ("data", "indices"),
        (),
        _gather_nd_infer,
        _gather_nd,
        "data [d1 ... dK, rest...], indices int64 [..., K] -> [..., rest...]: out[i] = data[indices[i, 0], ...,"
        " indices[i, K-1]]; negative indices count from the end (ONNX GatherND, batch_dims 0)",
        "movement",
    ),
    Op(
        "scatter_nd",
        ("data", "indices", "updates"),
        (AttrSpec("accumulate", "bool", False),),
        _scatter_nd_infer,
        _scatter_nd,
        "a copy of data [d1 ... dK, rest...] in which data[indices[i]] is replaced by updates[i] [..., rest...], or"
        " increased by it if accumulate; of equal indices the last wins (ONNX ScatterND, reduction none or add)",
        "elementwise",
    ),
    Op(
        "topk",
        ("x",),
        (AttrSpec("k", "int"), AttrSpec("axis", "int", -1), AttrSpec("largest", "bool", True)),
        _topk_infer,
        _topk,
        "(values, int64 indices) of the k largest or smallest elements along an axis, in order; of equal elements"
        " the first comes first (ONNX TopK, sorted)",
        "reduce",
    ),
]
