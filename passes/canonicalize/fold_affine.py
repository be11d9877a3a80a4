"""A constant added to or multiplied with a layer's output becomes part of its weight and bias.

    conv(x) + c [C, 1, 1], linear(x) + c [N]     -> bias
    linear(x) * c [N], conv(x) * c [C, 1, 1]     -> W' = c W, b' = c b (layer scale), also through one transpose

In float64, rounded once.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from qcompiler.ir import Node, Rewriter, Value
from qcompiler.ir.ops import get_op
from qcompiler.passes.canonicalize.fold_batch_norm import LAYERS, scale_outputs
from qcompiler.passes.canonicalize.pattern import (
    Found,
    Matcher,
    PatternPass,
    channel_vector,
    pairs,
    typed_like,
)


class FoldAffine(PatternPass):
    """See the module docstring."""

    name = "fold_affine"
    must_follow = ("fold_constants", "matmul_to_linear")
    roots = frozenset({"add", "sub", "mul", "div"})

    def find(self, m: Matcher, node: Node) -> Found | str | None:
        """Sites are sums and products of a layer's output with a constant per output channel."""
        for y, c in pairs(node):
            if c.data is None or y.is_const or (node.op in ("sub", "div") and y is not node.operands[0]):
                continue
            turn = m.made_by(y, "transpose")
            layer = m.made_by(turn.operands[0] if turn is not None else y, *LAYERS)
            if layer is None:
                return None
            axis = 1 if layer.op != "linear" else len(layer.output.shape) - 1
            seen = axis if turn is None else turn.attrs["perm"].index(axis)
            vector = channel_vector(c, len(y.shape), seen, layer.output.shape[axis])
            if vector is None or len(c.shape) > len(y.shape):
                return None
            if any(v is not None and not v.is_const for v in layer.inputs[1:]):
                return f"{layer.where()} has a computed weight"
            if node.op in ("mul", "div") and len(m.graph.uses(layer.operands[1])) > 1:
                return f"{layer.where()} shares its weight"
            if node.op == "div" and not vector.all():
                return "divides by 0"
            inside = (layer,) if turn is None else (layer, turn)
            data = vector.astype(np.float64)
            return Found(
                node,
                inside,
                partial(_build, node=node, layer=layer, turn=turn, c=data),
                f"into {layer.where()}",
            )
        return None


def _build(r: Rewriter, node: Node, layer: Node, turn: Node | None, c: np.ndarray) -> Value:
    x, w, bias = layer.inputs
    assert x is not None and w is not None and get_op(layer.op).operands[2] == "bias?"
    old = np.zeros(len(c)) if bias is None or bias.data is None else bias.data.astype(np.float64)
    weight: Value = r[w]
    if node.op in ("mul", "div"):
        factor = c if node.op == "mul" else 1 / c
        weight = r.const(typed_like(scale_outputs(layer, factor), w), w.dtype, name=w.name)
        shift = old * factor
    else:
        shift = old + c if node.op == "add" else old - c
    new_bias: Value | None = None
    if bias is not None or shift.any():
        new_bias = r.const(
            typed_like(shift, w), w.dtype, name=bias.name if bias is not None else f"{w.name}.bias"
        )
    origin = layer.origin.made_by(r.pass_name)
    y = r.op(layer.op, r[x], weight, new_bias, origin=origin, name=layer.output.name, **layer.attrs)
    return y if turn is None else r.op("transpose", y, name=node.output.name, perm=turn.attrs["perm"])
