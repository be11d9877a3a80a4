"""x * sigmoid(x), or x / (1 + exp(-x)), becomes `silu`; x * tanh(softplus(x)) becomes `mish`."""

from __future__ import annotations

from qcompiler.ir import Node, Value
from qcompiler.passes.canonicalize.pattern import Found, Matcher, PatternPass, becomes, pairs


class FuseSilu(PatternPass):
    """See the module docstring."""

    name = "fuse_silu"
    must_follow = ("fuse_gelu",)
    roots = frozenset({"mul", "div"})

    def find(self, m: Matcher, node: Node) -> Found | str | None:
        """Sites are products of a value and a gate on the same value."""
        for x, gate in pairs(node):
            found = _division(m, x, gate) if node.op == "div" else _product(m, x, gate)
            if found is not None:
                op, inside = found
                return Found(node, inside, becomes(op, node, x), op)
            if node.op == "div":
                return None
        return None


def _product(m: Matcher, x: Value, gate: Value) -> tuple[str, tuple[Node, ...]] | None:
    sigmoid = m.made_by(gate, "sigmoid")
    if sigmoid is not None:
        return ("silu", (sigmoid,)) if sigmoid.operands[0] is x else None
    tanh = m.made_by(gate, "tanh")
    plus = None if tanh is None else m.made_by(tanh.operands[0], "softplus")
    if tanh is None or plus is None or plus.operands[0] is not x or plus.attrs["beta"] != 1:
        return None
    return "mish", (plus, tanh)


def _division(m: Matcher, x: Value, gate: Value) -> tuple[str, tuple[Node, ...]] | None:
    plus = m.made_by(gate, "add")
    found = None if plus is None else m.scalar_operand(plus)
    exp = None if found is None or found[1] != 1 else m.made_by(found[0], "exp")
    neg = None if exp is None else m.made_by(exp.operands[0], "neg")
    if plus is None or exp is None or neg is None or neg.operands[0] is not x:
        return None
    return "silu", (neg, exp, plus)
