"""Pooling and resizing over x [N, C, spatial...]."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import GraphError
from ..dims import is_symbolic, normalize
from ..graph import Value
from .spec import AttrSpec, Op, RunContext, TensorType, per_tensor_quant

POOL_ATTRS = (
    AttrSpec("kernel", "ints"),
    AttrSpec("strides", "ints"),
    AttrSpec("pads", "ints"),
    AttrSpec("ceil_mode", "bool", False),
)


def out_size(size: Any, i: int, rank: int, attrs: Mapping[str, Any], dilation: int = 1) -> Any:
    """Output size of a pool along spatial axis i of `rank`, for an input of `size`."""
    kernel, stride, pads = attrs["kernel"][i], attrs["strides"][i], attrs["pads"]
    span = size + pads[i] + pads[rank + i] - dilation * (kernel - 1) - 1
    if not attrs["ceil_mode"]:
        return normalize(span // stride + 1)
    out = normalize(-((-span) // stride) + 1)
    # As in torch: the last window must start inside the input or its left padding.
    if not is_symbolic(out):
        return out - 1 if (out - 1) * stride >= size + pads[i] else out
    if pads[rank + i] + stride > dilation * (kernel - 1) + 1:
        raise GraphError("ceil_mode with windows that may start beyond the input needs known sizes")
    return out


def _infer_shape(x: Value, attrs: Mapping[str, Any]) -> tuple[Any, ...]:
    rank = len(x.shape) - 2
    if (
        rank < 1
        or len(attrs["kernel"]) != rank
        or len(attrs["strides"]) != rank
        or len(attrs["pads"]) != 2 * rank
    ):
        raise GraphError(f"kernel, strides, pads do not fit x {x.shape}")
    dilations = attrs.get("dilations") or (1,) * rank
    spatial = [out_size(x.shape[2 + i], i, rank, attrs, dilations[i]) for i in range(rank)]
    if any(not is_symbolic(n) and n < 1 for n in spatial):
        raise GraphError(f"kernel {attrs['kernel']} is larger than the padded input {x.shape[2:]}")
    return (*x.shape[:2], *spatial)


def _max_infer(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    x = inputs[0]
    return [TensorType(x.dtype, _infer_shape(x, attrs), per_tensor_quant(x, "max_pool"))]


def _avg_infer(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    x = inputs[0]
    if x.quant is not None:
        raise GraphError("takes real numbers; use reduce_mean for a quantized global average")
    return [TensorType(x.dtype, _infer_shape(x, attrs))]


def _windows(x: np.ndarray, ctx: RunContext, fill: Any) -> tuple[list[int], Iterator[np.ndarray]]:
    """Output size and, for each kernel tap, the slice of the padded input that the tap reads."""
    attrs, rank = ctx.attrs, x.ndim - 2
    dilations = attrs.get("dilations") or (1,) * rank
    out = [int(out_size(x.shape[2 + i], i, rank, attrs, dilations[i])) for i in range(rank)]
    pads = attrs["pads"]
    widths = [(0, 0), (0, 0)]
    for i in range(rank):
        need = (out[i] - 1) * attrs["strides"][i] + dilations[i] * (attrs["kernel"][i] - 1) + 1
        widths.append((pads[i], max(0, need - x.shape[2 + i] - pads[i])))
    padded = np.pad(x, widths, constant_values=fill)

    def taps() -> Iterator[np.ndarray]:
        for tap in np.ndindex(*attrs["kernel"]):
            window = tuple(
                slice(t * d, t * d + (o - 1) * s + 1, s)
                for t, d, s, o in zip(tap, dilations, attrs["strides"], out, strict=True)
            )
            yield padded[(slice(None), slice(None), *window)]

    return out, taps()


def _max_pool(ctx: RunContext, x: np.ndarray) -> np.ndarray:
    lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    _, taps = _windows(x, ctx, lowest)
    result = next(taps).copy()
    for part in taps:
        np.maximum(result, part, out=result)
    return result


def _added(parts: Iterator[np.ndarray]) -> np.ndarray:
    return functools.reduce(np.add, parts)


def _avg_pool(ctx: RunContext, x: np.ndarray) -> np.ndarray:
    _, taps = _windows(x, ctx, 0)
    total = _added(taps)
    inside = np.ones((1, 1, *x.shape[2:]), x.dtype)
    if ctx.attrs["count_include_pad"]:
        # Padding counts, what ceil_mode adds beyond it does not.
        pads, rank = ctx.attrs["pads"], x.ndim - 2
        inside = np.pad(
            inside, [(0, 0), (0, 0)] + [(pads[i], pads[rank + i]) for i in range(rank)], constant_values=1
        )
        context = RunContext(ctx.node, {**ctx.attrs, "pads": (0,) * (2 * rank)})
        shape = total.shape[2:]
        _, counts = _windows(inside, context, 0)
        count = _added(counts)[(slice(None), slice(None), *(slice(0, n) for n in shape))]
    else:
        _, counts = _windows(inside, ctx, 0)
        count = _added(counts)
    return (total / count).astype(x.dtype)


def _resize_infer(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    x = inputs[0]
    if attrs["mode"] not in ("nearest", "linear", "cubic") or len(attrs["size"]) != len(x.shape) - 2:
        raise GraphError(f"mode is nearest, linear or cubic and size has {len(x.shape) - 2} entries")
    if attrs["mode"] != "nearest" and x.quant is not None:
        raise GraphError("interpolation takes real numbers; dequantize first")
    return [TensorType(x.dtype, (*x.shape[:2], *attrs["size"]), per_tensor_quant(x, "resize"))]


def _cubic(t: np.ndarray) -> np.ndarray:
    """Keys' kernel with a = -0.75 for taps -1, 0, 1, 2 at fraction t; [..., 4]."""
    a = -0.75
    d = np.stack([t + 1, t, 1 - t, 2 - t], -1)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, far)


def interpolation_matrix(size: int, out: int, mode: str, align_corners: bool) -> np.ndarray:
    """Dense [out, size] matrix that resamples one axis; float64."""
    step = (size - 1) / max(out - 1, 1) if align_corners else size / out
    index = np.arange(out)
    matrix = np.zeros((out, size))
    if mode == "nearest":
        matrix[index, index * size // out] = 1
        return matrix
    at = index * step if align_corners else (index + 0.5) * step - 0.5
    if mode == "linear":
        at = np.maximum(at, 0)
    low = np.floor(at).astype(int)
    t = at - low
    weights = np.stack([1 - t, t], -1) if mode == "linear" else _cubic(t)
    first = 0 if mode == "linear" else -1
    for tap in range(weights.shape[1]):
        np.add.at(matrix, (index, np.clip(low + first + tap, 0, size - 1)), weights[:, tap])
    return matrix


def _resize(ctx: RunContext, x: np.ndarray) -> np.ndarray:
    for i, out in enumerate(ctx.attrs["size"]):
        axis = 2 + i
        if ctx.attrs["mode"] == "nearest":
            x = np.take(x, np.arange(out) * x.shape[axis] // out, axis)
        elif out != x.shape[axis]:
            matrix = interpolation_matrix(x.shape[axis], out, ctx.attrs["mode"], ctx.attrs["align_corners"])
            x = np.moveaxis(np.moveaxis(x, axis, -1) @ matrix.T.astype(x.dtype), -1, axis)
    return x


OPS: list[Op] = [
    Op(
        "max_pool",
        ("x",),
        (*POOL_ATTRS, AttrSpec("dilations", "ints", ())),
        _max_infer,
        _max_pool,
        "largest element of each window; padding never wins; codes keep their parameters",
        "pool",
    ),
    Op(
        "avg_pool",
        ("x",),
        (*POOL_ATTRS, AttrSpec("count_include_pad", "bool", True)),
        _avg_infer,
        _avg_pool,
        "mean of each window",
        "pool",
    ),
    Op(
        "resize",
        ("x",),
        (
            AttrSpec("size", "dims"),
            AttrSpec("mode", "str", "nearest"),
            AttrSpec("align_corners", "bool", False),
        ),
        _resize_infer,
        _resize,
        "spatial resampling; nearest takes floor(i * in / out), linear and cubic (a = -0.75) use half-pixel centres",
        "pool",
    ),
]
