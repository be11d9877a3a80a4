"""Converters of attention and rotary embedding as ONNX has them (operator sets 23 and 24)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ....ir import DType, Value
from ..context import OnnxContext, Refusal

Converter = Callable[..., Any]


def attention(
    c: OnnxContext, q: Value, k: Value, v: Value, mask: Value | None = None, past_key: Value | None = None,
    past_value: Value | None = None, lengths: Value | None = None,
) -> list[Value]:  # fmt: skip
    """Scaled dot-product attention; [N, T, H D] operands are taken apart into heads.

    The result of the product with the keys, a soft cap and padded caches are left to the definition of the op.
    """
    others = set(c.attrs) - {"is_causal", "q_num_heads", "kv_num_heads", "scale", "softcap", "softmax_precision"}
    if c.number("softcap", 0.0) or c.outputs > 3 or lengths is not None or others - {"qk_matmul_output_mode"}:
        raise Refusal("softcap, qk_matmul_output and nonpad_kv_seqlen are not in the graph's attention")
    causal = bool(c.number("is_causal", 0))
    if causal and (mask is not None or past_key is not None):
        raise Refusal("a causal mask beside another one or a cache")
    flat = len(q.shape) == 3
    if flat:
        heads, kv_heads = c.number("q_num_heads"), c.number("kv_num_heads")
        q, k, v = _heads(c, q, heads), _heads(c, k, kv_heads), _heads(c, v, kv_heads)
    if past_key is not None and past_value is not None:
        k, v = c.op("concat", past_key, k, axis=2), c.op("concat", past_value, v, axis=2)
    if causal and q.shape[-2] != k.shape[-2]:
        raise Refusal("causal attention of queries and keys of different length")
    if mask is not None and mask.shape[-1] != k.shape[-2]:
        raise Refusal("a mask shorter than the keys")
    y = c.op("attention", q, k, v, mask, scale=c.number("scale", None), causal=causal)
    if flat:
        y = merge_heads(c, y)
    return [y, k, v]


def _heads(c: OnnxContext, x: Value, count: int) -> Value:
    """[N, T, H D] -> [N, H, T, D]."""
    batch, time, width = x.shape
    return c.transpose(c.reshape(x, (batch, time, count, width // count)), (0, 2, 1, 3))


def merge_heads(c: OnnxContext, y: Value) -> Value:
    """[N, H, T, D] -> [N, T, H D]."""
    batch, heads, time, width = y.shape
    return c.reshape(c.transpose(y, (0, 2, 1, 3)), (batch, time, heads * width))


def rotary(c: OnnxContext, x: Value, cos: Value, sin: Value, positions: Value | None = None) -> Value:
    """Rotary embedding; caches [P, R/2] are looked up by position, or given per token [N, T, R/2]."""
    flat = len(x.shape) == 3
    heads = c.number("num_heads", 0)
    if flat:
        if not heads:
            raise Refusal("needs num_heads for an operand [N, T, H D]")
        x = _heads(c, x, heads)
    if positions is not None:
        cos, sin = (c.op("gather", table, c.cast(positions, DType.int64), axis=0) for table in (cos, sin))
    width = c.number("rotary_embedding_dim", 0) or x.shape[-1]
    cos, sin = (c.slice(table, -1, 0, width // 2) for table in (cos, sin))
    interleaved = bool(c.number("interleaved", 0))
    full = []
    for table in (cos, sin):
        if interleaved:  # each angle serves the channels 2i and 2i + 1
            wide = c.unsqueeze(table, -1)
            table = c.reshape(c.expand(wide, (*table.shape, 2)), (*table.shape[:-1], width))
        else:
            table = c.op("concat", table, table, axis=-1)
        full.append(c.unsqueeze(table, 1))
    y = c.op("rotary", x, *full, interleaved=interleaved)
    return merge_heads(c, y) if flat else y


CONVERTERS: dict[str, Converter] = {"Attention": attention, "RotaryEmbedding": rotary}
