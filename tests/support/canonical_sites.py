"""Graphs with one site each for every canonicalization pass: legal ones and ones that must be refused.

A site is a function of a `Sketch`, which builds a graph in float32 or float64; constants are drawn from a fixed
seed, so that both types hold the same program.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from qcompiler.ir import Value
from support.sketch import Sketch

CONV = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1)}
LAST = {"axes": (-1,), "keepdims": True}


def batch_norm(s: Sketch, x: Value, channels: int, affine: bool = True) -> Value:
    scale = (s.w(channels), s.w(channels)) if affine else (None, None)
    return s.batch_norm(x, s.w(channels), s.w(channels, low=0.5), *scale, eps=1e-3)


def conv_bn(s: Sketch, bias: bool = True, groups: int = 1) -> Value:
    return batch_norm(
        s,
        s.conv(s.x(2, 4, 5, 5), s.w(6, 4 // groups, 3, 3), s.w(6) if bias else None, groups=groups, **CONV),
        6,
    )


def conv_transpose_bn(s: Sketch) -> Value:
    attrs = CONV | {"groups": 2, "output_padding": (0, 0)}
    return batch_norm(s, s.conv_transpose(s.x(2, 4, 5, 5), s.w(4, 3, 3, 3), None, **attrs), 6, affine=False)


def conv_bn_shared_output(s: Sketch) -> list[Value]:
    y = s.conv(s.x(1, 4, 5, 5), s.w(6, 4, 3, 3), None, **CONV)
    return [batch_norm(s, y, 6), s.relu(y)]


def computed_statistics(s: Sketch) -> Value:
    return s.batch_norm(s.x(2, 3, 4), s.x(3), s.w(3, low=1), None, None, eps=1e-3)


def layer_norm_steps(
    s: Sketch, form: str = "div", square: str = "mul", affine: bool = True, axes: tuple[int, ...] = (-1,)
) -> Value:
    x = s.x(2, 3, 4, 8)
    some = {"axes": axes, "keepdims": True}
    centred = s.sub(x, s.reduce_mean(x, **some))
    squared = s.mul(centred, centred) if square == "mul" else s.pow(centred, 2)
    variance = s.add(s.reduce_mean(squared, **some), 1e-5)
    y = s.div(centred, s.sqrt(variance)) if form == "div" else s.mul(s.rsqrt(variance), centred)
    shape = x.shape[-len(axes) :]
    return s.add(s.w(*shape), s.mul(y, s.w(*shape))) if affine else y


def layer_norm_of_another_mean(s: Sketch) -> Value:
    x, other = s.x(2, 3, 8), s.x(2, 3, 8)
    centred = s.sub(x, s.reduce_mean(other, **LAST))
    return s.div(centred, s.sqrt(s.add(s.reduce_mean(s.mul(centred, centred), **LAST), 1e-5)))


def layer_norm_tapped(s: Sketch) -> list[Value]:
    x = s.x(2, 3, 8)
    centred = s.sub(x, s.reduce_mean(x, **LAST))
    return [
        s.div(centred, s.sqrt(s.add(s.reduce_mean(s.mul(centred, centred), **LAST), 1e-5))),
        s.neg(centred),
    ]


def rms_norm_steps(s: Sketch, form: str = "rsqrt", weight: str = "first") -> Value:
    x = s.x(2, 3, 8)
    mean = s.add(s.reduce_mean(s.pow(x, 2) if weight == "first" else s.mul(x, x), **LAST), 1e-6)
    y = s.mul(x, s.rsqrt(mean)) if form == "rsqrt" else s.div(x, s.sqrt(mean))
    if weight == "none":
        return y
    gain = s.add(s.w(8), 1.0) if weight == "gemma" else s.w(8)
    return s.mul(gain, y) if weight == "first" else s.mul(y, gain)


def gelu_erf(s: Sketch, order: int = 0) -> Value:
    x = s.x(3, 8)
    gate = s.add(s.erf(s.div(x, math.sqrt(2)) if order % 2 else s.mul(x, math.sqrt(0.5))), 1.0)
    if order == 0:
        return s.mul(s.mul(x, 0.5), gate)
    if order == 1:
        return s.mul(0.5, s.mul(x, gate))
    if order == 2:
        return s.div(s.mul(gate, x), 2.0)
    return s.mul(x, s.add(s.mul(0.5, s.erf(s.mul(x, math.sqrt(0.5)))), 0.5))


def gelu_tanh(s: Sketch, form: int = 0) -> Value:
    x, root = s.x(3, 8), math.sqrt(2 / math.pi)
    if form == 0:
        inner = s.mul(s.add(x, s.mul(0.044715, s.pow(x, 3))), root)
    elif form == 1:
        inner = s.mul(s.mul(x, root), s.add(s.mul(s.mul(0.044715, x), x), 1.0))
    else:
        inner = s.mul(root, s.add(x, s.mul(s.mul(s.mul(x, x), x), 0.044715)))
    return s.mul(s.mul(0.5, x), s.add(1.0, s.tanh(inner)))


def gelu_wrong_factor(s: Sketch) -> Value:
    x = s.x(3, 8)
    return s.mul(x, s.add(s.erf(s.mul(x, math.sqrt(0.5))), 1.0))


def gelu_wrong_polynomial(s: Sketch) -> Value:
    x = s.x(3, 8)
    return s.mul(s.mul(x, 0.5), s.add(s.erf(s.mul(x, 0.7)), 1.0))


def gated_gelu(s: Sketch) -> Value:
    return s.mul(gelu_tanh(s), s.x(3, 8))


def silu_tapped(s: Sketch) -> list[Value]:
    x = s.x(3, 8)
    gate = s.sigmoid(x)
    return [s.mul(x, gate), s.neg(gate)]


def swish_division(s: Sketch) -> Value:
    x = s.x(3, 8)
    return s.div(x, s.add(1.0, s.exp(s.neg(x))))


def mish_steps(s: Sketch) -> Value:
    x = s.x(3, 8)
    return s.mul(s.tanh(s.softplus(x)), x)


def hard_swish_steps(s: Sketch, form: int = 0) -> Value:
    x = s.x(4, 9)
    if form == 0:
        return s.div(s.mul(x, s.clip(s.add(x, 3.0), min=0, max=6)), 6.0)
    if form == 1:
        return s.mul(x, s.mul(s.clip(s.add(3.0, x), min=0, max=6), 1 / 6))
    if form == 2:
        return s.mul(s.hard_sigmoid(x), x)
    return s.mul(x, s.clip(s.add(s.div(x, 6.0), 0.5), min=0, max=1))


def hard_swish_wrong_factor(s: Sketch) -> Value:
    x = s.x(4, 9)
    return s.mul(x, s.clip(s.add(x, 3.0), min=0, max=6))


def rotate_half(s: Sketch, x: Value) -> Value:
    size = x.shape[-1]
    low, high = (s.slice(x, axis=-1, start=a, stop=b) for a, b in ((0, size // 2), (size // 2, size)))
    return s.concat(s.neg(high), low, axis=-1)


def rotary_halves(s: Sketch, x: Value | None = None) -> Value:
    x = s.x(2, 3, 5, 8) if x is None else x
    cos, sin = s.x(5, 8), s.x(5, 8)
    return s.add(s.mul(x, cos), s.mul(rotate_half(s, x), sin))


def rotary_partial(s: Sketch) -> Value:
    whole = s.x(2, 3, 5, 12)
    part, rest = s.slice(whole, axis=-1, start=0, stop=8), s.slice(whole, axis=3, start=8)
    return s.concat(rotary_halves(s, part), rest, axis=-1)


def rotary_of_merged_slices(s: Sketch, start: int = 0) -> Value:
    """Partial rotary whose halves are sliced from the whole value."""
    whole = s.x(2, 3, 5, 12)
    edges = [start, start + 4, start + 8]
    low, high = (s.slice(whole, axis=-1, start=a, stop=b) for a, b in zip(edges, edges[1:], strict=False))
    part = s.slice(whole, axis=-1, start=start, stop=start + 8)
    rest = s.slice(whole, axis=-1, start=8) if start == 0 else s.slice(whole, axis=-1, start=0, stop=start)
    turned = s.add(s.mul(part, s.x(5, 8)), s.mul(s.concat(s.neg(high), low, axis=-1), s.x(5, 8)))
    return s.concat(*((turned, rest) if start == 0 else (rest, turned)), axis=-1)


def rotary_interleaved(s: Sketch) -> Value:
    x = s.x(2, 3, 5, 8)
    odd, even = s.slice(x, axis=-1, start=1, step=2), s.slice(x, axis=-1, start=0, step=2)
    columns = [s.reshape(v, shape=(2, 3, 5, 4, 1)) for v in (s.neg(odd), even)]
    turned = s.reshape(s.concat(*columns, axis=-1), shape=(2, 3, 5, 8))
    return s.add(s.mul(turned, s.x(5, 8)), s.mul(s.x(5, 8), x))


def rotary_of_two_values(s: Sketch) -> Value:
    x, y = s.x(2, 3, 5, 8), s.x(2, 3, 5, 8)
    return s.add(s.mul(y, s.x(5, 8)), s.mul(rotate_half(s, x), s.x(5, 8)))


def attention_steps(
    s: Sketch, scale: str = "scores", mask: tuple[int, ...] | None = None, groups: int = 1, rank: int = 4
) -> Value:
    lead = (2, 4)[: rank - 2]
    q = s.x(*lead, 5, 8)
    k, v = (_repeated(s, groups, lead) for _ in range(2))
    swap = (*range(rank - 2), rank - 1, rank - 2)
    q = s.mul(q, 0.25) if scale in ("q", "both") else q
    k = s.div(k, 4.0) if scale == "both" else k
    scores = s.matmul(q, s.transpose(k, perm=swap))
    if scale == "scores":
        scores = s.div(scores, math.sqrt(8))
    if mask is not None:
        scores = s.add(scores, s.x(*mask))
    return s.matmul(s.softmax(scores, axis=-1), v)


def _repeated(s: Sketch, groups: int, lead: tuple[int, ...]) -> Value:
    if groups == 1:
        return s.x(*lead, 7, 8)
    b, h = lead
    x = s.reshape(s.x(b, h // groups, 7, 8), shape=(b, h // groups, 1, 7, 8))
    return s.reshape(s.expand(x, shape=(b, h // groups, groups, 7, 8)), shape=(b, h, 7, 8))


def attention_of_repeated_heads(s: Sketch) -> Value:
    k, v = (_repeated(s, 2, (2, 4)) for _ in range(2))
    return s.attention(s.x(2, 4, 5, 8), k, v, None, scale=0.5)


def attention_in_windows(s: Sketch) -> Value:
    """Two windows split off the batch under a second mask, as in shifted-window attention."""
    q, k, v = (s.x(4, 3, 5, 8) for _ in range(3))
    scores = s.add(s.matmul(s.mul(q, 0.3), s.transpose(k, perm=(0, 1, 3, 2))), s.x(1, 3, 5, 5))
    windows = s.add(s.reshape(scores, shape=(2, 2, 3, 5, 5)), s.x(1, 2, 1, 5, 5))
    return s.matmul(s.softmax(s.reshape(windows, shape=(4, 3, 5, 5)), axis=-1), v)


def attention_scaled_key_one_repeat(s: Sketch) -> Value:
    """Only the key is repeated: it stays so, and its scale moves to the attention."""
    k = s.mul(_repeated(s, 2, (2, 4)), 0.5)
    scores = s.matmul(s.x(2, 4, 5, 8), s.transpose(k, perm=(0, 1, 3, 2)))
    return s.matmul(s.softmax(scores, axis=-1), s.x(2, 4, 7, 8))


def attention_where(s: Sketch, hidden: float = -math.inf, hides: bool = False, computed: bool = False) -> Value:
    """Scores chosen by a triangle, or with `hides` those outside of it, as masked_fill spells it."""
    q, k, v = (s.x(2, 4, 5, 8) for _ in range(3))
    scores = s.matmul(q, s.transpose(k, perm=(0, 1, 3, 2)))
    mask = s.greater(s.x(5, 5), 0.0) if computed else s.const(np.tri(5, dtype=bool) != hides)
    chosen = s.where(mask, hidden, scores) if hides else s.where(mask, scores, hidden)
    return s.matmul(s.softmax(chosen, axis=3), v)


def attention_scaled_mask(s: Sketch) -> Value:
    q, k, v = (s.x(2, 4, 5, 8) for _ in range(3))
    scores = s.mul(s.add(s.matmul(q, s.transpose(k, perm=(0, 1, 3, 2))), s.x(5, 5)), 0.5)
    return s.matmul(s.softmax(scores, axis=-1), v)


def attention_tapped(s: Sketch) -> list[Value]:
    q, k, v = (s.x(2, 4, 5, 8) for _ in range(3))
    weights = s.softmax(s.matmul(q, s.transpose(k, perm=(0, 1, 3, 2))), axis=-1)
    return [s.matmul(weights, v), weights]


def attention_turned_key(s: Sketch) -> Value:
    """The key is turned straight from [B, T, H, D] to [B, H, D, T]."""
    q, v, k = s.x(2, 4, 5, 8), s.x(2, 4, 5, 8), s.x(2, 5, 4, 8)
    return s.matmul(s.softmax(s.matmul(q, s.transpose(k, perm=(0, 2, 3, 1))), axis=-1), v)


def attention_other_axis(s: Sketch) -> Value:
    q, k, v = (s.x(2, 4, 5, 8) for _ in range(3))
    return s.matmul(s.softmax(s.matmul(q, s.transpose(k, perm=(0, 1, 3, 2))), axis=2), v)


def tied_table(s: Sketch) -> list[Value]:
    table = s.w(9, 8)
    hidden = s.mul(s.x(3, 8), s.gather(table, s.const(np.array([1, 2, 5]))))
    return [s.matmul(hidden, s.transpose(table, perm=(1, 0)))]


def linear_scaled(s: Sketch, shared: bool = False, transposed: bool = False) -> Value | list[Value]:
    x, w = s.x(2, 3, 8), s.w(6, 8)
    y = s.linear(x, w, s.w(6))
    if transposed:
        return s.mul(s.transpose(y, perm=(0, 2, 1)), s.w(6, 1))
    scaled = s.div(y, s.w(6, low=1))
    return [scaled, s.linear(x, w)] if shared else s.add(scaled, s.w(1, 6))


def padded(s: Sketch, **pad: Any) -> Value:
    pads = {"pads": (0, 0, 0, 0, 0, 0, 1, 1)} | pad
    return s.conv(
        s.pad(s.x(1, 3, 6, 6), **pads),
        s.w(4, 3, 3, 3),
        s.w(4),
        **CONV | {"strides": (2, 2), "pads": (0, 0, 0, 0)},
    )


def padded_pool(s: Sketch, value: float = -math.inf) -> Value:
    x = s.pad(s.x(1, 3, 6, 6), pads=(0, 0, 0, 0, 0, 0, 1, 1), value=value)
    return s.max_pool(x, kernel=(3, 3), strides=(2, 2), pads=(0, 0, 0, 0))


def movements(s: Sketch) -> Value:
    x = s.transpose(s.transpose(s.x(2, 3, 4), perm=(2, 0, 1)), perm=(2, 1, 0))
    x = s.reshape(s.reshape(s.reshape(x, shape=(24,)), shape=(6, 4)), shape=(3, 8))
    x = s.slice(s.slice(x, axis=1, start=1, stop=7), axis=-1, start=2)
    x = s.slice(x, axis=0, start=0, stop=99)
    return s.add(x, s.expand(s.expand(s.x(1, 4), shape=(3, 4)), shape=(3, 4)))


def no_ops(s: Sketch) -> Value:
    x = s.x(3, 4)
    x = s.div(s.mul(s.sub(s.add(x, 0.0), 0.0), 1.0), 1.0)
    x = s.expand(s.reshape(s.cast(x, dtype=s.dtype), shape=(3, 4)), shape=(3, 4))
    x = s.concat(s.pad(s.clip(x), pads=(0, 0, 0, 0)), axis=0)
    return s.relu(s.pow(s.transpose(x, perm=(0, 1)), 1.0))


def true_masks(s: Sketch) -> Value:
    x = s.x(3, 4)
    keep = s.logical_and(s.greater(x, 0.0), s.const(np.ones((2, 1, 1), bool)))
    return s.where(s.logical_or(s.const(np.zeros((), bool)), keep), s.x(2, 3, 4), x)


def expanded_mask(s: Sketch) -> Value:
    """An expand behind which a number is multiplied, before a reader that broadcasts."""
    return s.add(s.x(3, 4), s.mul(s.expand(s.x(1, 4), shape=(3, 4)), -1e4))


def repvgg_block(s: Sketch, groups: int = 1, stride: int = 1, other: int | None = None) -> Value:
    size = 6 if other is None else 1  # with differing strides, sizes agree only for one pixel
    x, same = s.x(2, 4, size, size), {"dilations": (1, 1), "groups": groups}
    three = s.conv(x, s.w(4, 4 // groups, 3, 3), s.w(4), strides=(stride,) * 2, pads=(1,) * 4, **same)
    one = s.conv(x, s.w(4, 4 // groups, 1, 1), s.w(4), strides=(other or stride,) * 2, pads=(0,) * 4, **same)
    if stride > 1:
        return s.add(one, three)
    affine = s.add(s.mul(s.w(4, 1, 1), x), s.w(4, 1, 1))
    return s.add(s.add(one, three), affine)


def difference_of_branches(s: Sketch, swapped: bool = False) -> Value:
    x = s.x(1, 4, 6, 6)
    conv, affine = s.conv(x, s.w(4, 4, 3, 3), s.w(4), **CONV), s.add(s.mul(x, s.w(4, 1, 1)), s.w(4, 1, 1))
    return s.sub(affine, conv) if swapped else s.sub(conv, affine)


def uneven_branches(s: Sketch) -> Value:
    x, same = s.x(1, 3, 6, 6), {"strides": (1, 1), "dilations": (1, 1)}
    tall = s.conv(x, s.w(4, 3, 5, 3), None, pads=(2, 1, 2, 1), **same)
    return s.add(tall, s.conv(x, s.w(4, 3, 2, 3), None, pads=(0, 1, 1, 1), **same))


def dilated_branch(s: Sketch) -> Value:
    x, w = s.x(1, 3, 6, 6), s.w(4, 3, 3, 3)
    wide = s.conv(x, w, None, strides=(1, 1), pads=(2,) * 4, dilations=(2, 2))
    return s.add(s.conv(x, w, None, **CONV), wide)


def branch_tapped(s: Sketch) -> list[Value]:
    x = s.x(1, 3, 6, 6)
    one, two = (s.conv(x, s.w(4, 3, 3, 3), None, **CONV) for _ in range(2))
    return [s.add(one, two), s.neg(two)]


def duplicates(s: Sketch) -> Value:
    x, w = s.x(3, 4), s.w(5, 4)
    twin = s.const(np.array(w.data), name="twin")
    return s.add(s.relu(s.linear(x, w)), s.relu(s.linear(x, twin)))


def constant_chain(s: Sketch) -> Value:
    gain = s.exp(s.mul(s.add(s.w(4), 1.0), s.arange(stop=4, dtype=s.dtype)))
    return s.mul(s.x(3, 4), gain)


def large_constant(s: Sketch, copies: int = 40) -> Value:
    return s.mul(s.x(1, 1), s.exp(s.expand(s.w(1, 1000), shape=(copies, 1000))))


def limits(s: Sketch) -> Value:
    return s.minimum(s.maximum(s.x(3, 4), 0.0), 1.5)


def relu_chain(s: Sketch) -> Value:
    return s.clip(s.clip(s.relu(s.x(3, 4)), max=0.7), min=-0.5)
