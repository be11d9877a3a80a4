"""Attention over a key-value cache as ONNX Runtime's GroupQueryAttention kernel, turned positions as RotaryEmbedding.

    q [B, H, S, D] = rotary(transpose(reshape(x)))
    k [B, Hk, P + S, D] = concat(past, fresh), v likewise
    attention(q, k, v, mask) -> transpose -> reshape [B, S, H D]

Both kernels read tokens as rows [B, S, H D], as linear layers write them: no transposes are left, heads are shared
without a copy for each, and the cache is joined inside. Which keys a query may see is what the mask says: the kernel's
own causal mask is off. One sample at a time: with several, the kernel takes no more than one new token.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from qcompiler.ir import DType, Graph, Node, Value
from qcompiler.ir.dims import same, same_shape

from .emit_movement import reshape
from .emit_norm import attention_mask
from .emitter import Emitter

HEADS_FIRST = (0, 2, 1, 3)
ELEMENTWISE = ("cos", "sin", "reshape", "cast", "mul")
"""What may lie between a doubled table of angles and what rotary reads; of `mul`, only by one number."""


@dataclass(frozen=True)
class CachedAttention:
    """Nodes of one attention: the two joins with the past, attention, and the two that follow it."""

    keys: Node
    values: Node
    attention: Node
    swapped: Node
    joined: Node


@dataclass(frozen=True)
class CachePlan:
    """What is emitted otherwise.

    Attributes:
        attentions: by the node that gives the result.
        rotaries: nodes that become RotaryEmbedding, and the rows [B, S, H D] they turn.
        skipped: nodes whose result nobody reads any more.
    """

    attentions: Mapping[Node, CachedAttention] = field(default_factory=dict)
    rotaries: Mapping[Node, Value] = field(default_factory=dict)
    skipped: frozenset[Node] = frozenset()


def plan_cached_attention(graph: Graph) -> CachePlan:
    """Attentions over a cache, and the rotary nodes they read."""
    found = [a for n in graph.nodes if n.op == "attention" and (a := _match(graph, n)) is not None]
    rotaries: dict[Node, Value] = {}
    for item in found:
        for value in (item.attention.inputs[0], item.keys.inputs[1]):
            node = graph.producer(value) if value is not None else None
            rows = _rows(graph, node.inputs[0]) if node is not None and _turns_rows(graph, node) else None
            if node is not None and rows is not None:
                rotaries[node] = rows
    gone = {n for a in found for n in (a.keys, a.values, a.attention, a.swapped)}
    gone |= {n for n in rotaries if _all_in(graph, n, gone)}
    read_as_rows = [r.inputs[0] for r in rotaries]
    read_as_rows += [v for a in found for v in (a.attention.inputs[0], a.keys.inputs[1], a.values.inputs[1])]
    for value in dict.fromkeys(read_as_rows):
        swapped = graph.producer(value) if value is not None else None
        if swapped is not None and _rows(graph, value) is not None and _all_in(graph, swapped, gone | set(rotaries)):
            split = graph.producer(swapped.operands[0])
            assert split is not None
            gone |= {swapped, split} if graph.sole_user(split.output) is swapped else {swapped}
    return CachePlan({a.joined: a for a in found}, rotaries, frozenset(gone))


def _match(graph: Graph, attention: Node) -> CachedAttention | None:
    q, k, v, mask = attention.inputs
    assert q is not None and k is not None and v is not None
    fits = (
        len(q.shape) == 4 and same(q.shape[0], 1) and q.dtype is DType.float32 and not attention.attrs["causal"]
        and mask is not None and len(mask.shape) == 4 and mask.dtype is DType.float32
        and same(mask.shape[2], q.shape[2]) and same(mask.shape[3], k.shape[2])
    )  # fmt: skip
    joins = [graph.producer(value) for value in (k, v)]
    swapped = graph.sole_user(attention.output)
    if not fits or swapped is None or swapped.op != "transpose" or swapped.attrs["perm"] != HEADS_FIRST:
        return None
    joined = graph.sole_user(swapped.output)
    if joined is None or joined.op != "reshape":
        return None
    rows = (q.shape[0], q.shape[2], q.shape[1] * q.shape[3])
    keys, values = joins
    if not same_shape(joined.output.shape, rows) or keys is None or values is None:
        return None
    for join in (keys, values):
        if join.op != "concat" or join.attrs["axis"] not in (2, -2) or len(join.inputs) != 2:
            return None
        if graph.sole_user(join.output) is not attention or not same(join.operands[1].shape[2], q.shape[2]):
            return None
    if not same_shape(k.shape, v.shape):
        return None
    return CachedAttention(keys, values, attention, swapped, joined)


def _rows(graph: Graph, value: Value | None) -> Value | None:
    """The [B, S, H D] that a value [B, H, S, D] is a split of; None where it is none."""
    swapped = graph.producer(value) if value is not None else None
    if value is None or swapped is None or swapped.op != "transpose" or swapped.attrs["perm"] != HEADS_FIRST:
        return None
    split = graph.producer(swapped.operands[0])
    batch, heads, length, depth = value.shape
    if split is None or split.op != "reshape" or not same_shape(split.operands[0].shape, (batch, length, heads * depth)):
        return None
    return split.operands[0]


def _turns_rows(graph: Graph, node: Node) -> bool:
    """A rotary node of one table of angles for all heads and samples, both halves of it the same."""
    if node.op != "rotary" or node.attrs["interleaved"]:
        return False
    x, cos, sin = node.operands
    length, depth = x.shape[-2:]
    one = all(same_shape(t.shape, (*(1,) * (len(t.shape) - 2), length, depth)) for t in (cos, sin))
    return one and all(_doubled(graph, t) for t in (cos, sin))


def _doubled(graph: Graph, table: Value) -> bool:
    """True if the second half of the last axis is the first one."""
    width = table.shape[-1]
    if table.data is not None:
        return bool(np.array_equal(*np.split(table.data, 2, axis=-1)))
    node = graph.producer(table)
    while node is not None and node.op in ELEMENTWISE and same(node.output.shape[-1], width):
        if node.op == "mul" and not any(v.data is not None and v.data.size == 1 for v in node.operands):
            return False
        source = next((v for v in node.operands if v.data is None), None)
        node = graph.producer(source) if source is not None else None
    if node is None or node.op != "concat" or node.attrs["axis"] not in (-1, len(node.output.shape) - 1):
        return False
    return len(node.inputs) == 2 and node.inputs[0] is node.inputs[1]


def _all_in(graph: Graph, node: Node, gone: set[Node]) -> bool:
    """Every reader is one of them, and there is one."""
    return all(not graph.is_output(v) for v in node.outputs) and bool(graph.uses(node.output)) and all(
        user in gone for user, _ in graph.uses(node.output)
    )  # fmt: skip


def _as_rows(e: Emitter, plan: CachePlan, value: Value) -> str:
    """[B, H, S, D] as [B, S, H D]."""
    node = e.graph.producer(value)
    if node in plan.rotaries:
        return turned_rows(e, plan, node)
    rows = _rows(e.graph, value)
    if rows is not None:
        return e.name(rows)
    batch, heads, length, depth = value.shape
    swapped = e.op("Transpose", value, perm=HEADS_FIRST)
    return reshape(e, swapped, (batch, length, heads, depth), (batch, length, heads * depth))


def turned_rows(e: Emitter, plan: CachePlan, node: Node) -> str:
    """Rows [B, S, H D] of a rotary node."""
    key = (node, "rows")
    if key not in e.cache:
        x, cos, sin = node.operands
        tables = [_half_table(e, t) for t in (cos, sin)]
        first = e.const(np.zeros(1, np.int64), hint="first_position")
        e.row(node, "RotaryEmbedding")
        e.cache[key] = str(e.ms("RotaryEmbedding", plan.rotaries[node], first, *tables))
    return e.cache[key]


def _half_table(e: Emitter, table: Value) -> str:
    """[S, D / 2] of a table [..., S, D] whose halves are equal; made once."""
    key = (table, "half")
    if key not in e.cache:
        length, depth = table.shape[-2:]
        flat = reshape(e, table, table.shape, (length, depth))
        e.cache[key] = str(e.op("Slice", flat, e.ints([0]), e.ints([depth // 2]), e.ints([1])))
    return e.cache[key]


def emit_rotary(e: Emitter, plan: CachePlan, node: Node) -> str:
    """[B, H, S, D] of a rotary node whose rows are made by RotaryEmbedding, for readers other than attention."""
    rows, shape = turned_rows(e, plan, node), node.output.shape
    batch, heads, length, depth = shape
    split = reshape(e, rows, (batch, length, heads * depth), (batch, length, heads, depth))
    return str(e.op("Transpose", split, perm=HEADS_FIRST))


def emit_cached_attention(e: Emitter, plan: CachePlan, item: CachedAttention) -> str:
    """The GroupQueryAttention node; blind rows are made 0."""
    q, k, _, _ = item.attention.operands
    scale = item.attention.attrs["scale"]
    added, rows = attention_mask(e, item.attention)
    last, total = _lengths(e, k)
    inputs = [_as_rows(e, plan, value) for value in (q, item.keys.operands[1], item.values.operands[1])]
    y, *_ = e.ms(
        "GroupQueryAttention", *inputs, item.keys.operands[0], item.values.operands[0], last, total, None, None, None, added,
        count=3, num_heads=int(q.shape[1]), kv_num_heads=int(k.shape[1]), causal=0,
        scale=1 / math.sqrt(q.shape[-1]) if scale is None else scale,
    )  # fmt: skip
    e.row(item.attention, "GroupQueryAttention")
    if rows is None:
        return str(y)
    mask = item.attention.operands[3]
    return str(e.op("Mul", y, reshape(e, rows, (*mask.shape[:-1], 1), (mask.shape[0], mask.shape[2], 1))))


def _lengths(e: Emitter, keys: Value) -> tuple[str, str]:
    """(int32 [1] last position, int32 number of keys)."""
    key = ("cache lengths", str(keys.shape[2]))
    if (key, "last") not in e.cache:
        total = e.cast(e.dims.one(keys.shape[2]), DType.int32)
        e.cache[key, "last"] = e.op("Sub", total, e.const(np.ones(1, np.int32)))
        e.cache[key, "total"] = e.op("Squeeze", total, e.ints([0]))
    return e.cache[key, "last"], e.cache[key, "total"]
