"""Reductions. `axes` empty means all axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import GraphError
from ..dims import is_symbolic, product
from ..dtypes import DType
from ..graph import Value
from ..quant import QuantParams
from .spec import AttrSpec, Op, RunContext, TensorType, axis_in_range, centred

AXES = (AttrSpec("axes", "ints", ()), AttrSpec("keepdims", "bool", False))


def _axes(rank: int, axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(axis_in_range(a, rank) for a in axes) if axes else tuple(range(rank))


def _shape(x: Value, attrs: Mapping[str, Any]) -> tuple[Any, ...]:
    axes = _axes(len(x.shape), attrs["axes"])
    if attrs["keepdims"]:
        return tuple(1 if i in axes else d for i, d in enumerate(x.shape))
    return tuple(d for i, d in enumerate(x.shape) if i not in axes)


def _infer(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    if inputs[0].quant is not None:
        raise GraphError("takes real numbers; dequantize first")
    return [TensorType(inputs[0].dtype, _shape(inputs[0], attrs))]


def _keep_quant(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    x = inputs[0]
    if x.quant is not None and not x.quant.per_tensor:
        raise GraphError("extrema of a per-channel quantized value are not defined")
    return [TensorType(x.dtype, _shape(x, attrs), x.quant)]


def _accumulate_infer(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    x = inputs[0]
    if x.quant is None:
        return [TensorType(x.dtype, _shape(x, attrs))]
    if not x.quant.per_tensor:
        raise GraphError("sums of a per-channel quantized value are not defined")
    return [TensorType(DType.int32, _shape(x, attrs), QuantParams(DType.int32, x.quant.scale))]


def _mean_infer(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    x = inputs[0]
    (result,) = _accumulate_infer(inputs, attrs)
    if result.quant is None:
        if not x.dtype.is_float:
            raise GraphError(f"needs float or quantized numbers, got {x.dtype.name}")
        return [result]
    count = product([x.shape[a] for a in _axes(len(x.shape), attrs["axes"])])
    if is_symbolic(count):
        raise GraphError("the mean of quantized numbers needs known dimensions")
    return [
        TensorType(
            DType.int32, result.shape, QuantParams(DType.int32, result.quant.scale / np.float32(count))
        )
    ]


def _np_axes(ctx: RunContext, x: np.ndarray) -> tuple[int, ...]:
    return _axes(x.ndim, ctx.attrs["axes"])


def _body(fn: Callable[..., Any]) -> Callable[..., np.ndarray]:
    def run(ctx: RunContext, x: np.ndarray) -> np.ndarray:
        return np.asarray(fn(x, axis=_np_axes(ctx, x), keepdims=ctx.attrs["keepdims"])).astype(x.dtype)

    return run


def _accumulate(fn: Callable[..., Any]) -> Callable[..., np.ndarray]:
    def run(ctx: RunContext, x: np.ndarray) -> np.ndarray:
        quant = ctx.node.inputs[0].quant if ctx.node.inputs[0] is not None else None
        if quant is not None:
            total = centred(x, quant).sum(_np_axes(ctx, x), keepdims=ctx.attrs["keepdims"])
            return np.asarray(total).astype(np.int32)
        return np.asarray(fn(x, axis=_np_axes(ctx, x), keepdims=ctx.attrs["keepdims"])).astype(x.dtype)

    return run


def _arg_infer(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    x = inputs[0]
    axis = axis_in_range(attrs["axis"], len(x.shape))
    if attrs["keepdims"]:
        return [TensorType(DType.int64, tuple(1 if i == axis else d for i, d in enumerate(x.shape)))]
    return [TensorType(DType.int64, x.shape[:axis] + x.shape[axis + 1 :])]


def _arg(fn: Callable[..., Any]) -> Callable[..., np.ndarray]:
    return lambda ctx, x: np.asarray(fn(x, axis=ctx.attrs["axis"], keepdims=ctx.attrs["keepdims"]))


def _cumsum_infer(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    axis_in_range(attrs["axis"], len(inputs[0].shape))
    if inputs[0].quant is not None or inputs[0].dtype is DType.bool:
        raise GraphError("takes plain numbers")
    return [TensorType(inputs[0].dtype, inputs[0].shape)]


ARG = (AttrSpec("axis", "int"), AttrSpec("keepdims", "bool", False))

OPS: list[Op] = [
    Op(
        "reduce_sum",
        ("x",),
        AXES,
        _accumulate_infer,
        _accumulate(np.sum),
        "sum; quantized: int32 sum of (x - zero_point) with the operand's scale",
        "reduce",
    ),
    Op(
        "reduce_mean",
        ("x",),
        AXES,
        _mean_infer,
        _accumulate(np.mean),
        "mean; quantized: int32 sum of (x - zero_point) with scale / count",
        "reduce",
    ),
    Op("reduce_max", ("x",), AXES, _keep_quant, _body(np.max), "largest element", "reduce"),
    Op("reduce_min", ("x",), AXES, _keep_quant, _body(np.min), "smallest element", "reduce"),
    Op("reduce_prod", ("x",), AXES, _infer, _body(np.prod), "product", "reduce"),
    Op("reduce_any", ("x",), AXES, _infer, _body(np.any), "logical or", "reduce"),
    Op("reduce_all", ("x",), AXES, _infer, _body(np.all), "logical and", "reduce"),
    Op(
        "argmax",
        ("x",),
        ARG,
        _arg_infer,
        _arg(np.argmax),
        "index of the first largest element along an axis, int64",
        "reduce",
    ),
    Op(
        "argmin",
        ("x",),
        ARG,
        _arg_infer,
        _arg(np.argmin),
        "index of the first smallest element along an axis, int64",
        "reduce",
    ),
    Op(
        "cumsum",
        ("x",),
        (AttrSpec("axis", "int"),),
        _cumsum_infer,
        lambda ctx, x: np.cumsum(x, axis=ctx.attrs["axis"], dtype=x.dtype),
        "running sum along an axis",
        "reduce",
    ),
]
