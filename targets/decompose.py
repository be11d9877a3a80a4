"""Composite ops as graphs of simpler ones, where no kernel of their own pays: a step before grouping."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from qcompiler.errors import UnsupportedError
from qcompiler.ir import DType, Graph, GraphBuilder, Node, Value
from qcompiler.passes.transform.spell_for_integers import interpolated, normalized_groups
from qcompiler.passes.transform.turn_transposed_convolutions import as_convolution

Rule = Callable[[GraphBuilder, Node, Sequence[Any]], Value | None]


def _none(node: Node) -> bool:
    return False


def decompose(graph: Graph, kept: Callable[[Node], bool] = _none) -> Graph:
    """The graph with composites replaced, but for those `kept`; the same graph if there are none."""
    if not any(node.op in RULES and not kept(node) for node in graph.nodes):
        return graph
    builder = GraphBuilder(graph.name, graph.level)
    builder.inputs = list(graph.inputs)
    replaced: dict[Value, Value] = {}
    for node in graph.nodes:
        inputs = [None if v is None else replaced.get(v, v) for v in node.inputs]
        builder.origin = node.origin
        rule = None if kept(node) else RULES.get(node.op)
        made = None if rule is None else rule(builder, node, inputs)
        if made is not None:
            replaced[node.output] = made
        elif list(node.inputs) == inputs:
            builder.nodes.append(node)
        else:
            builder.nodes.append(Node(node.op, tuple(inputs), node.attrs, node.outputs, node.origin))
    outputs = [replaced.get(v, v) for v in graph.outputs]
    return Graph(graph.name, graph.inputs, builder.nodes, outputs, graph.output_names, graph.level)


def _f(b: GraphBuilder, value: float) -> Value:
    return b.const(np.float32(value))


def _swap_last(b: GraphBuilder, x: Value) -> Value:
    rank = len(x.shape)
    return b.op("transpose", x, perm=(*range(rank - 2), rank - 1, rank - 2))


def _attention(b: GraphBuilder, node: Node, inputs: Sequence[Any]) -> Value:
    q, k, v, mask = inputs
    repeat = q.shape[-3] // k.shape[-3]
    if repeat > 1:
        k, v = (_repeat_heads(b, x, repeat) for x in (k, v))
    scale = node.attrs["scale"]
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = b.op("matmul", b.op("mul", q, _f(b, scale)), _swap_last(b, k))
    keep = None
    lowest = _f(b, -3.0e38)
    if node.attrs["causal"]:
        rows = b.op("arange", stop=q.shape[-2])
        columns = b.op("arange", stop=k.shape[-2])
        keep = b.op("less_equal", b.op("reshape", columns, shape=(1, k.shape[-2])), b.op("reshape", rows, shape=(q.shape[-2], 1)))
    if mask is not None and mask.dtype is DType.bool:
        keep = mask if keep is None else b.op("logical_and", keep, mask)
    if keep is not None:
        scores = b.op("where", keep, scores, lowest)
    if mask is not None and mask.dtype is not DType.bool:
        scores = b.op("maximum", b.op("add", scores, mask), lowest)
    weights = b.op("softmax", scores, axis=-1)
    if mask is not None or keep is not None:
        # a row that may look at nothing gives 0
        seen = b.op("greater", b.op("reduce_max", scores, axes=(len(scores.shape) - 1,), keepdims=True), _f(b, -2.9e38))
        weights = b.op("mul", weights, b.op("cast", seen, dtype=DType.float32))
    return b.op("matmul", weights, v)


def _repeat_heads(b: GraphBuilder, x: Value, repeat: int) -> Value:
    shape = x.shape
    lifted = b.op("reshape", x, shape=(*shape[:-2], 1, *shape[-2:]))
    wide = b.op("expand", lifted, shape=(*shape[:-2], repeat, *shape[-2:]))
    return b.op("reshape", wide, shape=(*shape[:-3], shape[-3] * repeat, *shape[-2:]))


def _part(b: GraphBuilder, x: Value, start: int, stop: int, step: int = 1) -> Value:
    return b.op("slice", x, axis=len(x.shape) - 1, start=start, stop=stop, step=step)


def _rotary(b: GraphBuilder, node: Node, inputs: Sequence[Any]) -> Value:
    x, cos, sin = inputs
    width, size = int(cos.shape[-1]), int(x.shape[-1])
    rotated = x if width == size else _part(b, x, 0, width)
    axis = len(x.shape) - 1
    if node.attrs["interleaved"]:
        even, odd = _part(b, rotated, 0, width, 2), _part(b, rotated, 1, width, 2)
        lifted = [b.op("reshape", v, shape=(*v.shape, 1)) for v in (b.op("neg", odd), even)]
        turned = b.op("reshape", b.op("concat", *lifted, axis=axis + 1), shape=rotated.shape)
    else:
        first, second = _part(b, rotated, 0, width // 2), _part(b, rotated, width // 2, width)
        turned = b.op("concat", b.op("neg", second), first, axis=axis)
    y = b.op("add", b.op("mul", rotated, cos), b.op("mul", turned, sin))
    return y if width == size else b.op("concat", y, _part(b, x, width, size), axis=axis)


def _channels(b: GraphBuilder, x: Value, rank: int) -> Value:
    return b.op("reshape", x, shape=(1, x.shape[0], *[1] * (rank - 2)))


def _batch_norm(b: GraphBuilder, node: Node, inputs: Sequence[Any]) -> Value:
    x, mean, var, weight, bias = inputs
    scale = b.op("rsqrt", b.op("add", var, _f(b, node.attrs["eps"])))
    scale = scale if weight is None else b.op("mul", scale, weight)
    shift = b.op("neg", b.op("mul", mean, scale))
    shift = shift if bias is None else b.op("add", shift, bias)
    rank = len(x.shape)
    return b.op("add", b.op("mul", x, _channels(b, scale, rank)), _channels(b, shift, rank))


def _group_norm(b: GraphBuilder, node: Node, inputs: Sequence[Any]) -> Value | None:
    x, weight, bias = inputs
    if not all(isinstance(d, int) for d in x.shape[1:]):
        return None
    y, rank = normalized_groups(b, node, x), len(x.shape)
    y = y if weight is None else b.op("mul", y, _channels(b, weight, rank))
    return y if bias is None else b.op("add", y, _channels(b, bias, rank))


def _softmax(b: GraphBuilder, node: Node, inputs: Sequence[Any]) -> Value | None:
    (x,) = inputs
    rank = len(x.shape)
    axis = node.attrs["axis"] % rank
    if axis == rank - 1:
        return None
    perm = list(range(rank))
    perm[axis], perm[-1] = perm[-1], perm[axis]
    moved = b.op("transpose", x, perm=tuple(perm))
    return b.op("transpose", b.op(node.op, moved, axis=-1), perm=tuple(perm))


def _resize(b: GraphBuilder, node: Node, inputs: Sequence[Any]) -> Value | None:
    (x,) = inputs
    sizes = (*x.shape[2:], *node.attrs["size"])
    if node.attrs["mode"] == "nearest" or not x.dtype.is_float or not all(isinstance(d, int) for d in sizes):
        return None
    return interpolated(b, node, x)


def _conv_transpose(b: GraphBuilder, node: Node, inputs: Sequence[Any]) -> Value | None:
    x, w, bias = inputs
    if w.data is None or (bias is not None and bias.data is None):
        raise UnsupportedError(f"{node.where()}: weights of a convolution must be constant")
    return as_convolution(b, node, x)


RULES: dict[str, Rule] = {
    "attention": _attention,
    "rotary": _rotary,
    "batch_norm": _batch_norm,
    "group_norm": _group_norm,
    "softmax": _softmax,
    "log_softmax": _softmax,
    "resize": _resize,
    "conv_transpose": _conv_transpose,
}
