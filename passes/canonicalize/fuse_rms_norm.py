"""Root-mean-square norm written in steps becomes one `rms_norm`.

    x * rsqrt(mean(x^2) + eps)  or  x / sqrt(...)     [* weight]

over the last axes (Zhang & Sennrich 2019). Models that keep weights in a narrow type normalize in float32, cast
back and multiply then: that product stays outside.
"""

from __future__ import annotations

from qcompiler.ir import Node, Value
from qcompiler.passes.canonicalize.fuse_layer_norm import spread_of, take_factor
from qcompiler.passes.canonicalize.pattern import Found, Matcher, PatternPass, becomes, pairs


class FuseRmsNorm(PatternPass):
    """See the module docstring."""

    name = "fuse_rms_norm"
    must_follow = ("fuse_layer_norm", "fold_constants")
    roots = frozenset({"mul", "div", "rms_norm"})

    def find(self, m: Matcher, node: Node) -> Found | str | None:
        """Sites are values divided by the root of their own mean square."""
        if node.op == "rms_norm":
            x, weight = node.inputs
            if x is None or weight is not None:
                return None
            found = _found(m, node, x, (), node.attrs["eps"], node.attrs["axes"])
            return found if found.last is not node else None
        for x, denominator in [tuple(node.operands)] if node.op == "div" else pairs(node):
            spread = spread_of(m, node.op, x, denominator)
            if spread is not None:
                eps, count, inside = spread
                if count == 0:
                    return "the mean does not run over the last axes"
                return _found(m, node, x, inside, eps, count)
        return None


def _found(m: Matcher, node: Node, x: Value, inside: tuple[Node, ...], eps: float, count: int) -> Found:
    last, weight = node, None
    if (factor := take_factor(m, node, "mul", x.shape[-count:])) is not None:
        inside, (last, weight) = (*inside, node), factor

    build = becomes("rms_norm", last, x, weight, eps=eps, axes=count)
    return Found(last, inside, build, f"over the last {count} axes")
