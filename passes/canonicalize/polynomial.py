"""Products and polynomials in one value, however they are associated: how activation formulas are recognized."""

from __future__ import annotations

from dataclasses import dataclass, field

from qcompiler.ir import Node, Value
from qcompiler.passes.canonicalize.pattern import Matcher

Coefficients = dict[int, float]

# Powers and nesting beyond these belong to no activation formula.
MAX_DEGREE = 6
MAX_DEPTH = 12


@dataclass
class Product:
    """A flattened product: constant factor, other factors, and the nodes that were swallowed."""

    scale: float = 1.0
    factors: list[Value] = field(default_factory=list)
    inside: list[Node] = field(default_factory=list)


def product_of(m: Matcher, node: Node) -> Product:
    """The factors of a mul or div node, through mul and div nodes that only it reads.

    Neg and constant divisors count as constant factors.
    """
    result = Product()
    _flatten(m, node, result)
    return result


def scaled_further(m: Matcher, node: Node) -> bool:
    """True if the only reader multiplies or divides by a constant: the whole product ends there."""
    user = m.next(node, "mul", "div")
    return user is not None and m.scalar_operand(user) is not None


def _flatten(m: Matcher, node: Node, result: Product) -> None:
    if node.op == "neg":
        result.scale = -result.scale
        _factor(m, node.operands[0], result)
        return
    a, b = node.operands
    divisor = m.scalar(b)
    if node.op == "div":
        if divisor:
            result.scale /= divisor
        else:
            result.factors.append(node.output)
            return
        _factor(m, a, result)
        return
    for value in (a, b):
        _factor(m, value, result)


def _factor(m: Matcher, value: Value, result: Product) -> None:
    number = m.scalar(value)
    if number is not None:
        result.scale *= number
        return
    source = m.made_by(value, "mul", "div", "neg")
    constant_divisor = source is not None and (source.op != "div" or m.scalar(source.operands[1]))
    if source is None or not constant_divisor or m.graph.sole_user(value) is None:
        result.factors.append(value)
        return
    result.inside.append(source)
    _flatten(m, source, result)


def polynomial(m: Matcher, value: Value, x: Value, inside: list[Node], depth: int = 0) -> Coefficients | None:
    """Coefficients by power if `value` is a polynomial in `x`; None otherwise.

    The nodes that compute it are added to `inside`.
    """
    if value is x:
        return {1: 1.0}
    number = m.scalar(value)
    if number is not None:
        return {0: number}
    node = m.made_by(value, "add", "sub", "mul", "div", "pow", "neg")
    if node is None or depth > MAX_DEPTH:
        return None
    left = polynomial(m, node.operands[0], x, inside, depth + 1)
    if left is None:
        return None
    right = left if len(node.operands) == 1 else polynomial(m, node.operands[1], x, inside, depth + 1)
    if right is None:
        return None
    inside.append(node)
    if node.op == "neg":
        return _scaled(left, -1.0)
    if node.op in ("add", "sub"):
        return _added(left, right if node.op == "add" else _scaled(right, -1.0))
    if node.op == "mul":
        return _multiplied(left, right)
    constant = right.get(0) if set(right) <= {0} else None
    if not constant:
        return None
    if node.op == "div":
        return _scaled(left, 1 / constant)
    if constant != int(constant) or not 1 <= constant <= MAX_DEGREE:
        return None
    power: Coefficients | None = {0: 1.0}
    for _ in range(int(constant)):
        power = None if power is None else _multiplied(power, left)
    return power


def _scaled(a: Coefficients, factor: float) -> Coefficients:
    return {power: c * factor for power, c in a.items()}


def _added(a: Coefficients, b: Coefficients) -> Coefficients:
    return {power: a.get(power, 0.0) + b.get(power, 0.0) for power in a.keys() | b.keys()}


def _multiplied(a: Coefficients, b: Coefficients) -> Coefficients | None:
    result: Coefficients = {}
    for i, c in a.items():
        for j, d in b.items():
            result[i + j] = result.get(i + j, 0.0) + c * d
    return result if max(result) <= MAX_DEGREE else None
