"""One spelling for limits: `relu` for max(x, 0), `clip` for everything else.

maximum(x, c), minimum(x, c) with a constant      -> clip
clip, relu of clip, relu (sole reader)            -> one clip (relu6 is clip(x, 0, 6))
clip(x, min=0), no upper bound                    -> relu
"""

from __future__ import annotations

import math

from qcompiler.ir import Node, Rewriter, Value
from qcompiler.passes.canonicalize.pattern import Found, Matcher, PatternPass

Limits = tuple[float, float]


class NormalizeClips(PatternPass):
    """See the module docstring."""

    name = "normalize_clips"
    roots = frozenset({"relu", "clip", "maximum", "minimum"})

    def find(self, m: Matcher, node: Node) -> Found | str | None:
        """The last limit of a chain stands for the whole chain."""
        here = limits(m, node)
        if (
            here is None
            or m.next(node, *self.roots) is not None
            and limits(m, m.next(node, *self.roots)) is not None
        ):
            return None
        x, (low, high) = here
        inside: list[Node] = []
        while (source := m.made_by(x, *self.roots)) is not None and m.graph.sole_user(x) is not None:
            earlier = limits(m, source)
            if earlier is None:
                break
            x, (first_low, first_high) = earlier
            # min(max(min(max(x, a), b), c), d): the outer limits win where the ranges do not meet.
            low, high = min(max(first_low, low), high), max(min(first_high, high), low)
            inside.append(source)
        if not inside and _spelled(node, low, high):
            return None
        return Found(
            node, tuple(inside), lambda r: _build(r, r[x], low, high, node), f"limits [{low:g}, {high:g}]"
        )


def limits(m: Matcher, node: Node | None) -> tuple[Value, Limits] | None:
    """(operand, (low, high)) of a node that limits a float operand by constants."""
    if node is None or not node.output.dtype.is_float:
        return None
    if node.op == "relu":
        return node.operands[0], (0.0, math.inf)
    if node.op == "clip":
        low, high = node.attrs["min"], node.attrs["max"]
        bounds = (-math.inf if low is None else low, math.inf if high is None else high)
        return (node.operands[0], bounds) if bounds[0] <= bounds[1] else None
    if node.op in ("maximum", "minimum"):
        found = m.scalar_operand(node)
        if found is None or math.isnan(found[1]):
            return None
        x, number = found
        return x, ((number, math.inf) if node.op == "maximum" else (-math.inf, number))
    return None


def _spelled(node: Node, low: float, high: float) -> bool:
    """True if the node is already written the normal way."""
    return node.op == "relu" or (node.op == "clip" and not (low == 0 and math.isinf(high)))


def _build(r: Rewriter, x: Value, low: float, high: float, node: Node) -> Value:
    name = node.output.name
    if low == 0 and high == math.inf:
        return r.op("relu", x, name=name)
    bounds = {"min": None if math.isinf(low) else low, "max": None if math.isinf(high) else high}
    return r.op("clip", x, name=name, **bounds)
