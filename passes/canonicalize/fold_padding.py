"""Zero padding before a convolution or maximum pool becomes the layer's own (asymmetric) pads.

A convolution pads with real 0, so only constant pads of 0 fold; a maximum pool never lets its padding win, so
only pads with minus infinity do.
"""

from __future__ import annotations

import math

from qcompiler.ir import Node, Rewriter, Value
from qcompiler.passes.canonicalize.pattern import Found, Matcher, PatternPass


class FoldPadding(PatternPass):
    """See the module docstring."""

    name = "fold_padding"
    roots = frozenset({"conv", "max_pool"})

    def find(self, m: Matcher, node: Node) -> Found | str | None:
        """Sites are layers whose operand is padded."""
        pad = m.made_by(node.operands[0], "pad")
        if pad is None:
            return None
        pads, rank = pad.attrs["pads"], len(pad.output.shape)
        wanted = 0.0 if node.op == "conv" else -math.inf
        if pad.attrs["mode"] != "constant" or pad.attrs["value"] != wanted:
            return f"pads with {pad.attrs['mode']} {pad.attrs['value']:g}, the layer with {wanted:g}"
        if any(p < 0 for p in pads):
            return "crops"
        if any(pads[i] or pads[rank + i] for i in (0, 1)):
            return "pads batch or channels"
        if node.attrs.get("ceil_mode"):
            return "ceil_mode counts windows from the padded size"
        spatial = (*pads[2:rank], *pads[rank + 2 :])
        return Found(node, (pad,), lambda r: _build(r, node, pad, spatial), f"pads {spatial}")


def _build(r: Rewriter, node: Node, pad: Node, spatial: tuple[int, ...]) -> Value:
    pads = tuple(a + b for a, b in zip(node.attrs["pads"], spatial, strict=True))
    operands = [r[pad.operands[0]], *(r.get(v) for v in node.inputs[1:])]
    return r.op(node.op, *operands, name=node.output.name, **{**node.attrs, "pads": pads})
