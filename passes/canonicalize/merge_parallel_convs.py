"""Branches that convolve the same input and are added become one convolution (Ding et al. 2021, RepVGG).

    conv(x, A) + conv(x, B)             -> conv(x, A + B padded to A's kernel)
    conv(x, A) + (x * scale + shift)    -> the second branch is a 1x1 identity convolution

and differences likewise; in float64, rounded once. What a batch norm beside a convolution left behind is the second form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from qcompiler.ir import Node, Rewriter, Value
from qcompiler.ir.dims import same_shape
from qcompiler.passes.canonicalize.pattern import (
    Found,
    Matcher,
    PatternPass,
    channel_vector,
    pairs,
    typed_like,
)


@dataclass(frozen=True)
class Branch:
    """A branch as a convolution: weight [O, C/groups, ...] and bias [O] in float64."""

    x: Value
    weight: np.ndarray
    bias: np.ndarray
    pads: tuple[int, ...]
    nodes: tuple[Node, ...]


class MergeParallelConvs(PatternPass):
    """See the module docstring."""

    name = "merge_parallel_convs"
    must_follow = ("fold_batch_norm",)
    roots = frozenset({"add", "sub"})

    def find(self, m: Matcher, node: Node) -> Found | str | None:
        """Sites are sums and differences of a convolution and another linear branch of the same input."""
        for a, b in pairs(node):
            conv = m.made_by(a, "conv")
            wide = None if conv is None else _convolution(conv)
            if conv is None or wide is None or not same_shape(a.shape, b.shape):
                continue
            other_conv = m.made_by(b, "conv")
            other = _affine(m, b, conv) if other_conv is None else _convolution(other_conv)
            if other is None or other.x is not wide.x:
                continue
            if other_conv is not None:
                if any(conv.attrs[k] != other_conv.attrs[k] for k in ("strides", "groups")):
                    return "strides or groups of the branches differ"
                if max(*conv.attrs["dilations"], *other_conv.attrs["dilations"]) > 1:
                    return "a branch is dilated"
            offset = _offset(wide, other)
            if offset is None:
                continue  # the other order may fit
            signs = (1, 1) if node.op == "add" else (1, -1) if a is node.operands[0] else (-1, 1)
            build = partial(_build, node=node, conv=conv, wide=wide, other=other, offset=offset, signs=signs)
            return Found(node, (*wide.nodes, *other.nodes), build, f"kernel {wide.weight.shape[2:]}")
        return None


def _convolution(conv: Node) -> Branch | None:
    x, w, bias = conv.inputs
    if x is None or w is None or w.data is None or (bias is not None and bias.data is None):
        return None
    shift = np.zeros(w.shape[0]) if bias is None or bias.data is None else bias.data.astype(np.float64)
    return Branch(x, w.data.astype(np.float64), shift, conv.attrs["pads"], (conv,))


def _affine(m: Matcher, value: Value, conv: Node) -> Branch | None:
    """X * scale + shift per channel as a 1x1 convolution with the groups of `conv`."""
    add = m.made_by(value, "add")
    if add is None or max(conv.attrs["strides"]) > 1 or max(conv.attrs["dilations"]) > 1:
        return None
    rank, channels = len(value.shape), value.shape[1]
    for scaled, c in pairs(add):
        mul = m.made_by(scaled, "mul")
        shift = channel_vector(c, rank, 1, channels)
        if mul is None or shift is None:
            continue
        for x, factor in pairs(mul):
            scale = channel_vector(factor, rank, 1, channels)
            if scale is not None and x is conv.operands[0]:
                per_group = channels // conv.attrs["groups"]
                weight = np.zeros((channels, per_group, *(1,) * (rank - 2)))
                weight[np.arange(channels), np.arange(channels) % per_group] = scale.reshape(
                    -1, *(1,) * (rank - 2)
                )
                return Branch(x, weight, shift.astype(np.float64), (0,) * (2 * (rank - 2)), (mul, add))
    return None


def _offset(wide: Branch, other: Branch) -> tuple[int, ...] | None:
    """Where the other kernel starts inside the wide one; None if it does not lie inside."""
    rank = wide.weight.ndim - 2
    offset = tuple(wide.pads[i] - other.pads[i] for i in range(rank))
    sizes = zip(offset, other.weight.shape[2:], wide.weight.shape[2:], strict=True)
    return offset if all(o >= 0 and o + small <= large for o, small, large in sizes) else None


def _build(
    r: Rewriter,
    node: Node,
    conv: Node,
    wide: Branch,
    other: Branch,
    offset: Sequence[int],
    signs: tuple[int, int],
) -> Value:
    weight = signs[0] * wide.weight
    bias = signs[0] * wide.bias + signs[1] * other.bias
    inside = tuple(slice(o, o + n) for o, n in zip(offset, other.weight.shape[2:], strict=True))
    weight[(slice(None), slice(None), *inside)] += signs[1] * other.weight
    w = conv.operands[1]
    new_weight = r.const(typed_like(weight, w), w.dtype, name=w.name)
    new_bias = r.const(typed_like(bias, w), w.dtype, name=f"{w.name}.bias")
    origin = conv.origin.made_by(r.pass_name)
    return r.op("conv", r[wide.x], new_weight, new_bias, origin=origin, name=node.output.name, **conv.attrs)
