"""ONNX forms of normalizations, softmax, attention and rotary embedding."""

from __future__ import annotations

import math

import numpy as np

from qcompiler.ir import DType, Graph, Node, Value
from qcompiler.ir.dims import is_symbolic

from .emit_elementwise import Rule
from .emit_movement import reshape
from .emitter import Emitter


def _ones_like(e: Emitter, x: Value, count: int) -> str:
    sizes = [d for d in x.shape[-count:]]
    if any(is_symbolic(d) for d in sizes):
        one = e.const(np.ones(1, x.dtype.numpy))
        return str(e.op("Expand", one, e.shape(tuple(sizes))))
    return e.const(np.ones(sizes, x.dtype.numpy))


def _layer_norm(e: Emitter, node: Node) -> str:
    x, weight, bias = node.inputs
    assert x is not None
    count = node.attrs["axes"]
    scale = weight if weight is not None else _ones_like(e, x, count)
    return str(e.op("LayerNormalization", x, scale, bias, axis=-count, epsilon=node.attrs["eps"]))


def _rms_norm(e: Emitter, node: Node) -> str:
    x, weight = node.inputs
    assert x is not None
    count = node.attrs["axes"]
    if e.style.runtime_kernels and not e.style.plain and x.dtype is DType.float32:
        scale = weight if weight is not None else _ones_like(e, x, count)
        return str(e.op("SimplifiedLayerNormalization", x, scale, axis=-count, epsilon=node.attrs["eps"]))
    square = e.op("ReduceMean", e.op("Mul", x, x), e.ints(range(-count, 0)), keepdims=1)
    y = e.op("Div", x, e.op("Sqrt", e.op("Add", square, e.scalar(node.attrs["eps"], x.dtype))))
    return str(y if weight is None else e.op("Mul", y, weight))


def _batch_norm(e: Emitter, node: Node) -> str:
    x, mean, var, weight, bias = node.inputs
    assert x is not None
    channels = x.shape[1]
    scale = weight if weight is not None else e.const(np.ones(channels, x.dtype.numpy))
    shift = bias if bias is not None else e.const(np.zeros(channels, x.dtype.numpy))
    return str(e.op("BatchNormalization", x, scale, shift, mean, var, epsilon=node.attrs["eps"]))


def _per_channel(e: Emitter, value: Value, rank: int) -> str:
    """[C] as [C, 1, ...] so that it broadcasts against x [N, C, ...]."""
    if rank == 2:
        return e.name(value)
    return str(e.op("Unsqueeze", value, e.ints(range(1, rank - 1))))


def _group_norm(e: Emitter, node: Node) -> str:
    """Instance normalization of x seen as [N, groups, everything else]."""
    x, weight, bias = node.inputs
    assert x is not None
    groups, kind = node.attrs["groups"], x.dtype.numpy
    flat = e.op("Reshape", x, e.ints([0, groups, -1]))
    y = e.op(
        "InstanceNormalization", flat, e.const(np.ones(groups, kind)), e.const(np.zeros(groups, kind)),
        epsilon=node.attrs["eps"],
    )  # fmt: skip
    y = e.op("Reshape", y, e.shape(x.shape))
    if weight is not None:
        y = e.op("Mul", y, _per_channel(e, weight, len(x.shape)))
    return str(y if bias is None else e.op("Add", y, _per_channel(e, bias, len(x.shape))))


# Added where a mask excludes: finite, so that a row without any key gives numbers and not NaN.
EXCLUDED = {DType.float16: -6e4}


def _excluded(dtype: DType) -> float:
    return EXCLUDED.get(dtype, -1e30)


def attention_mask(e: Emitter, node: Node) -> tuple[str | None, str | None]:
    """(what to add to the scores, row factor) of an attention node; each made once for all its readers.

    The row factor [..., T or 1, 1] is 0 where a query may see no key: its result is 0 then. None where no row
    can be blind.
    """
    q, k, _, mask = node.inputs
    assert q is not None and k is not None
    key = (mask, node.attrs["causal"], str(q.shape[-2]), str(k.shape[-2]), q.dtype)
    if key not in e.mask_cache:
        causal = _causal_allowed(e, q.shape[-2], k.shape[-2]) if node.attrs["causal"] else None
        if mask is None:
            e.mask_cache[key] = (None if causal is None else _additive(e, causal, q.dtype, -math.inf), None)
        elif mask.dtype is DType.bool:
            e.mask_cache[key] = _bool_mask(e, mask, causal, q.dtype)
        else:
            e.mask_cache[key] = _real_mask(e, mask, causal)
    return e.mask_cache[key]


def _additive(e: Emitter, allowed: str, dtype: DType, low: float) -> str:
    return str(e.op("Where", allowed, e.scalar(0, dtype), e.scalar(low, dtype)))


def _bool_mask(e: Emitter, mask: Value, causal: str | None, dtype: DType) -> tuple[str, str]:
    allowed = e.name(mask) if causal is None else e.op("And", mask, causal)
    seen = e.op("ReduceMax", e.cast(allowed, DType.int32), e.ints([-1]), keepdims=1)
    return _additive(e, allowed, dtype, _excluded(dtype)), e.cast(seen, dtype)


def _real_mask(e: Emitter, mask: Value, causal: str | None) -> tuple[str, str | None]:
    if causal is None and (_is_finite(e.graph, mask) or (mask.data is not None and not np.isneginf(mask.data).all(-1).any())):
        return e.name(mask), None
    added = e.name(mask) if causal is None else e.op("Add", mask, _additive(e, causal, mask.dtype, -math.inf))
    best = e.op("ReduceMax", added, e.ints([-1]), keepdims=1)
    rows = e.cast(e.op("Greater", best, e.scalar(-math.inf, mask.dtype)), mask.dtype)
    return e.op("Max", added, e.scalar(_excluded(mask.dtype), mask.dtype)), rows


def _is_finite(graph: Graph, mask: Value) -> bool:
    """A choice between finite constants: no row of it can be blind."""
    node = graph.producer(mask)
    while node is not None and node.op in ("reshape", "expand", "transpose"):
        node = graph.producer(node.operands[0])
    if node is None or node.op != "where":
        return False
    return all(_is_finite_constant(graph, v) for v in node.operands[1:])


def _is_finite_constant(graph: Graph, value: Value) -> bool:
    node = graph.producer(value)
    if node is not None and node.op == "full":
        return bool(np.isfinite(node.attrs["value"]))
    return value.data is not None and bool(np.isfinite(value.data).all())


def _causal_allowed(e: Emitter, rows: object, columns: object) -> str:
    """Bool [T, S]: column <= row."""
    key = ("causal", str(rows), str(columns))
    if key not in e.cache:
        if not is_symbolic(rows) and not is_symbolic(columns):
            e.cache[key] = e.const(np.tri(int(rows), int(columns), dtype=bool))  # type: ignore[call-overload]
        else:
            first, step = e.const(np.int64(0)), e.const(np.int64(1))
            row = e.op("Unsqueeze", e.op("Range", first, e.dims.scalar(rows), step), e.ints([1]))
            e.cache[key] = e.op("GreaterOrEqual", row, e.op("Range", first, e.dims.scalar(columns), step))
    return e.cache[key]


def _repeat_heads(e: Emitter, x: Value, repeat: int) -> str:
    """[..., Hk, S, D] -> [..., Hk * repeat, S, D], each head `repeat` times in a row."""
    if repeat == 1:
        return e.name(x)
    *outer, heads, length, depth = x.shape
    wide = e.op("Unsqueeze", x, e.ints([len(outer) + 1]))
    wide = e.op("Expand", wide, e.shape((*outer, heads, repeat, length, depth)))
    return reshape(e, wide, (*outer, heads, repeat, length, depth), (*outer, heads * repeat, length, depth))


def _attention(e: Emitter, node: Node) -> str:
    q, k, v, _ = node.inputs
    assert q is not None and k is not None and v is not None
    scale = node.attrs["scale"]
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    repeat = int(q.shape[-3] // k.shape[-3])
    rank = len(k.shape)
    swapped = [*range(rank - 2), rank - 1, rank - 2]
    keys = e.op("Transpose", _repeat_heads(e, k, repeat), perm=swapped)
    scores = e.op("MatMul", q, keys)
    scores = e.op("Mul", scores, e.scalar(scale, q.dtype))
    added, rows = attention_mask(e, node)
    if added is not None:
        scores = e.op("Add", scores, added)
    y = e.op("MatMul", e.op("Softmax", scores, axis=-1), _repeat_heads(e, v, repeat))
    return str(y if rows is None else e.op("Mul", y, rows))


def _rotary(e: Emitter, node: Node) -> str:
    x, cos, sin = node.operands
    width, depth, rank = int(cos.shape[-1]), int(x.shape[-1]), len(x.shape)
    axis = e.ints([rank - 1])

    def part(source: str | Value, start: int, stop: int, step: int = 1) -> str:
        steps = None if step == 1 else e.ints([step])
        return str(e.op("Slice", source, e.ints([start]), e.ints([stop]), axis, steps))

    head = e.name(x) if width == depth else part(x, 0, width)
    if node.attrs["interleaved"]:
        odd = e.op("Unsqueeze", e.op("Neg", part(head, 1, width, 2)), e.ints([rank]))
        even = e.op("Unsqueeze", part(head, 0, width, 2), e.ints([rank]))
        pairs = e.op("Concat", odd, even, axis=-1)
        rotated = (*x.shape[:-1], width)
        turned = reshape(e, pairs, (*x.shape[:-1], width // 2, 2), rotated)
    else:
        half = width // 2
        turned = e.op("Concat", e.op("Neg", part(head, half, width)), part(head, 0, half), axis=-1)
    y = e.op("Add", e.op("Mul", head, cos), e.op("Mul", turned, sin))
    return str(y if width == depth else e.op("Concat", y, part(x, width, depth), axis=-1))


RULES: dict[str, Rule] = {
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "batch_norm": _batch_norm,
    "group_norm": _group_norm,
    "softmax": lambda e, node: e.op("Softmax", *node.operands, axis=node.attrs["axis"]),
    "log_softmax": lambda e, node: e.op("LogSoftmax", *node.operands, axis=node.attrs["axis"]),
    "attention": _attention,
    "rotary": _rotary,
}
