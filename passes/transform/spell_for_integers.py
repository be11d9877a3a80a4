"""Layers without an integer form of their own, written with layers that have one.

    group_norm      layer norm of every group, then a depthwise convolution by 1 that scales and shifts channels
    resize, linear  by a whole factor k: nearest, then the mean over k neighbours on the finer grid (for even k the two
                    outer ones count half), which are the weights of linear interpolation between half-pixel centres;
                    any other size, corners aligned or cubic: a linear layer per axis, its weight the interpolation
    prelu           relu, plus a depthwise convolution by 1 of what relu cuts off
    log_softmax     d - log(sum(exp(d))) of the distances d from the row's largest element
    x / y           x times the inverse of y, a function of one value; of y = u^c (LRN) u^-c
    x / |x|         RMS norm with the constant weight 1 / sqrt(n); lengths below ten thousand times the smallest
                    divisor that the model allows (1e-12 in torch) are not told from it as sharply
    avg_pool        windows that hold different numbers of elements: padding counted, then a factor per position
    (x - m) / s     of the bytes of an image, with constants per channel: a depthwise convolution by 1, so that bytes
                    enter it as they are and what it gives is rounded once

Each is equal to what it replaces up to the order of sums. Only programs that become integers need this; float islands
keep the layers as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from qcompiler.ir import Graph, GraphBuilder, Node, Rewriter, Value, rewrite
from qcompiler.ir.dims import normalize
from qcompiler.ir.ops.pool import interpolation_matrix
from qcompiler.passes.base import Context, Kind, Note, Pass, Result
from qcompiler.passes.canonicalize.pattern import Matcher, channel_vector, pairs
from qcompiler.passes.quantize.byte_values import byte_table


class Kept(Exception):
    """A layer stays as it is; the message says why."""


class SpellForIntegers(Pass):
    """For programs that are to become integers, before anything is assigned or measured."""

    name = "spell_for_integers"
    kind = Kind.EXACT

    def run(self, graph: Graph, context: Context) -> Result:
        """Sites are the layers named above."""
        notes: list[Note] = []
        matcher = Matcher(graph)

        def visit(r: Rewriter, node: Node) -> Value | None:
            rule = RULES.get(node.op)
            if rule is None:
                return None
            try:
                spelled = rule(r, node, matcher)
            except Kept as reason:
                notes.append(Note(node.where(), False, str(reason)))
                return None
            if spelled is not None:
                notes.append(Note(node.where(), True, f"{node.op} in ops with an integer form"))
            return spelled

        result = rewrite(graph, visit, self.name)
        return Result(result, result is not graph, tuple(notes))


def normalized_groups(b: GraphBuilder, node: Node, x: Value) -> Value:
    """What a group_norm node does to x before it scales and shifts channels: layer norm of every group."""
    groups = node.attrs["groups"]
    size = normalize(math.prod(x.shape[1:]) // groups)
    rows = b.op("reshape", x, shape=(x.shape[0], groups, size))
    return b.op("reshape", b.op("layer_norm", rows, None, None, axes=1, eps=node.attrs["eps"]), shape=x.shape)


def interpolated(b: GraphBuilder, node: Node, x: Value) -> Value:
    """A linear or cubic resize node on x as a linear layer per axis; sizes are integers."""
    attrs, rank = node.attrs, len(x.shape)
    for i, out in enumerate(attrs["size"]):
        axis = 2 + i
        if out == x.shape[axis]:
            continue
        matrix = interpolation_matrix(int(x.shape[axis]), int(out), attrs["mode"], attrs["align_corners"])
        weight = b.const(matrix.astype(x.dtype.numpy), name=f"{node.output.name}.axis{axis}")
        perm = list(range(rank))
        perm[axis], perm[-1] = perm[-1], perm[axis]
        turned = x if axis == rank - 1 else b.op("transpose", x, perm=tuple(perm))
        y = b.op("linear", turned, weight, None)
        x = y if axis == rank - 1 else b.op("transpose", y, perm=tuple(perm))
    return x


def _group_norm(r: Rewriter, node: Node, matcher: Matcher) -> Value | None:
    x, weight, bias = (*node.inputs, None, None)[:3]
    assert x is not None
    if len(x.shape) < 3:
        raise Kept("it has no spatial axes; write it as a layer norm of its groups")
    if any(v is not None and v.data is None for v in (weight, bias)):
        raise Kept("its weights are computed")
    channels = _channels(x)
    y = normalized_groups(r, node, r[x])
    if weight is None and bias is None:
        return y
    factor = np.ones(channels, x.dtype.numpy) if weight is None else weight.data
    return _per_channel(r, y, factor, None if bias is None else bias.data, node.output.name)


def _resize(r: Rewriter, node: Node, matcher: Matcher) -> Value | None:
    (x,) = node.operands
    mode, sizes, spatial = node.attrs["mode"], node.attrs["size"], x.shape[2:]
    if mode == "nearest":
        return None
    if not all(isinstance(d, int) for d in (*sizes, *spatial)):
        raise Kept("its sizes are symbolic; the weights of an interpolation follow from them")
    factors = [out // size for out, size in zip(sizes, spatial, strict=True)]
    whole = all(size * k == out for size, k, out in zip(spatial, factors, sizes, strict=True))
    if mode == "linear" and whole and not node.attrs["align_corners"]:
        return _whole_factor(r, node, r[x], factors)
    return interpolated(r, node, r[x])


def _whole_factor(r: Rewriter, node: Node, x: Value, factors: list[int]) -> Value:
    y = r.op("resize", x, size=node.attrs["size"], mode="nearest", align_corners=False)
    kernel = np.ones((), np.float64)
    reach = []
    for k in factors:
        box = np.ones(k + 1 - k % 2)
        if k % 2 == 0:
            box[[0, -1]] = 0.5
        kernel = np.multiply.outer(kernel, box / k)
        reach.append(k // 2)
    if any(reach):
        y = r.op("pad", y, pads=(0, 0, *reach) * 2, mode="edge", value=0.0)
    channels = _channels(x)
    weight = np.broadcast_to(kernel, (channels, 1, *kernel.shape)).astype(x.dtype.numpy)
    return _depthwise(r, y, weight, None, node.output.name)


def _prelu(r: Rewriter, node: Node, matcher: Matcher) -> Value | None:
    x, slope = node.operands
    if slope.data is None:
        raise Kept("its slope is computed")
    if slope.data.size == 1:
        return r.op("leaky_relu", r[x], slope=float(slope.data.reshape(-1)[0]))
    channels = _channels(x)
    per_channel = (1, channels, *[1] * (len(x.shape) - 2))
    if len(x.shape) < 3 or np.broadcast_shapes(slope.shape, per_channel) != per_channel or slope.data.size != channels:
        raise Kept(f"its slope of shape {slope.shape} is not one number per channel of axis 1, or there are no spatial axes")
    above = r.op("relu", r[x])
    below = r.op("clip", r[x], min=None, max=0.0)
    return r.op("add", above, _per_channel(r, below, slope.data.reshape(-1), None, f"{node.output.name}.below"))


def _normalize(r: Rewriter, node: Node, matcher: Matcher) -> Value | None:
    x, divisor = node.operands
    if divisor.data is not None:
        return _affine(r, node, matcher)
    expanded = matcher.made_by(divisor, "expand")
    floor = matcher.made_by(expanded.operands[0] if expanded else divisor, "clip")
    root = matcher.made_by(floor.operands[0] if floor else divisor, "sqrt")
    total = matcher.made_by(root.operands[0], "reduce_sum") if root else None
    square = matcher.made_by(total.operands[0], "mul") if total else None
    if square is None or total is None or any(v is not x for v in square.operands) or (floor and floor.attrs["max"] is not None):
        return _inverse(r, node, matcher)
    axes = total.attrs["axes"]
    if len(axes) != 1 or not total.attrs["keepdims"]:
        raise Kept(f"a length over axes {axes}; one axis that is kept has an RMS norm")
    axis, rank, size = axes[0] % len(x.shape), len(x.shape), x.shape[axes[0]]
    if not isinstance(size, int):
        raise Kept("the axis that is normalized is symbolic")
    least = float(floor.attrs["min"]) if floor and floor.attrs["min"] is not None else 0.0
    perm = (*(a for a in range(rank) if a != axis), axis)
    y = r[x] if axis == rank - 1 else r.op("transpose", r[x], perm=perm)
    weight = r.const(np.full(size, size**-0.5, x.dtype.numpy), name=f"{node.output.name}.weight")
    y = r.op("rms_norm", y, weight, axes=1, eps=least * least / size)
    return y if axis == rank - 1 else r.op("transpose", y, perm=tuple(int(a) for a in np.argsort(perm)))


def _log_softmax(r: Rewriter, node: Node, matcher: Matcher) -> Value | None:
    (x,) = node.operands
    axes = (node.attrs["axis"] % len(x.shape),)
    distance = r.op("sub", r[x], r.op("reduce_max", r[x], axes=axes, keepdims=True))
    total = r.op("reduce_sum", r.op("exp", distance), axes=axes, keepdims=True)
    return r.op("sub", distance, r.op("log", total), name=node.output.name)


def _affine(r: Rewriter, node: Node, matcher: Matcher) -> Value | None:
    """The last of several steps on bytes; a transpose behind it that brings the channels to axis 1 is that rule's."""
    found = _channel_affine(matcher.graph, node.output)
    if found is None:
        return None
    base, factor, shift, axis = found
    after = matcher.graph.sole_user(node.output)
    if after is not None and (_channel_affine(matcher.graph, after.output) or (after.op == "transpose" and after.attrs["perm"][1] == axis)):
        return None
    perm = (0, axis, *(a for a in range(1, len(base.shape)) if a != axis))
    y = _normalized(r, r[base], factor, shift, node, perm)
    return y if axis == 1 else r.op("transpose", y, perm=tuple(int(a) for a in np.argsort(perm)))


def _transposed_affine(r: Rewriter, node: Node, matcher: Matcher) -> Value | None:
    found = _channel_affine(matcher.graph, node.operands[0])
    if found is None or node.attrs["perm"][1] != found[3] or matcher.graph.sole_user(node.operands[0]) is not node:
        return None
    base, factor, shift, _ = found
    return _normalized(r, r[base], factor, shift, node, node.attrs["perm"])


def _normalized(r: Rewriter, x: Value, factor: np.ndarray, shift: np.ndarray, node: Node, perm: tuple[int, ...]) -> Value:
    if perm != tuple(range(len(perm))):
        x = r.op("transpose", x, perm=perm)
    kind = x.dtype.numpy
    return _per_channel(r, x, factor.astype(kind), shift.astype(kind), node.output.name)


def _channel_affine(graph: Graph, value: Value) -> tuple[Value, np.ndarray, np.ndarray, int] | None:
    """(base, a, b, axis) of a value that is a * base + b along an axis, in float64; None for any other.

    Each element of base is a function of one byte, and the value itself is not.
    """
    steps: list[tuple[Node, Value, Value]] = []
    rank = len(value.shape)
    while rank in (3, 4, 5) and byte_table(graph, value) is None:
        node = graph.producer(value)
        if node is None or node.op not in ("add", "sub", "mul", "div"):
            return None
        x, c = next(((x, c) for x, c in pairs(node) if c.data is not None and x.data is None), (None, None))
        if x is None or c is None or len(x.shape) != rank or (node.op == "div" and c is node.operands[0]):
            return None
        steps.append((node, x, c))
        value = x
    for axis in (1, rank - 1) if steps else ():
        channels = value.shape[axis]
        vectors = [channel_vector(c, rank, axis, channels) for _, _, c in steps] if isinstance(channels, int) else [None]
        if not any(v is None for v in vectors):
            return (value, *_composed(steps, vectors, channels), axis)
    return None


def _composed(steps: list[tuple[Node, Value, Value]], vectors: list[Any], channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Factor and shift of all steps, the last one first in the list."""
    a, b = np.ones(channels), np.zeros(channels)
    for (node, x, _), vector in zip(steps[::-1], vectors[::-1], strict=True):
        c = vector.astype(np.float64)
        if node.op in ("mul", "div"):
            c = c if node.op == "mul" else 1 / c
            a, b = a * c, b * c
        elif node.op == "add":
            b = b + c
        else:
            a, b = (a, b - c) if x is node.operands[0] else (-a, c - b)
    return a, b


def _inverse(r: Rewriter, node: Node, matcher: Matcher) -> Value:
    x, divisor = node.operands
    power = matcher.made_by(divisor, "pow", "sqrt")
    exponent = 0.5 if power is not None and power.op == "sqrt" else matcher.scalar(power.operands[1]) if power is not None else None
    if power is None or exponent is None:
        factor = r.op("reciprocal", r[divisor])
    else:
        factor = r.op("pow", r[power.operands[0]], r.const(np.asarray(-exponent, divisor.dtype.numpy)))
    return r.op("mul", r[x], factor, name=node.output.name)


def _avg_pool(r: Rewriter, node: Node, matcher: Matcher) -> Value | None:
    (x,) = node.operands
    attrs, rank = node.attrs, len(x.shape) - 2
    if not attrs["ceil_mode"] and (attrs["count_include_pad"] or not any(attrs["pads"])):
        return None
    if not all(isinstance(d, int) for d in (*x.shape[2:], *node.output.shape[2:])):
        raise Kept("its sizes are symbolic; how many elements the windows at the border hold follows from them")
    pads, kernel, strides = attrs["pads"], attrs["kernel"], attrs["strides"]
    out: tuple[int, ...] = node.output.shape[2:]
    counts = np.ones(())
    ends = []
    for i in range(rank):
        size, first = x.shape[2 + i], np.arange(out[i]) * strides[i] - pads[i]
        last = size + (pads[rank + i] if attrs["count_include_pad"] else 0)
        start = first if attrs["count_include_pad"] else np.maximum(first, 0)
        counts = np.multiply.outer(counts, np.minimum(first + kernel[i], last) - start)
        ends.append(int(max(0, first[-1] + kernel[i] - size)))
    weight = np.full((_channels(x), 1, *kernel), 1 / math.prod(kernel), x.dtype.numpy)
    y = _depthwise(r, r[x], weight, None, node.output.name, strides=strides, pads=(*pads[:rank], *ends))
    y = _cropped(r, y, out)
    factor = (math.prod(kernel) / counts).astype(x.dtype.numpy)
    if np.all(factor == 1):
        return y
    return r.op("mul", y, r.const(factor.reshape(1, 1, *out), name=f"{node.output.name}.factor"))


def _cropped(r: Rewriter, y: Value, out: tuple[int, ...]) -> Value:
    """Windows that ceil_mode left out stand at the end."""
    for i, size in enumerate(out):
        if y.shape[2 + i] != size:
            y = r.op("slice", y, axis=2 + i, start=0, stop=size)
    return y


def _per_channel(r: Rewriter, x: Value, factor: Any, shift: Any, name: str) -> Value:
    weight = np.asarray(factor).reshape(-1, 1, *[1] * (len(x.shape) - 2))
    return _depthwise(r, x, weight, None if shift is None else r.const(np.asarray(shift), name=f"{name}.bias"), name)


def _depthwise(r: Rewriter, x: Value, weight: np.ndarray, bias: Value | None, name: str, **geometry: Any) -> Value:
    rank = weight.ndim - 2
    plain: dict[str, Any] = {"strides": (1,) * rank, "pads": (0,) * (2 * rank)}
    attrs = {**plain, **geometry, "dilations": (1,) * rank, "groups": weight.shape[0]}
    return r.op("conv", x, r.const(np.ascontiguousarray(weight), name=f"{name}.weight"), bias, name=name, **attrs)


def _channels(x: Value) -> int:
    if not isinstance(x.shape[1], int):
        raise Kept("the number of channels is symbolic")
    return x.shape[1]


Rule = Callable[[Rewriter, Node, Matcher], "Value | None"]
RULES: Mapping[str, Rule] = {
    "group_norm": _group_norm,
    "resize": _resize,
    "prelu": _prelu,
    "div": _normalize,
    "add": _affine,
    "sub": _affine,
    "mul": _affine,
    "transpose": _transposed_affine,
    "avg_pool": _avg_pool,
    "log_softmax": _log_softmax,
}
