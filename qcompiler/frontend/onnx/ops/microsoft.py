"""Converters of ONNX Runtime's own fused float ops (domain com.microsoft)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ....ir import Value
from ..context import OnnxContext, Refusal
from . import linear, norm
from .attention import merge_heads

Converter = Callable[..., Any]


def fused_matmul(c: OnnxContext, a: Value, b: Value) -> Value:
    """alpha A' B'."""
    if c.number("transBatchA", 0) or c.number("transBatchB", 0):
        raise Refusal("FusedMatMul with transposed batch axes")
    left = c.swap_last(a) if c.number("transA", 0) else a
    y = linear.matmul(c, left, c.swap_last(b) if c.number("transB", 0) else b)
    alpha = c.number("alpha", 1.0)
    return y if alpha == 1 else c.op("mul", y, c.scalar(alpha, y.dtype))


def _activated(c: OnnxContext, y: Value) -> Value:
    name = c.text("activation", "")
    params = c.attr("activation_params", [])
    if not name:
        return y
    if name in ("Relu", "Sigmoid", "Tanh"):
        return c.op(name.lower(), y)
    if name == "Clip" and len(params) == 2:
        return c.op("clip", y, min=params[0], max=params[1])
    if name == "LeakyRelu":
        return c.op("leaky_relu", y, slope=params[0] if params else c.number("activation_alpha", 0.01))
    raise Refusal(f"activation {name!r}")


def fused_conv(c: OnnxContext, x: Value, w: Value, bias: Value | None = None, z: Value | None = None) -> Value:
    """Convolution, plus z, then an activation."""
    y = linear.conv(c, x, w, bias)
    return _activated(c, y if z is None else c.op("add", y, z))


def fused_gemm(c: OnnxContext, a: Value, b: Value, bias: Value | None = None) -> Value:
    """Gemm with an activation."""
    return _activated(c, linear.gemm(c, a, b, bias))


def gelu(approximate: str) -> Converter:
    """GELU of the sum of an operand and a bias."""
    return lambda c, x, bias=None: c.op("gelu", x if bias is None else c.op("add", x, bias), approximate=approximate)


def quick_gelu(c: OnnxContext, x: Value) -> Value:
    """x sigmoid(alpha x)."""
    alpha = c.number("alpha", 1.702)
    if abs(alpha - 1.702) < 1e-6:
        return c.op("gelu", x, approximate="sigmoid")
    return c.op("mul", x, c.op("sigmoid", c.op("mul", x, c.scalar(alpha, x.dtype))))


def skip_layer_norm(rms: bool) -> Converter:
    """Norm of x + skip + bias; the sum is the fourth result."""

    def convert(c: OnnxContext, x: Value, skip: Value, gamma: Value, *rest: Value | None) -> list[Value | None]:
        beta, bias = (None, rest[0] if rest else None) if rms else [*rest, None, None][:2]
        total = c.op("add", x, skip)
        total = total if bias is None else c.op("add", total, bias)
        eps = c.number("epsilon", 1e-5 if rms else 1e-12)
        y = c.op("rms_norm", total, gamma, eps=eps) if rms else c.op("layer_norm", total, gamma, beta, eps=eps)
        return [y, None, None, total]  # mean and deviation are for training

    return convert


def simplified_layer_norm(c: OnnxContext, x: Value, scale: Value) -> Value:
    """ONNX Runtime's older name of RMSNormalization."""
    return norm.rms_norm(c, x, scale)


def embed_layer_norm(
    c: OnnxContext, ids: Value, segments: Value | None, words: Value, places: Value, kinds: Value | None, gamma: Value,
    beta: Value, mask: Value | None = None, positions: Value | None = None,
) -> list[Value]:  # fmt: skip
    """Word, position and segment embeddings, summed and normalized."""
    y = c.op("gather", words, ids, axis=0)
    if positions is None:
        rows = c.slice(places, 0, 0, ids.shape[1]) if places.shape[0] != ids.shape[1] else places
    else:
        rows = c.op("gather", places, positions, axis=0)
    y = c.op("add", y, rows)
    if segments is not None and kinds is not None:
        y = c.op("add", y, c.op("gather", kinds, segments, axis=0))
    if c.outputs > 1:
        raise Refusal("the mask index of EmbedLayerNormalization is not in the graph")
    return [c.op("layer_norm", y, gamma, beta, eps=c.number("epsilon", 1e-12))]


def attention(
    c: OnnxContext, x: Value, w: Value, bias: Value | None = None, mask: Value | None = None, past: Value | None = None,
    extra: Value | None = None,
) -> Value:  # fmt: skip
    """Self-attention from one packed projection [C, 3 H D]."""
    if past is not None or c.number("do_rotary", 0) or c.outputs > 1:
        raise Refusal("Attention with a cache or rotary embedding")
    total = c.op("matmul", x, w)
    total = total if bias is None else c.op("add", total, bias)
    return packed_attention(c, total, c.integers("qkv_hidden_sizes", (w.shape[1] // 3,) * 3), mask, extra)


def packed_attention(c: OnnxContext, total: Value, widths: tuple[int, ...], mask: Value | None, extra: Value | None) -> Value:
    """Attention of queries, keys and values that lie side by side in [N, T, sum of widths]."""
    heads = c.number("num_heads")
    parts, start = [], 0
    for width in widths:
        part = c.slice(total, -1, start, start + width)
        start += width
        batch, time, _ = part.shape
        parts.append(c.transpose(c.reshape(part, (batch, time, heads, width // heads)), (0, 2, 1, 3)))
    scale = c.number("scale", None)
    y = c.op(
        "attention", *parts, _mask(c, parts[0], mask, extra), scale=scale or None, causal=bool(c.number("unidirectional", 0))
    )
    return merge_heads(c, y)


def _mask(c: OnnxContext, q: Value, mask: Value | None, extra: Value | None) -> Value | None:
    """A padding mask [N, S], or [N, T, S], of 0 and 1 becomes bool; an additive one stays."""
    if mask is None:
        return extra
    if len(mask.shape) not in (2, 3) or extra is not None:
        raise Refusal(f"an attention mask of shape {list(mask.shape)}")
    batch, keys = mask.shape[0], mask.shape[-1]
    seen = c.op("not_equal", mask, c.scalar(0, mask.dtype))
    return c.reshape(seen, (batch, 1, 1 if len(mask.shape) == 2 else mask.shape[1], keys))


def multi_head_attention(
    c: OnnxContext, q: Value, k: Value | None = None, v: Value | None = None, bias: Value | None = None,
    mask: Value | None = None, extra: Value | None = None, *cache: Value | None,
) -> Value:  # fmt: skip
    """Attention of separate projections [N, T, H D]."""
    if k is None or v is None or len(k.shape) != 3 or any(x is not None for x in cache) or c.outputs > 1:
        raise Refusal("MultiHeadAttention with packed operands or a cache")
    heads = c.number("num_heads")
    parts, start = [], 0
    for x in (q, k, v):
        if bias is not None:
            x = c.op("add", x, c.slice(bias, 0, start, start + x.shape[-1]))
        batch, time, width = x.shape
        start += width
        parts.append(c.transpose(c.reshape(x, (batch, time, heads, width // heads)), (0, 2, 1, 3)))
    causal = bool(c.number("unidirectional", 0))
    scale = c.number("scale", None)
    return merge_heads(c, c.op("attention", *parts, _mask(c, parts[0], mask, extra), scale=scale or None, causal=causal))


def bias_add(c: OnnxContext, x: Value, bias: Value, skip: Value) -> Value:
    """x + bias + skip."""
    return c.op("add", c.op("add", x, bias), skip)


_MICROSOFT: dict[str, Converter] = {
    "FusedMatMul": fused_matmul, "FusedConv": fused_conv, "FusedGemm": fused_gemm, "Gelu": gelu("none"),
    "BiasGelu": gelu("none"), "FastGelu": gelu("tanh"), "QuickGelu": quick_gelu, "BiasAdd": bias_add,
    "SkipLayerNormalization": skip_layer_norm(False), "SkipSimplifiedLayerNormalization": skip_layer_norm(True),
    "EmbedLayerNormalization": embed_layer_norm, "Attention": attention, "MultiHeadAttention": multi_head_attention,
}  # fmt: skip

CONVERTERS: dict[str, Converter] = {
    **{f"com.microsoft.{name}": convert for name, convert in _MICROSOFT.items()},
    "SimplifiedLayerNormalization": simplified_layer_norm,
}
