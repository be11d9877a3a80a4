"""GELU in its three spellings becomes `gelu` (Hendrycks & Gimpel 2016).

    x/2 (1 + erf(x / sqrt 2))                                   approximate none
    x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))               approximate tanh
    x sigmoid(1.702 x)                                          approximate sigmoid

The factors come in any order, and the inner polynomial in any form.
"""

from __future__ import annotations

import math

from qcompiler.ir import DType, Node, Value
from qcompiler.passes.canonicalize.pattern import Found, Matcher, PatternPass, becomes, close
from qcompiler.passes.canonicalize.polynomial import Coefficients, polynomial, product_of, scaled_further

_ROOT = math.sqrt(2 / math.pi)
_INNER: dict[str, tuple[str, Coefficients]] = {
    "erf": ("none", {1: math.sqrt(0.5)}),
    "tanh": ("tanh", {1: _ROOT, 3: _ROOT * 0.044715}),
    "sigmoid": ("sigmoid", {1: 1.702}),
}


class FuseGelu(PatternPass):
    """See the module docstring."""

    name = "fuse_gelu"
    roots = frozenset({"mul", "div"})

    def find(self, m: Matcher, node: Node) -> Found | str | None:
        """Sites are products of a value and a gate on it."""
        product = product_of(m, node)
        if len(product.factors) != 2:
            return None
        for x, gate in (product.factors, product.factors[::-1]):
            found = _gate(m, gate)
            if found is None:
                continue
            curve, scale, inside = found
            kind, wanted = _INNER[curve.op]
            got = polynomial(m, curve.operands[0], x, inside)
            if got is None or not _same(got, wanted, x.dtype):
                if curve.op == "sigmoid" or got is None:
                    continue  # silu, or another function of other values
                return f"inner polynomial {_text(got)} is not gelu's {_text(wanted)}"
            if not close(product.scale * scale, 1.0 if curve.op == "sigmoid" else 0.5, x.dtype):
                return None if scaled_further(m, node) else f"factor {product.scale * scale:g} is not gelu's"
            swallowed = dict.fromkeys([*product.inside, *inside, curve])
            return Found(
                node,
                tuple(swallowed),
                becomes("gelu", node, x, approximate=kind),
                kind,
            )
        return None


def _gate(m: Matcher, gate: Value) -> tuple[Node, float, list[Node]] | None:
    """(curve node, factor, nodes) of a sigmoid, or of c (1 + erf) and c (1 + tanh)."""
    sigmoid = m.made_by(gate, "sigmoid")
    if sigmoid is not None:
        return sigmoid, 1.0, []
    plus = m.made_by(gate, "add")
    found = None if plus is None else m.scalar_operand(plus)
    if plus is None or found is None:
        return None
    inner, shift = found
    inside, scale = [plus], 1.0
    scaled = m.made_by(inner, "mul")
    if scaled is not None and (factor := m.scalar_operand(scaled)) is not None:
        # 1/2 + erf/2 times x
        inside.append(scaled)
        inner, scale = factor
    curve = m.made_by(inner, "erf", "tanh")
    return (curve, scale, inside) if curve is not None and close(shift, scale, gate.dtype) else None


def _same(got: Coefficients, wanted: Coefficients, dtype: DType) -> bool:
    return all(close(got.get(p, 0.0), wanted.get(p, 0.0), dtype) for p in got.keys() | wanted.keys())


def _text(coefficients: Coefficients) -> str:
    return " + ".join(f"{c:.7g} x^{p}" for p, c in sorted(coefficients.items()))
