"""Matrix products and convolutions.

On quantized operands they give int32 accumulators: sum of (x - zx)(w - zw) + bias, with scale sx * sw. On real
operands they compute in the operands' dtype.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import GraphError
from ..dims import Shape, is_symbolic, normalize, same
from ..dtypes import DType
from ..graph import Value
from ..quant import QuantParams
from .spec import AttrSpec, Op, RunContext, TensorType, broadcast_shapes, centred

# Integer sums below this bound are exact in float64, so BLAS may compute them.
EXACT_FLOAT64 = 1 << 53


def _result(x: Value, w: Value, bias: Value | None, shape: Shape, out_axis: int) -> TensorType:
    """Type of the product: real, or int32 accumulators with scale sx * sw (per output channel if w's is)."""
    if x.quant is None and w.quant is None:
        if x.dtype is not w.dtype or not x.dtype.is_float:
            raise GraphError(
                f"operands must be real of one dtype or both quantized, got {x.dtype.name}, {w.dtype.name}"
            )
        if bias is not None and bias.dtype is not x.dtype:
            raise GraphError(f"bias is {bias.dtype.name}, operands are {x.dtype.name}")
        return TensorType(x.dtype, shape)
    if x.quant is None or w.quant is None:
        raise GraphError("either both operands are quantized or none")
    if not x.quant.per_tensor:
        raise GraphError("the activation must be quantized per tensor")
    if w.quant.group_size is not None:
        raise GraphError("group-wise weights have no single accumulator; dequantize them")
    if bias is not None and bias.dtype is not DType.int32:
        raise GraphError(f"bias of quantized operands must be int32, got {bias.dtype.name}")
    axis = None if w.quant.per_tensor else out_axis
    return TensorType(DType.int32, shape, QuantParams(DType.int32, x.quant.scale * w.quant.scale, axis=axis))


def _check_bias(bias: Value | None, channels: Any) -> None:
    if bias is not None and (len(bias.shape) != 1 or not same(bias.shape[0], channels)):
        raise GraphError(f"bias has shape {bias.shape}, expected ({channels},)")


def _linear_infer(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    x, w, bias = inputs
    if len(w.shape) != 2 or not x.shape or not same(x.shape[-1], w.shape[1]):
        raise GraphError(f"x{list(x.shape)} and w{list(w.shape)} do not fit: needs x [..., K], w [N, K]")
    if w.quant is not None and w.quant.axis not in (None, 0):
        raise GraphError("weight channels must be along axis 0")
    _check_bias(bias, w.shape[0])
    return [_result(x, w, bias, (*x.shape[:-1], w.shape[0]), len(x.shape) - 1)]


def _matmul_infer(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    a, b = inputs
    if len(a.shape) < 2 or len(b.shape) < 2 or not same(a.shape[-1], b.shape[-2]):
        raise GraphError(
            f"a{list(a.shape)} and b{list(b.shape)} do not fit: needs [..., M, K] and [..., K, N]"
        )
    if b.quant is not None and b.quant.axis not in (None, len(b.shape) - 1):
        raise GraphError("channels of b must be along its last axis")
    shape = (*broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
    return [_result(a, b, None, shape, len(shape) - 1)]


def _operands(ctx: RunContext, x: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
    """Arrays to multiply; for quantized operands centred, in float64 where the sums are exact in it."""
    node = ctx.node
    xq, wq = (v.quant if v is not None else None for v in node.inputs[:2])
    if xq is None or wq is None:
        return x, w, False
    a, b = centred(x, xq), centred(w, wq)
    # A bound on any sum of products: both peaks times the number of terms.
    peak = int(np.abs(a).max(initial=0)) * int(np.abs(b).max(initial=0)) * min(a.size, b.size)
    return (a.astype(np.float64), b.astype(np.float64), True) if peak < EXACT_FLOAT64 else (a, b, True)


def _finish(y: np.ndarray, bias: np.ndarray | None, integer: bool, channel_axis: int) -> np.ndarray:
    if integer and y.dtype == np.float64:
        y = np.rint(y).astype(np.int64)
    if bias is not None:
        y = y + bias.reshape([-1 if i == channel_axis % y.ndim else 1 for i in range(y.ndim)])
    return y.astype(np.int32) if integer else y


def _linear(ctx: RunContext, x: np.ndarray, w: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    a, b, integer = _operands(ctx, x, w)
    flat = a.reshape(-1, a.shape[-1]) @ b.T
    return _finish(flat.reshape(*a.shape[:-1], b.shape[0]), bias, integer, -1)


def _matmul(ctx: RunContext, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    a, b, integer = _operands(ctx, x, w)
    return _finish(np.matmul(a, b), None, integer, -1)


def _conv_geometry(x: Value, w: Value, attrs: Mapping[str, Any]) -> int:
    rank = len(x.shape) - 2
    if rank < 1 or len(w.shape) != rank + 2:
        raise GraphError(
            f"needs x [N, C, spatial...] and w [O, C/groups, kernel...], got {x.shape} and {w.shape}"
        )
    for name, length in (("strides", rank), ("dilations", rank), ("pads", 2 * rank)):
        if len(attrs[name]) != length:
            raise GraphError(f"{name} must have {length} entries, got {attrs[name]}")
    if any(s < 1 for s in attrs["strides"] + attrs["dilations"]) or attrs["groups"] < 1:
        raise GraphError("strides, dilations and groups must be >= 1")
    return rank


def _conv_infer(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    x, w, bias = inputs
    rank = _conv_geometry(x, w, attrs)
    groups, pads = attrs["groups"], attrs["pads"]
    if not same(x.shape[1], w.shape[1] * groups) or w.shape[0] % groups:
        raise GraphError(f"x has {x.shape[1]} channels, w {list(w.shape)} with {groups} groups does not fit")
    if w.quant is not None and w.quant.axis not in (None, 0):
        raise GraphError("weight channels must be along axis 0")
    _check_bias(bias, w.shape[0])
    spatial = []
    for i in range(rank):
        reach = attrs["dilations"][i] * (w.shape[2 + i] - 1) + 1
        size = normalize((x.shape[2 + i] + pads[i] + pads[rank + i] - reach) // attrs["strides"][i] + 1)
        if not is_symbolic(size) and size < 1:
            raise GraphError(f"kernel {w.shape[2:]} is larger than the padded input {x.shape[2:]}")
        spatial.append(size)
    return [_result(x, w, bias, (x.shape[0], w.shape[0], *spatial), 1)]


def _conv(ctx: RunContext, x: np.ndarray, w: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    a, b, integer = _operands(ctx, x, w)
    return _finish(convolve(a, b, ctx.attrs), bias, integer, 1)


def convolve(x: np.ndarray, w: np.ndarray, attrs: Mapping[str, Any]) -> np.ndarray:
    """N-d convolution, one matrix product per kernel tap; x [N, C, ...], w [O, C/groups, ...]."""
    rank, groups, pads = w.ndim - 2, attrs["groups"], attrs["pads"]
    x = np.pad(x, [(0, 0), (0, 0)] + [(pads[i], pads[rank + i]) for i in range(rank)])
    strides, dilations, kernel = attrs["strides"], attrs["dilations"], w.shape[2:]
    out = [(x.shape[2 + i] - dilations[i] * (kernel[i] - 1) - 1) // strides[i] + 1 for i in range(rank)]
    batch, channels = x.shape[:2]
    filters = w.reshape(groups, w.shape[0] // groups, w.shape[1], *kernel)
    depthwise = w.shape[1] == 1 and w.shape[0] == groups
    y = np.zeros((batch, groups, w.shape[0] // groups, int(np.prod(out))), np.result_type(x, w))
    for tap in np.ndindex(*kernel):
        window = tuple(
            slice(t * d, t * d + (o - 1) * s + 1, s)
            for t, d, s, o in zip(tap, dilations, strides, out, strict=True)
        )
        patch = x[(slice(None), slice(None), *window)].reshape(batch, groups, channels // groups, -1)
        taps = filters[(slice(None), slice(None), slice(None), *tap)]
        y += taps[None] * patch if depthwise else np.matmul(taps[None], patch)
    return y.reshape(batch, w.shape[0], *out)


def _conv_transpose_infer(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    x, w, bias = inputs
    rank = _conv_geometry(x, w, attrs)
    if (
        not same(x.shape[1], w.shape[0])
        or len(attrs["output_padding"]) != rank
        or x.shape[1] % attrs["groups"]
    ):
        raise GraphError(f"needs w [C, O/groups, kernel...] for x {x.shape}, got {w.shape}")
    if x.quant is not None:
        raise GraphError("has no quantized form")
    channels = w.shape[1] * attrs["groups"]
    _check_bias(bias, channels)
    pads = attrs["pads"]
    spatial = [
        normalize(
            (x.shape[2 + i] - 1) * attrs["strides"][i]
            + attrs["dilations"][i] * (w.shape[2 + i] - 1)
            + 1
            + attrs["output_padding"][i]
            - pads[i]
            - pads[rank + i]
        )
        for i in range(rank)
    ]
    return [_result(x, w, bias, (x.shape[0], channels, *spatial), 1)]


def _conv_transpose(ctx: RunContext, x: np.ndarray, w: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    attrs, rank, groups = ctx.attrs, w.ndim - 2, ctx.attrs["groups"]
    strides, dilations, pads = attrs["strides"], attrs["dilations"], attrs["pads"]
    batch, size, kernel = x.shape[0], x.shape[2:], w.shape[2:]
    full = [
        (size[i] - 1) * strides[i] + dilations[i] * (kernel[i] - 1) + 1 + attrs["output_padding"][i]
        for i in range(rank)
    ]
    y = np.zeros((batch, groups, w.shape[1], *full), x.dtype)
    filters = w.reshape(groups, w.shape[0] // groups, w.shape[1], *kernel)
    flat = x.reshape(batch, groups, x.shape[1] // groups, -1)
    for tap in np.ndindex(*kernel):
        taps = filters[(slice(None), slice(None), slice(None), *tap)].swapaxes(1, 2)
        part = np.matmul(taps[None], flat).reshape(batch, groups, w.shape[1], *size)
        window = tuple(
            slice(t * d, t * d + (n - 1) * s + 1, s)
            for t, d, s, n in zip(tap, dilations, strides, size, strict=True)
        )
        y[(slice(None), slice(None), slice(None), *window)] += part
    y = y.reshape(batch, groups * w.shape[1], *full)
    crop = tuple(slice(pads[i], full[i] - pads[rank + i]) for i in range(rank))
    return _finish(y[(slice(None), slice(None), *crop)], bias, False, 1)


CONV_ATTRS = (
    AttrSpec("strides", "ints"),
    AttrSpec("pads", "ints"),
    AttrSpec("dilations", "ints"),
    AttrSpec("groups", "int", 1),
)

OPS: list[Op] = [
    Op(
        "linear",
        ("x", "w", "bias?"),
        (),
        _linear_infer,
        _linear,
        "x [..., K], w [N, K], bias [N] -> x w^T + bias [..., N]",
        "linear",
    ),
    Op(
        "matmul",
        ("a", "b"),
        (),
        _matmul_infer,
        _matmul,
        "a [..., M, K], b [..., K, N] -> [..., M, N]",
        "linear",
    ),
    Op(
        "conv",
        ("x", "w", "bias?"),
        CONV_ATTRS,
        _conv_infer,
        _conv,
        "x [N, C, spatial...], w [O, C/groups, kernel...]; pads: all begins, then all ends; pads with real 0",
        "linear",
    ),
    Op(
        "conv_transpose",
        ("x", "w", "bias?"),
        (*CONV_ATTRS, AttrSpec("output_padding", "ints")),
        _conv_transpose_infer,
        _conv_transpose,
        "x [N, C, spatial...], w [C, O/groups, kernel...]; the gradient of conv with respect to its input",
        "linear",
    ),
]
