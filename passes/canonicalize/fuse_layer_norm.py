"""Layer norm written in steps, and affine factors beside a layer norm, become one `layer_norm`.

    c = x - mean(x);  c / sqrt(mean(c^2) + eps)  or  c * rsqrt(...)     [* weight] [+ bias]

over the last axes. c^2 is written c * c or pow(c, 2).
"""

from __future__ import annotations

from qcompiler.ir import Node, Value
from qcompiler.ir.dims import same_shape
from qcompiler.passes.canonicalize.pattern import Found, Matcher, PatternPass, becomes, last_axes, pairs


class FuseLayerNorm(PatternPass):
    """See the module docstring."""

    name = "fuse_layer_norm"
    roots = frozenset({"mul", "div", "layer_norm"})

    def find(self, m: Matcher, node: Node) -> Found | str | None:
        """Sites are normalizations of centred values, and layer norms that a factor or shift follows."""
        if node.op == "layer_norm":
            return self._extend(m, node)
        for centred, denominator in [tuple(node.operands)] if node.op == "div" else pairs(node):
            spread = spread_of(m, node.op, centred, denominator)
            sub = m.made_by(centred, "sub")
            if spread is None or sub is None:
                continue
            eps, axes, inside = spread
            x, mean = sub.operands
            average = m.made_by(mean, "reduce_mean")
            if average is None or average.operands[0] is not x or not average.attrs["keepdims"]:
                return f"{sub.where()} does not subtract the mean of what it centres"
            count = last_axes(average.attrs["axes"], len(x.shape))
            if count == 0 or count != axes:
                return f"axes {average.attrs['axes']} are not the last ones"
            return _found(m, node, x, (average, sub, *inside), eps, count, None, None)
        return None

    def _extend(self, m: Matcher, node: Node) -> Found | None:
        x, weight, bias = node.inputs
        if x is None or bias is not None or m.next(node, "mul", "add") is None:
            return None
        found = _found(m, node, x, (), node.attrs["eps"], node.attrs["axes"], weight, bias)
        return found if found.last is not node else None


def spread_of(
    m: Matcher, op: str, centred: Value, denominator: Value
) -> tuple[float, int, tuple[Node, ...]] | None:
    """(eps, last axes or 0, nodes) if `denominator` is sqrt(mean(centred^2) + eps), or its reciprocal for a product."""
    root = m.made_by(denominator, "sqrt" if op == "div" else "rsqrt")
    plus = None if root is None else m.made_by(root.operands[0], "add")
    shifted = None if plus is None else m.scalar_operand(plus)
    if root is None or plus is None or shifted is None:
        return None
    mean = m.made_by(shifted[0], "reduce_mean")
    square = None if mean is None else m.made_by(mean.operands[0], "mul", "pow")
    if mean is None or square is None or not mean.attrs["keepdims"]:
        return None
    a, b = square.operands
    squared = (a is centred and b is centred) if square.op == "mul" else (a is centred and m.scalar(b) == 2)
    count = last_axes(mean.attrs["axes"], len(centred.shape))
    return (shifted[1], count, (square, mean, plus, root)) if squared else None


def take_factor(m: Matcher, node: Node, op: str, shape: tuple[object, ...]) -> tuple[Node, Value] | None:
    """(reader, constant) if the only reader of a node combines it with a constant of the given shape."""
    user = m.next(node, op)
    if user is None:
        return None
    for x, c in pairs(user):
        if x is node.output and c.is_const and same_shape(c.shape, shape) and c.dtype is x.dtype:
            return user, c
    return None


def _found(
    m: Matcher,
    node: Node,
    x: Value,
    inside: tuple[Node, ...],
    eps: float,
    count: int,
    weight: Value | None,
    bias: Value | None,
) -> Found:
    """The site, grown over the factor and shift that follow."""
    last, shape = node, x.shape[-count:]
    if weight is None and (factor := take_factor(m, last, "mul", shape)) is not None:
        inside, (last, weight) = (*inside, last), factor
    if bias is None and (shift := take_factor(m, last, "add", shape)) is not None:
        inside, (last, bias) = (*inside, last), shift

    build = becomes("layer_norm", last, x, weight, bias, eps=eps, axes=count)
    return Found(last, inside, build, f"over the last {count} axes")
