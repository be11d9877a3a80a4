"""Ops between real numbers, codes and accumulators. Rounding is an attribute of these ops only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...errors import GraphError
from ..dims import same, same_shape
from ..dtypes import DType
from ..fixed_point import (
    PROFILES,
    check_rescale,
    fused_multiply_add,
    rescale,
    rescale_shift_half_even,
    sum_constant,
)
from ..quant import QuantParams
from .spec import AttrSpec, Op, RunContext, TensorType, broadcast_shapes, centred


def _quantize_infer(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    x, quant = inputs[0], attrs["quant"]
    if not x.dtype.is_float:
        raise GraphError(f"takes real numbers, got {x.dtype.name}")
    if attrs["rounding"] != "half_even":
        raise GraphError(f"rounding is half_even, got {attrs['rounding']!r}")
    _check_channels(quant, x.shape)
    return [TensorType(quant.dtype, x.shape, quant)]


def _check_channels(quant: QuantParams, shape: tuple[Any, ...]) -> None:
    if quant.axis is None:
        return
    if quant.axis >= len(shape):
        raise GraphError(f"quantization axis {quant.axis} outside rank {len(shape)}")
    size = shape[quant.axis]
    if quant.group_size is None:
        if not same(quant.scale.shape[0], size):
            raise GraphError(f"{quant.scale.shape[0]} scales for {size} channels")
        return
    groups = tuple(-(-size // quant.group_size) if i == quant.axis else d for i, d in enumerate(shape))
    if not same_shape(quant.scale.shape, groups):
        raise GraphError(f"scales of shape {quant.scale.shape} for groups {groups}")


def _quantize(ctx: RunContext, x: np.ndarray) -> np.ndarray:
    return ctx.attrs["quant"].quantize(x)


def _dequantize_infer(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    if inputs[0].quant is None:
        raise GraphError("operand carries no quantization parameters")
    return [TensorType(DType.float32, inputs[0].shape)]


def _dequantize(ctx: RunContext, x: np.ndarray) -> np.ndarray:
    return _quant_of(ctx, 0).dequantize(x)


def _quant_of(ctx: RunContext, index: int) -> QuantParams:
    value = ctx.node.inputs[index]
    if value is None or value.quant is None:
        raise GraphError(f"{ctx.node.where()}: operand {index} carries no quantization parameters")
    return value.quant


def _check_rounding(attrs: Mapping[str, Any]) -> None:
    quant: QuantParams = attrs["quant"]
    if attrs["rounding"] not in PROFILES:
        raise GraphError(f"rounding is one of {', '.join(PROFILES)}; got {attrs['rounding']!r}")
    low, high = _limits(attrs)
    if not quant.dtype.min <= low <= high <= quant.dtype.max:
        raise GraphError(f"limits [{low}, {high}] outside {quant.dtype.name}")
    if not quant.per_tensor:
        raise GraphError("activations are quantized per tensor")


def _limits(attrs: Mapping[str, Any]) -> tuple[int, int]:
    dtype = attrs["quant"].dtype
    low, high = attrs["qmin"], attrs["qmax"]
    return dtype.min if low is None else low, dtype.max if high is None else high


def _requantize_infer(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    acc, multiplier, shift = inputs
    _check_rounding(attrs)
    if acc.quant is None or not acc.dtype.is_integer:
        raise GraphError("operand must be integers with quantization parameters")
    real = attrs["rounding"] == "float32_half_even"
    if multiplier.dtype is not (DType.float32 if real else DType.int64):
        raise GraphError(f"profile {attrs['rounding']} does not take a {multiplier.dtype.name} multiplier")
    if (shift is None) is not real:
        raise GraphError(f"profile {attrs['rounding']} {'takes no' if real else 'needs a'} shift")
    for operand in (multiplier, shift):
        if operand is not None and operand.shape:
            axis = acc.quant.axis
            if axis is None or len(operand.shape) != 1 or not same(operand.shape[0], acc.shape[axis]):
                raise GraphError(f"multiplier or shift of shape {operand.shape} does not fit {acc.shape}")
    return [TensorType(attrs["quant"].dtype, acc.shape, attrs["quant"])]


def _requantize(
    ctx: RunContext, acc: np.ndarray, multiplier: np.ndarray, shift: np.ndarray | None
) -> np.ndarray:
    source = _quant_of(ctx, 0)
    wide = centred(acc, source)
    m = source.broadcast(multiplier, acc.shape)
    s = None if shift is None else source.broadcast(shift, acc.shape)
    return _saturate(rescale(wide, ctx.attrs["rounding"], m, s), ctx.attrs)


def _saturate(y: np.ndarray, attrs: Mapping[str, Any]) -> np.ndarray:
    quant: QuantParams = attrs["quant"]
    low, high = _limits(attrs)
    return np.clip(y + int(quant.zero_point), low, high).astype(quant.dtype.numpy)


def _sum_infer(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    _check_rounding(attrs)
    real = attrs["rounding"] == "float32_half_even"
    given = attrs["real_multipliers"] if real else attrs["multipliers"]
    if len(inputs) < 2 or len(given) != len(inputs):
        raise GraphError(
            f"needs two or more operands and a multiplier for each, got {len(inputs)} and {len(given)}"
        )
    if bool(attrs["multipliers"]) is real or bool(attrs["real_multipliers"]) is not real:
        raise GraphError(
            f"profile {attrs['rounding']} takes {'real_multipliers' if real else 'multipliers and shift'}"
        )
    if attrs["rounding"] == "dyadic_double":
        raise GraphError("a sum has one rounding; dyadic_double rounds twice")
    if not real:
        _check_sum(attrs)
    for x in inputs:
        if x.quant is None or not x.quant.per_tensor:
            raise GraphError("operands must be quantized per tensor")
    return [TensorType(attrs["quant"].dtype, broadcast_shapes(*[x.shape for x in inputs]), attrs["quant"])]


def _check_sum(attrs: Mapping[str, Any]) -> None:
    if any(not 0 < abs(m) < 1 << 31 for m in attrs["multipliers"]):
        raise GraphError(f"multipliers lie in (-2^31, 2^31) and are not 0, got {attrs['multipliers']}")
    try:
        check_rescale(attrs["rounding"], np.ones((), np.int64), np.asarray(attrs["shift"]))
    except ValueError as error:
        raise GraphError(str(error)) from None


def _requantize_sum(ctx: RunContext, *xs: np.ndarray) -> np.ndarray:
    attrs = ctx.attrs
    if attrs["rounding"] == "float32_half_even":
        zeros = [int(_quant_of(ctx, i).zero_point) for i in range(len(xs))]
        total: np.ndarray = sum_constant(attrs["real_multipliers"], zeros, int(attrs["quant"].zero_point))
        for x, m in zip(xs[::-1], attrs["real_multipliers"][::-1], strict=True):
            total = fused_multiply_add(x, m, total)
        return np.clip(np.rint(total), *_limits(attrs)).astype(attrs["quant"].dtype.numpy)
    whole: np.ndarray = np.zeros((), np.int64)
    for i, (x, m) in enumerate(zip(xs, attrs["multipliers"], strict=True)):
        whole = whole + centred(x, _quant_of(ctx, i)) * np.int64(m)
    shift = np.asarray(attrs["shift"], np.int64)
    # multiplier 1: the products are summed already; one shift, one rounding
    if attrs["rounding"] == "dyadic":
        return _saturate((whole + (np.int64(1) << (shift - 1))) >> shift, attrs)
    return _saturate(rescale_shift_half_even(whole, shift), attrs)


def _dynamic_infer(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    x, w, bias = inputs
    if attrs["granularity"] not in GRANULARITIES:
        raise GraphError(f"granularity is one of {', '.join(GRANULARITIES)}; got {attrs['granularity']!r}")
    _check_weight(x, w)
    if attrs["granularity"] == "tensor" and w.quant.group_size is not None:
        raise GraphError("a weight in groups takes granularity token or group")
    if attrs["granularity"] == "group" and w.quant.group_size is None:
        raise GraphError("granularity group needs a weight in groups")
    if attrs["bits"] != 8 and (attrs["bits"] != 16 or attrs["granularity"] != "group"):
        raise GraphError(f"operands have 8 bits, or 16 with granularity group; got {attrs['bits']}, {attrs['granularity']}")
    if bias is not None and bias.dtype is not x.dtype:
        raise GraphError(f"bias is real ({x.dtype.name}), got {bias.dtype.name}")
    return [TensorType(x.dtype, (*x.shape[:-1], w.shape[0]))]


GRANULARITIES = ("tensor", "token", "group")


def _check_weight(x: Any, w: Any) -> None:
    """W [N, K]: codes with scales per tensor, per output channel, or in groups along the input channels."""
    if not x.dtype.is_float or w.quant is None or len(w.shape) != 2 or not same(x.shape[-1], w.shape[1]):
        raise GraphError(f"needs real x [..., K] and quantized w [N, K], got {x}, {w}")
    if w.quant.axis not in (None, 0) and w.quant.group_size is None:
        raise GraphError("weight channels must be along axis 0")
    if w.quant.group_size is not None and w.quant.axis != 1:
        raise GraphError("weight groups must be along axis 1")
    _check_channels(w.quant, w.shape)


def _weight_only_infer(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    x, w, bias = inputs
    _check_weight(x, w)
    if bias is not None and bias.dtype is not x.dtype:
        raise GraphError(f"bias is real ({x.dtype.name}), got {bias.dtype.name}")
    return [TensorType(x.dtype, (*x.shape[:-1], w.shape[0]))]


def _weight_only_linear(ctx: RunContext, x: np.ndarray, w: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    real = _quant_of(ctx, 1).dequantize(w).astype(x.dtype)
    y = (x.reshape(-1, x.shape[-1]) @ real.T).reshape(*x.shape[:-1], w.shape[0])
    return y if bias is None else y + bias


def dynamic_codes(
    x: np.ndarray, granularity: str, group_size: int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(codes uint8, scale float32, zero point int64) of x, ranges taken from x itself.

    `tensor`: ONNX DynamicQuantizeLinear (range includes 0, asymmetric). `token`: symmetric per row of the last
    axis, zero point 128, scale [..., 1] = max|x| / 127. `group`: the same per row and `group_size` elements of it,
    scale [..., groups]. A constant-zero range has scale 1.
    """
    x = x.astype(np.float32)
    if granularity == "group":
        assert group_size is not None
        size = x.shape[-1]
        padded = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, -size % group_size)])
        parts = padded.reshape(*x.shape[:-1], -1, group_size)
        codes, scale, zero = dynamic_codes(parts, "token")
        return codes.reshape(padded.shape)[..., :size], scale[..., 0], zero
    if granularity == "token":
        peak = np.abs(x).max(-1, keepdims=True, initial=0)
        scale = np.where(peak > 0, peak / np.float32(127), np.float32(1)).astype(np.float32)
        zero = np.asarray(128, np.int64)
    else:
        low, high = np.float32(min(x.min(initial=0), 0)), np.float32(max(x.max(initial=0), 0))
        scale = np.asarray((high - low) / np.float32(255) if high > low else 1, np.float32)
        zero = np.clip(np.rint(-low / scale), 0, 255).astype(np.int64)
    codes = np.clip(np.rint(x / scale).astype(np.int64) + zero, 0, 255).astype(np.uint8)
    return codes, scale, np.asarray(zero)


def dynamic_terms(x: np.ndarray, group_size: int) -> tuple[np.ndarray, np.ndarray]:
    """X as its codes of granularity `group` stand for, and what is left of it, both float32.

    Rounded in the same way, the rest is off by at most 2^-16 of the largest magnitude in its group.
    """
    x = x.astype(np.float32)
    codes, scale, zero = dynamic_codes(x, "group", group_size)
    steps = np.repeat(scale, group_size, axis=-1)[..., : x.shape[-1]]
    first = (codes.astype(np.int64) - zero).astype(np.float32) * steps
    return first, x - first


def _dynamic_linear(ctx: RunContext, x: np.ndarray, w: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    wq = _quant_of(ctx, 1)
    if ctx.attrs["bits"] == 16:
        first, rest = dynamic_terms(x, wq.group_size or w.shape[1])
        one = replace(ctx, attrs={**ctx.attrs, "bits": 8})
        return _dynamic_linear(one, first, w, None) + _dynamic_linear(one, rest, w, bias)
    codes, scale, zero = dynamic_codes(x, ctx.attrs["granularity"], wq.group_size)
    centre = (codes.astype(np.int64) - zero).astype(np.float64)
    if wq.group_size is not None:
        return _dynamic_groups(centre, scale, centred(w, wq).astype(np.float64), wq, bias)
    acc = np.rint(centre @ centred(w, wq).astype(np.float64).T)
    y = acc.astype(np.float32) * (scale * wq.scale)
    return (y if bias is None else y + bias).astype(np.float32)


def _dynamic_groups(
    x: np.ndarray, x_scale: np.ndarray, w: np.ndarray, wq: QuantParams, bias: np.ndarray | None
) -> np.ndarray:
    """Sum over groups of the exact integer product times both scales; x_scale [..., 1] or [..., groups]."""
    size = wq.group_size or w.shape[1]
    y = np.zeros((*x.shape[:-1], len(w)), np.float64)
    for g in range(wq.scale.shape[1]):
        part = slice(g * size, (g + 1) * size)
        factor = x_scale[..., min(g, x_scale.shape[-1] - 1), None] * wq.scale[:, g]
        y += (x[..., part] @ w[:, part].T) * factor
    return np.asarray(y if bias is None else y + bias, np.float32)


RESCALE = (
    AttrSpec("quant", "quant"),
    AttrSpec("rounding", "str"),
    AttrSpec("qmin", "int", None),
    AttrSpec("qmax", "int", None),
)

OPS: list[Op] = [
    Op(
        "quantize",
        ("x",),
        (AttrSpec("quant", "quant"), AttrSpec("rounding", "str", "half_even")),
        _quantize_infer,
        _quantize,
        "saturate(round_half_even(x / scale) + zero_point)",
        "quantized",
    ),
    Op(
        "dequantize",
        ("x",),
        (),
        _dequantize_infer,
        _dequantize,
        "float32(q - zero_point) * scale",
        "quantized",
    ),
    Op(
        "requantize",
        ("acc", "multiplier", "shift?"),
        RESCALE,
        _requantize_infer,
        _requantize,
        "clip(rescale(acc - its zero point) + zero_point, qmin, qmax); multiplier [] or [C] along the accumulator's"
        " channel axis, float32 for float32_half_even, else int64 with an int64 shift; fixed_point defines rounding",
        "quantized",
    ),
    Op(
        "requantize_sum",
        ("xs*",),
        (
            *RESCALE,
            AttrSpec("real_multipliers", "floats", ()),
            AttrSpec("multipliers", "ints", ()),
            AttrSpec("shift", "int", 0),
        ),
        _sum_infer,
        _requantize_sum,
        "clip(round(sum of m_i (x_i - z_i)) + zero_point, qmin, qmax): one shift, one rounding; float32_half_even adds"
        " x_i m_i from the last to the first to the constant of all zero points, by fused multiply-add",
        "quantized",
    ),
    Op(
        "dynamic_linear",
        ("x", "w", "bias?"),
        (AttrSpec("granularity", "str", "tensor"), AttrSpec("bits", "int", 8)),
        _dynamic_infer,
        _dynamic_linear,
        "x quantized to uint8 by its own range (per tensor, token, or token and weight group), integer product with"
        " w [N, K], real result; bits 16: the same once more on what rounding left, and the sum of both",
        "quantized",
    ),
    Op(
        "weight_only_linear",
        ("x", "w", "bias?"),
        (),
        _weight_only_infer,
        _weight_only_linear,
        "x w^T + bias with real x [..., K] and codes w [N, K], scales per channel or per group of input channels",
        "quantized",
    ),
]
