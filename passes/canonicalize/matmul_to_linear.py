"""A matrix product with a constant matrix becomes `linear`, whose weight is [N, K].

matmul(x [..., M, K], W [K, N])              -> linear(x, W^T)
matmul(x, transpose(W [N, K]))               -> linear(x, W)      the table of a tied embedding is not copied
"""

from __future__ import annotations

from qcompiler.ir import Node, Rewriter, Value
from qcompiler.passes.canonicalize.pattern import Found, Matcher, PatternPass, becomes


class MatmulToLinear(PatternPass):
    """See the module docstring."""

    name = "matmul_to_linear"
    roots = frozenset({"matmul"})

    def find(self, m: Matcher, node: Node) -> Found | str | None:
        """Sites are products whose second operand is a constant, transposed or not."""
        x, b = node.operands
        if x.is_const:
            return None
        turned = m.made_by(b, "transpose")
        if turned is not None and turned.operands[0].is_const:
            weight = turned.operands[0]
            if len(weight.shape) != 2 or turned.attrs["perm"] != (1, 0):
                return f"{turned.where()} transposes more than a matrix"
            return Found(node, (), becomes("linear", node, x, weight), "linear")
        if b.data is None:
            return None
        if len(b.shape) != 2:
            return f"the constant has {len(b.shape)} axes; linear takes a matrix"
        return Found(node, (), lambda r: _with_transposed(r, r[x], b, node), "linear, weight transposed")


def _with_transposed(r: Rewriter, x: Value, b: Value, node: Node) -> Value:
    assert b.data is not None
    return r.op("linear", x, r.const(b.data.T, b.dtype, name=b.name), name=node.output.name)
