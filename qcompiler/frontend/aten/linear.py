"""Converters of matrix products, convolutions and attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...ir import DType, Value
from ..context import Context, Refusal, is_symbolic_dim, static
from .elementwise import truth

Converter = Callable[..., Any]


def linear(c: Context, x: Value, weight: Value, bias: Value | None = None) -> Value:
    """Gives x w^T + bias."""
    return c.op("linear", x, weight, bias)


def addmm(c: Context, bias: Value, a: Value, b: Value, *, beta: Any = 1, alpha: Any = 1) -> Value:
    """Gives beta bias + alpha a b; a linear layer where bias is a vector."""
    if beta == alpha == 1 and len(bias.shape) == 1 and bias.shape[0] == b.shape[-1]:
        return c.op("linear", a, c.swap_last(b), bias)
    return _plus(c, c.op("matmul", a, b), bias, beta, alpha)


def baddbmm(c: Context, bias: Value, a: Value, b: Value, *, beta: Any = 1, alpha: Any = 1) -> Value:
    """Gives beta bias + alpha a b, batched."""
    return _plus(c, c.op("matmul", a, b), bias, beta, alpha)


def addmv(c: Context, bias: Value, a: Value, x: Value, *, beta: Any = 1, alpha: Any = 1) -> Value:
    """Gives beta bias + alpha a x."""
    return _plus(c, matmul(c, a, x), bias, beta, alpha)


def _plus(c: Context, product: Value, bias: Value, beta: Any, alpha: Any) -> Value:
    if alpha != 1:
        product = c.op("mul", product, c.const(alpha, c.dtype))
    if beta == 0:
        return product
    return c.op("add", product, bias if beta == 1 else c.op("mul", bias, c.const(beta, c.dtype)))


def matmul(c: Context, a: Value, b: Value) -> Value:
    """Gives torch's matmul: vectors are rows on the left, columns on the right. Products of integers go through float64."""
    if c.dtype.is_integer:
        return c.cast(_matmul(c, c.cast(a, DType.float64), c.cast(b, DType.float64)), c.dtype)
    return _matmul(c, a, b)


def _matmul(c: Context, a: Value, b: Value) -> Value:
    left = c.unsqueeze(a, 0) if len(a.shape) == 1 else a
    right = c.unsqueeze(b, 1) if len(b.shape) == 1 else b
    return c.reshape(c.op("matmul", left, right), c.shape)


def bilinear(c: Context, a: Value, b: Value, weight: Value, bias: Value | None = None) -> Value:
    """y[..., o] = a[..., i] w[o, i, j] b[..., j] + bias."""
    out, rows, columns = weight.shape
    flat = c.op("linear", a, c.reshape(c.transpose(weight, (0, 2, 1)), (out * columns, rows)))
    product = c.op("mul", c.reshape(flat, (*a.shape[:-1], out, columns)), c.unsqueeze(b, -2))
    y = c.op("reduce_sum", product, axes=[-1])
    return y if bias is None else c.op("add", y, bias)


def _each(value: Any, rank: int) -> list[int]:
    """An ATen int list: one entry may stand for all axes."""
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    return [static(v, "strides, padding and dilation") for v in (values * rank if len(values) == 1 else values)]


def conv(
    c: Context,
    x: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Value:
    """Convolution with padding in numbers, or `same` or `valid`; a missing batch axis is added and removed."""
    rank = len(weight.shape) - 2
    strides, dilations = _each(stride, rank), _each(dilation, rank)
    if padding == "same":  # an odd total puts the extra element at the end
        total = [d * (static(k, "the kernel") - 1) for d, k in zip(dilations, weight.shape[2:], strict=True)]
        pads = [t // 2 for t in total] + [t - t // 2 for t in total]
    else:
        pads = _each(0 if padding == "valid" else padding, rank) * 2
    batched = x if len(x.shape) == rank + 2 else c.unsqueeze(x, 0)
    y = c.op("conv", batched, weight, bias, strides=strides, pads=pads, dilations=dilations, groups=groups)
    return c.reshape(y, c.shape) if batched is not x else y


def conv_transpose(
    c: Context,
    x: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Value:
    """Transposed convolution."""
    rank = len(weight.shape) - 2
    attrs = {"strides": _each(stride, rank), "pads": _each(padding, rank) * 2, "dilations": _each(dilation, rank)}
    batched = x if len(x.shape) == rank + 2 else c.unsqueeze(x, 0)
    y = c.op(
        "conv_transpose", batched, weight, bias, groups=groups, output_padding=_each(output_padding, rank), **attrs
    )
    return c.reshape(y, c.shape) if batched is not x else y


def convolution(
    c: Context,
    x: Value,
    weight: Value,
    bias: Value | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
    *_: Any,
) -> Value:
    """The general form of decomposed programs."""
    if transposed:
        return conv_transpose(c, x, weight, bias, stride, padding, output_padding, groups, dilation)
    return conv(c, x, weight, bias, stride, padding, dilation, groups)


def attention(
    c: Context,
    q: Value,
    k: Value,
    v: Value,
    attn_mask: Value | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: Any = None,
    enable_gqa: bool = False,
) -> Value:
    """scaled_dot_product_attention; fewer key heads than query heads need no flag in the graph."""
    if dropout_p:
        raise Refusal("attention dropout is active: the program was exported in training mode")
    if is_symbolic_dim(scale):
        raise Refusal("the scale of attention depends on a dynamic dimension")
    shape = c.shape
    if len(q.shape) == 2:
        q, k, v = (c.unsqueeze(x, 0) for x in (q, k, v))
    if attn_mask is not None and attn_mask.dtype is not DType.bool:
        attn_mask = c.cast(attn_mask, q.dtype)
    y = c.op("attention", q, k, v, attn_mask, scale=scale, causal=is_causal)
    return c.reshape(y, shape)


def flash_attention(
    c: Context, q: Value, k: Value, v: Value, dropout_p: float = 0.0, is_causal: bool = False, *_: Any, **kwargs: Any
) -> list[Value | None]:
    """Kernels that decomposed programs name; only the first result is used."""
    mask, scale = kwargs.get("attn_mask"), kwargs.get("scale")
    return [attention(c, q, k, v, mask, dropout_p, is_causal, scale=scale), None]


def multi_head_attention(
    c: Context,
    query: Value,
    key: Value,
    value: Value,
    embed_dim: int,
    num_head: int,
    qkv_weight: Value,
    qkv_bias: Value,
    proj_weight: Value,
    proj_bias: Value,
    mask: Value | None = None,
    need_weights: bool = True,
    average_attn_weights: bool = True,
    mask_type: int | None = None,
) -> list[Value | None]:
    """nn.MultiheadAttention's fused inference path, [N, T, E]; mask_type 0: [T, S], 1: padding [N, S], 2: both."""
    if need_weights:
        raise Refusal("attention weights are asked for; call the layer with need_weights=False")
    head = embed_dim // num_head
    parts = []
    for i, x in enumerate((query, key, value)):
        weight = c.slice(qkv_weight, 0, i * embed_dim, (i + 1) * embed_dim)
        bias = c.slice(qkv_bias, 0, i * embed_dim, (i + 1) * embed_dim)
        y = c.reshape(c.op("linear", x, weight, bias), (*x.shape[:2], num_head, head))
        parts.append(c.transpose(y, (0, 2, 1, 3)))
    if mask is not None and mask_type == 1:
        mask = c.reshape(mask, (mask.shape[0], 1, 1, mask.shape[1]))
    if mask is not None and mask.dtype is DType.bool:  # here true means: leave out
        mask = c.op("logical_not", truth(c, mask))
    y = c.transpose(c.op("attention", *parts, mask), (0, 2, 1, 3))
    return [c.op("linear", c.reshape(y, query.shape), proj_weight, proj_bias), None]


CONVERTERS: dict[str, Converter] = {
    "aten.linear.default": linear,
    "aten.addmm.default": addmm,
    "aten.baddbmm.default": baddbmm,
    "aten.addmv.default": addmv,
    **{f"aten.{name}.default": matmul for name in ("matmul", "mm", "bmm", "mv", "dot", "inner_product")},
    "aten.bilinear.default": bilinear,
    **{f"aten.conv{n}d.{o}": conv for n in (1, 2, 3) for o in ("default", "padding")},
    "aten.conv_transpose1d.default": conv_transpose,
    "aten.conv_transpose2d.input": conv_transpose,
    "aten.conv_transpose3d.input": conv_transpose,
    "aten.convolution.default": convolution,
    "aten.scaled_dot_product_attention.default": attention,
    "aten._scaled_dot_product_flash_attention_for_cpu.default": flash_attention,
    "aten._native_multi_head_attention.default": multi_head_attention,
}
