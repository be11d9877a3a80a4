"""A transposed convolution becomes a convolution and data movement, so that integer kernels can compute it.

Written per axis, with stride s, kernel k and J = ceil(k / s): output position m = s q + r (counted before cropping)
is the sum over j of x[q - j] w[s j + r]. For each of the s phases r that is a convolution with J taps, so that one
convolution with s times the channels computes all phases, and moving the phases to the spatial axes (as in
sub-pixel convolution, Shi et al. 2016, section 3) gives the result. A kernel that s does not divide is filled up
with zeros. Channels of the weight then are (channel, phase): the quantizer gives each phase its own scale.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from qcompiler.ir import Graph, GraphBuilder, Node, Rewriter, Value, rewrite
from qcompiler.ir.dims import normalize
from qcompiler.passes.base import Context, Kind, Note, Pass, Result


class TurnTransposedConvolutions(Pass):
    """Where the target has a quantized conv and no quantized conv_transpose."""

    name = "turn_transposed_convolutions"
    kind = Kind.EXACT

    def run(self, graph: Graph, context: Context) -> Result:
        """Sites are conv_transpose nodes with a constant weight."""
        notes: list[Note] = []
        sites = [n for n in graph.nodes if n.op == "conv_transpose"]
        target = context.target
        if sites and (not target.quantizes("conv") or target.quantizes("conv_transpose")):
            why = "the target computes it" if target.quantizes("conv_transpose") else "the target has no quantized conv"
            return Result(graph, False, tuple(Note(n.where(), False, why) for n in sites))

        def visit(r: Rewriter, node: Node) -> Value | None:
            if node.op != "conv_transpose":
                return None
            if node.operands[1].data is None:
                notes.append(Note(node.where(), False, "its weight is computed"))
                return None
            result = as_convolution(r, node, r[node.operands[0]])
            notes.append(Note(node.where(), True, "convolution of every phase"))
            return result

        result = rewrite(graph, visit, self.name)
        return Result(result, result is not graph, tuple(notes))


def as_convolution(r: Rewriter | GraphBuilder, node: Node, x: Value) -> Value:
    """The result of a conv_transpose with constant weight and bias on `x`, from a convolution and data movement."""
    w = node.operands[1]
    assert w.data is not None
    attrs, rank = node.attrs, len(w.shape) - 2
    strides, groups, pads = attrs["strides"], attrs["groups"], attrs["pads"]
    weight = _spread(w.data, attrs["dilations"])
    taps = [-(-k // s) for k, s in zip(weight.shape[2:], strides, strict=True)]
    channels = w.data.shape[1] * groups
    before, after, starts = [], [], []
    for i, s in enumerate(strides):
        skip = min(pads[i] // s, taps[i] - 1)  # outputs of the convolution that cropping would drop whole
        starts.append(pads[i] - s * skip)
        beyond = weight.shape[2 + i] + attrs["output_padding"][i] - pads[i] - pads[rank + i] - s + starts[i]
        before.append(taps[i] - 1 - skip)
        after.append(max(0, skip + -(-beyond // s)))
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None:
        bias = _repeated_bias(r, bias, int(np.prod(strides)))
    y = r.op(
        "conv", x, r.const(_by_phase(weight, strides, taps, groups), name=w.name), bias,
        strides=(1,) * rank, dilations=(1,) * rank, pads=(*before, *after), groups=groups, name=node.output.name,
    )  # fmt: skip
    y = _shuffled(r, y, channels, strides)
    for i, start in enumerate(starts):
        size = node.output.shape[2 + i]
        if y.shape[2 + i] != size:
            y = r.op("slice", y, axis=2 + i, start=start, stop=normalize(size + start))
    return y


def _spread(weight: np.ndarray, dilations: tuple[int, ...]) -> np.ndarray:
    """The weight with its dilation written as zeros."""
    if all(d == 1 for d in dilations):
        return weight
    size = [d * (k - 1) + 1 for d, k in zip(dilations, weight.shape[2:], strict=True)]
    spread = np.zeros((*weight.shape[:2], *size), weight.dtype)
    spread[(slice(None), slice(None), *(slice(None, None, d) for d in dilations))] = weight
    return spread


def _by_phase(weight: np.ndarray, strides: tuple[int, ...], taps: list[int], groups: int) -> np.ndarray:
    """[C, O/groups, kernel...] -> [O * phases, C/groups, taps...], taps in the order a convolution reads them."""
    inputs, per_group = weight.shape[:2]
    full = np.zeros((inputs, per_group, *(t * s for t, s in zip(taps, strides, strict=True))), weight.dtype)
    full[(slice(None), slice(None), *(slice(0, k) for k in weight.shape[2:]))] = weight
    grouped = full.reshape(groups, inputs // groups, per_group, *full.shape[2:])
    phases = []
    for phase in product(*(range(s) for s in strides)):
        steps = tuple(slice(r, None, s) for r, s in zip(phase, strides, strict=True))
        phases.append(np.flip(grouped[(..., *steps)], tuple(range(3, grouped.ndim))))
    # [phase, group, in, out, taps...] -> [group, out, phase, in, taps...]
    stacked = np.stack(phases).transpose(1, 3, 0, 2, *range(4, grouped.ndim + 1))
    return np.ascontiguousarray(stacked).reshape(-1, inputs // groups, *taps)


def _repeated_bias(r: Rewriter | GraphBuilder, bias: Value, times: int) -> Value:
    if bias.data is not None:
        return r.const(np.repeat(bias.data, times), name=bias.name)
    column = r.op("reshape", r[bias], shape=(*bias.shape, 1))
    wide = r.op("expand", column, shape=(*bias.shape, times))
    return r.op("reshape", wide, shape=(bias.shape[0] * times,))


def _shuffled(r: Rewriter | GraphBuilder, y: Value, channels: int, strides: tuple[int, ...]) -> Value:
    """[N, O * phases, q...] -> [N, O, q * stride...]."""
    rank = len(strides)
    if all(s == 1 for s in strides):
        return y
    sizes: tuple[Any, ...] = y.shape[2:]
    split = r.op("reshape", y, shape=(y.shape[0], channels, *strides, *sizes))
    pairs = [axis for i in range(rank) for axis in (2 + rank + i, 2 + i)]
    turned = r.op("transpose", split, perm=(0, 1, *pairs))
    merged = tuple(normalize(q * s) for q, s in zip(sizes, strides, strict=True))
    return r.op("reshape", turned, shape=(y.shape[0], channels, *merged))
