"""Data movement and creation. Movement keeps codes and quantization parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import GraphError
from ..dims import is_symbolic, minimum, normalize, product, same, same_shape
from ..dtypes import DType
from .spec import AttrSpec, Op, RunContext, TensorType, axis_in_range, broadcast_shapes, per_tensor_quant

# Slices without an end use this stop: larger than any dimension, as in torch and ONNX.
END = (1 << 63) - 1


def _reshape_infer(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    x = inputs[0]
    before, after = product(x.shape), product(attrs["shape"])
    known = not is_symbolic(before) and not is_symbolic(after)
    if known and before != after:
        raise GraphError(f"cannot reshape {x.shape} ({before} elements) to {attrs['shape']} ({after})")
    return [TensorType(x.dtype, attrs["shape"], per_tensor_quant(x, "reshape"))]


def _transpose_infer(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    x, perm = inputs[0], attrs["perm"]
    if sorted(perm) != list(range(len(x.shape))):
        raise GraphError(f"perm {perm} is no permutation of {len(x.shape)} axes")
    quant = x.quant
    if quant is not None and quant.axis is not None:
        quant = quant.with_axis(perm.index(quant.axis))
    return [TensorType(x.dtype, tuple(x.shape[p] for p in perm), quant)]


def _expand_infer(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    x = inputs[0]
    shape = broadcast_shapes(x.shape, attrs["shape"])
    if not same_shape(shape, attrs["shape"]):
        raise GraphError(f"cannot expand {x.shape} to {attrs['shape']}")
    return [TensorType(x.dtype, shape, per_tensor_quant(x, "expand"))]


def _clamp_index(index: Any, size: Any) -> Any:
    """A slice bound in [0, size]: negative counts from the end.

    A symbolic bound counts as lying inside, and so does a negative one of a symbolic size: captured programs
    come with guards that say so (`positions[:seq]` of a table with 512 rows has `seq` rows).
    """
    if is_symbolic(index):
        return normalize(size + index) if index.is_negative else index
    if index >= END:
        return size
    if index < 0:
        return normalize(size + index) if is_symbolic(size) else max(size + index, 0)
    # Symbols are positive, so 0 and 1 need no minimum.
    return index if is_symbolic(size) and index <= 1 else minimum(index, size)


def _slice_infer(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    x = inputs[0]
    axis = axis_in_range(attrs["axis"], len(x.shape))
    if attrs["step"] < 1:
        raise GraphError(f"step must be >= 1, got {attrs['step']}; use flip to reverse")
    size = x.shape[axis]
    start, stop = _clamp_index(attrs["start"], size), _clamp_index(attrs["stop"], size)
    length = normalize(-((start - stop) // attrs["step"])) if attrs["step"] > 1 else normalize(stop - start)
    if not is_symbolic(length):
        length = max(length, 0)
    shape = tuple(length if i == axis else d for i, d in enumerate(x.shape))
    return [TensorType(x.dtype, shape, per_tensor_quant(x, "slice"))]


def _slice(ctx: RunContext, x: np.ndarray) -> np.ndarray:
    axis = ctx.attrs["axis"] % x.ndim
    index = [slice(None)] * x.ndim
    index[axis] = slice(ctx.attrs["start"], ctx.attrs["stop"], ctx.attrs["step"])
    return x[tuple(index)]


def _concat_infer(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    first = inputs[0]
    axis = axis_in_range(attrs["axis"], len(first.shape))
    total: Any = 0
    for x in inputs:
        if x.dtype is not first.dtype or x.quant != first.quant:
            raise GraphError("operands must share one dtype and quantization; requantize them first")
        if len(x.shape) != len(first.shape) or any(
            i != axis and not same(a, b) for i, (a, b) in enumerate(zip(x.shape, first.shape, strict=True))
        ):
            raise GraphError(f"shapes {[v.shape for v in inputs]} differ outside axis {axis}")
        total = total + x.shape[axis]
    shape = tuple(normalize(total) if i == axis else d for i, d in enumerate(first.shape))
    return [TensorType(first.dtype, shape, per_tensor_quant(first, "concat"))]


def _pad_infer(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    x, pads = inputs[0], attrs["pads"]
    rank = len(x.shape)
    if len(pads) != 2 * rank or attrs["mode"] not in ("constant", "reflect", "edge"):
        raise GraphError(
            f"needs {2 * rank} pads (all begins, then all ends) and mode constant, reflect or edge"
        )
    for axis, (size, begin, end) in enumerate(zip(x.shape, pads[:rank], pads[rank:], strict=True)):
        if attrs["mode"] != "reflect" or not isinstance(size, int):
            continue
        left = size + min(0, begin) + min(0, end)
        if max(begin, end) >= max(1, left):
            raise GraphError(f"axis {axis} has {left} places, which reflect {max(0, left - 1)} at most, not {max(begin, end)}")
    shape = tuple(normalize(d + pads[i] + pads[rank + i]) for i, d in enumerate(x.shape))
    return [TensorType(x.dtype, shape, per_tensor_quant(x, "pad"))]


def _pad(ctx: RunContext, x: np.ndarray) -> np.ndarray:
    pads, rank = ctx.attrs["pads"], x.ndim
    cut = tuple(slice(max(0, -pads[i]), x.shape[i] + min(0, pads[rank + i])) for i in range(rank))
    widths = [(max(0, pads[i]), max(0, pads[rank + i])) for i in range(rank)]
    if ctx.attrs["mode"] != "constant":
        return np.pad(x[cut], widths, mode=ctx.attrs["mode"])
    quant = ctx.node.outputs[0].quant
    fill = quant.quantize(np.asarray(ctx.attrs["value"], np.float32)) if quant is not None else ctx.attrs["value"]
    return np.pad(x[cut], widths, constant_values=np.asarray(fill).astype(x.dtype))


def _gather_infer(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    data, indices = inputs
    axis = axis_in_range(attrs["axis"], len(data.shape))
    if not indices.dtype.is_integer or indices.quant is not None:
        raise GraphError(f"indices must be plain integers, got {indices.dtype.name}")
    shape = data.shape[:axis] + indices.shape + data.shape[axis + 1 :]
    return [TensorType(data.dtype, shape, per_tensor_quant(data, "gather"))]


def _gather_elements_infer(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    data, indices = inputs
    axis_in_range(attrs["axis"], len(data.shape))
    if len(data.shape) != len(indices.shape) or not indices.dtype.is_integer:
        raise GraphError("indices must be integers of the data's rank")
    return [TensorType(data.dtype, indices.shape, per_tensor_quant(data, "gather_elements"))]


def _take_along(ctx: RunContext, data: np.ndarray, indices: np.ndarray) -> np.ndarray:
    axis = ctx.attrs["axis"] % data.ndim
    index = [slice(0, n) if i != axis else slice(None) for i, n in enumerate(indices.shape)]
    return np.take_along_axis(data[tuple(index)], indices.astype(np.int64), axis)


def _keep_type(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    x = inputs[0]
    return [TensorType(x.dtype, x.shape, per_tensor_quant(x, "this movement"))]


def _arange_infer(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    if attrs["step"] == 0:
        raise GraphError("step must not be 0")
    length = normalize(-((attrs["start"] - attrs["stop"]) // attrs["step"]))
    return [TensorType(attrs["dtype"], (length if is_symbolic(length) else max(length, 0),))]


def _full(ctx: RunContext) -> np.ndarray:
    return np.full(ctx.attrs["shape"], ctx.attrs["value"], ctx.attrs["dtype"].numpy)


def _tri(ctx: RunContext, x: np.ndarray) -> np.ndarray:
    return (np.triu if ctx.attrs["upper"] else np.tril)(x, ctx.attrs["diagonal"])


OPS: list[Op] = [
    Op(
        "reshape",
        ("x",),
        (AttrSpec("shape", "dims"),),
        _reshape_infer,
        lambda ctx, x: x.reshape(ctx.attrs["shape"]),
        "same elements in row-major order, another shape",
        "movement",
    ),
    Op(
        "transpose",
        ("x",),
        (AttrSpec("perm", "ints"),),
        _transpose_infer,
        lambda ctx, x: x.transpose(ctx.attrs["perm"]),
        "output axis i is input axis perm[i]",
        "movement",
    ),
    Op(
        "expand",
        ("x",),
        (AttrSpec("shape", "dims"),),
        _expand_infer,
        lambda ctx, x: np.broadcast_to(x, ctx.attrs["shape"]),
        "broadcast to a shape",
        "movement",
    ),
    Op(
        "slice",
        ("x",),
        (
            AttrSpec("axis", "int"),
            AttrSpec("start", "dim", 0),
            AttrSpec("stop", "dim", END),
            AttrSpec("step", "int", 1),
        ),
        _slice_infer,
        _slice,
        "x[start:stop:step] along one axis, bounds clamped; negative bounds count from the end",
        "movement",
    ),
    Op(
        "concat",
        ("xs*",),
        (AttrSpec("axis", "int"),),
        _concat_infer,
        lambda ctx, *xs: np.concatenate(xs, ctx.attrs["axis"]),
        "joined along an axis; all operands share one quantization",
        "movement",
    ),
    Op(
        "pad",
        ("x",),
        (AttrSpec("pads", "ints"), AttrSpec("mode", "str", "constant"), AttrSpec("value", "float", 0.0)),
        _pad_infer,
        _pad,
        "pads: begins of all axes, then ends; negative crops. value is real: quantized operands pad with its code",
        "movement",
    ),
    Op(
        "gather",
        ("data", "indices"),
        (AttrSpec("axis", "int", 0),),
        _gather_infer,
        lambda ctx, d, i: np.take(d, i.astype(np.int64), axis=ctx.attrs["axis"]),
        "data indexed along one axis (embedding: axis 0); negative indices count from the end",
        "movement",
    ),
    Op(
        "gather_elements",
        ("data", "indices"),
        (AttrSpec("axis", "int"),),
        _gather_elements_infer,
        _take_along,
        "out[i][j] = data[indices[i][j]][j] for axis 0",
        "movement",
    ),
    Op(
        "flip",
        ("x",),
        (AttrSpec("axes", "ints"),),
        _keep_type,
        lambda ctx, x: np.flip(x, ctx.attrs["axes"]),
        "reversed along axes",
        "movement",
    ),
    Op(
        "tri",
        ("x",),
        (AttrSpec("upper", "bool"), AttrSpec("diagonal", "int", 0)),
        _keep_type,
        _tri,
        "upper or lower triangle of the last two axes, zero elsewhere",
        "movement",
    ),
    Op(
        "arange",
        (),
        (
            AttrSpec("start", "dim", 0),
            AttrSpec("stop", "dim"),
            AttrSpec("step", "int", 1),
            AttrSpec("dtype", "dtype", DType.int64),
        ),
        _arange_infer,
        lambda ctx: np.arange(ctx.attrs["start"], ctx.attrs["stop"], ctx.attrs["step"]).astype(
            ctx.attrs["dtype"].numpy
        ),
        "start, start + step, ... below stop",
        "create",
    ),
    Op(
        "full",
        (),
        (AttrSpec("shape", "dims"), AttrSpec("value", "float"), AttrSpec("dtype", "dtype")),
        lambda inputs, attrs: [TensorType(attrs["dtype"], attrs["shape"])],
        _full,
        "a tensor of one value",
        "create",
    ),
    Op(
        "dim",
        (),
        (AttrSpec("value", "dim"), AttrSpec("dtype", "dtype", DType.int64)),
        lambda inputs, attrs: [TensorType(attrs["dtype"], ())],
        lambda ctx: np.asarray(ctx.attrs["value"], ctx.attrs["dtype"].numpy),
        "a symbolic dimension as a scalar tensor",
        "create",
    ),
]
