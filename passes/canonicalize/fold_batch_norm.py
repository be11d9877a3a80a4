"""Batch norm of a convolution or linear layer becomes part of its weight and bias.

With s = weight / sqrt(var + eps): W' = s W, b' = bias + s (b - mean); in float64, rounded once. A batch norm
elsewhere becomes x * s + (bias - s mean).
"""

from __future__ import annotations

import numpy as np

from qcompiler.ir import Node, Rewriter, Value
from qcompiler.passes.canonicalize.pattern import Found, Matcher, PatternPass, typed_like

LAYERS = ("conv", "conv_transpose", "linear")


class FoldBatchNorm(PatternPass):
    """See the module docstring."""

    name = "fold_batch_norm"
    must_follow = ("fold_constants",)
    roots = frozenset({"batch_norm"})

    def find(self, m: Matcher, node: Node) -> Found | str | None:
        """Sites are batch norms with constant statistics."""
        x, *stats = node.inputs
        if x is None or any(v is not None and not v.is_const for v in stats):
            return "statistics are computed, not constants"
        layer = m.made_by(x, *LAYERS)
        reason = _refuse_layer(m, layer, x)
        if layer is not None and not reason:
            return Found(node, (layer,), lambda r: _fold(r, layer, node), f"into {layer.where()}")
        what = f"as x * scale + shift{': ' + reason if reason else ''}"
        return Found(node, (), lambda r: _affine(r, r[x], node), what)


def _refuse_layer(m: Matcher, layer: Node | None, x: Value) -> str:
    if layer is None:
        return ""
    if layer.op == "linear" and len(x.shape) != 2:
        return "the normalized axis is not the layer's output axis"
    if any(v is not None and not v.is_const for v in layer.inputs[1:]):
        return f"{layer.where()} has a computed weight"
    return "" if m.graph.sole_user(x) is not None else f"{layer.where()} has other readers"


def scale_and_shift(node: Node) -> tuple[np.ndarray, np.ndarray]:
    """(s, bias - s mean) of a batch norm, float64 [C]."""
    mean, var, weight, bias = (
        None if v is None or v.data is None else v.data.astype(np.float64) for v in node.inputs[1:]
    )
    assert mean is not None and var is not None
    scale = 1 / np.sqrt(var + node.attrs["eps"])
    scale = scale if weight is None else scale * weight
    return scale, -mean * scale if bias is None else bias - mean * scale


def scale_outputs(layer: Node, scale: np.ndarray) -> np.ndarray:
    """The layer's weight with every output channel multiplied, float64."""
    weight = layer.operands[1].data
    assert weight is not None
    wide = weight.astype(np.float64)
    if layer.op != "conv_transpose":
        return wide * scale.reshape(-1, *(1,) * (wide.ndim - 1))
    # w [C, O/groups, ...]: rows of one group share that group's outputs.
    groups = layer.attrs["groups"]
    per_row = np.repeat(scale.reshape(groups, -1), wide.shape[0] // groups, axis=0)
    return wide * per_row.reshape(*wide.shape[:2], *(1,) * (wide.ndim - 2))


def _fold(r: Rewriter, layer: Node, node: Node) -> Value:
    scale, shift = scale_and_shift(node)
    x, w, bias = layer.inputs
    if bias is not None and bias.data is not None:
        shift = shift + scale * bias.data.astype(np.float64)
    assert x is not None and w is not None
    weight = r.const(typed_like(scale_outputs(layer, scale), w), w.dtype, name=w.name)
    new_bias = r.const(
        typed_like(shift, w), w.dtype, name=bias.name if bias is not None else f"{w.name}.bias"
    )
    return r.op(
        layer.op,
        r[x],
        weight,
        new_bias,
        origin=layer.origin.made_by(r.pass_name),
        name=layer.output.name,
        **layer.attrs,
    )


def _affine(r: Rewriter, x: Value, node: Node) -> Value:
    shape = (-1, *(1,) * (len(x.shape) - 2))
    scale, shift = (typed_like(v, x).reshape(shape) for v in scale_and_shift(node))
    scaled = r.op("mul", x, r.const(scale, x.dtype, name="scale"))
    return r.op("add", scaled, r.const(shift, x.dtype, name="shift"), name=node.output.name)
