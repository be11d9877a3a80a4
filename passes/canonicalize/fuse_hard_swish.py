"""clip(x + 3, 0, 6) / 6 becomes `hard_sigmoid`, x times it `hard_swish` (Howard et al. 2019)."""

from __future__ import annotations

from qcompiler.ir import Node, Value
from qcompiler.passes.canonicalize.pattern import Found, Matcher, PatternPass, becomes, close
from qcompiler.passes.canonicalize.polynomial import polynomial, product_of, scaled_further


class FuseHardSwish(PatternPass):
    """See the module docstring."""

    name = "fuse_hard_swish"
    must_follow = ("normalize_clips",)
    roots = frozenset({"mul", "div", "clip"})

    def find(self, m: Matcher, node: Node) -> Found | str | None:
        """Sites are products with a clipped line, and clipped lines by themselves."""
        if node.op == "clip":
            user = m.next(node, "mul", "div")
            return (
                None if user is not None and isinstance(self.find(m, user), Found) else _clipped_line(m, node)
            )
        product = product_of(m, node)
        if len(product.factors) == 1:
            return _hard_sigmoid(m, node, product.factors[0], product.scale, product.inside)
        if len(product.factors) != 2:
            return None
        for x, gate in (product.factors, product.factors[::-1]):
            curve = m.made_by(gate, "clip", "hard_sigmoid")
            if curve is None:
                continue
            inside = [*product.inside, curve]
            if curve.op == "hard_sigmoid":
                same, scale = curve.operands[0] is x, product.scale
            else:
                unit = _line(m, curve, x, inside)
                same, scale = unit is not None, product.scale * (unit or 1)
            if not same:
                continue
            if not close(scale, 1.0, x.dtype):
                return None if scaled_further(m, node) else f"factor {scale:g} is not hard swish's"
            return Found(node, tuple(inside), becomes("hard_swish", node, x), "hard_swish")
        return None


def _line(m: Matcher, clip: Node, x: Value, inside: list[Node]) -> float | None:
    """Gives u if a clip limits u (x / 6 + 1/2) to [0, u]; its nodes are added to `inside`."""
    top = clip.attrs["max"]
    if clip.attrs["min"] != 0 or not top:
        return None
    nodes: list[Node] = []
    got = polynomial(m, clip.operands[0], x, nodes)
    if got is None or set(got) != {0, 1}:
        return None
    if not close(got[1], top / 6, x.dtype) or not close(got[0], top / 2, x.dtype):
        return None
    inside.extend(nodes)
    return float(top)


def _sources(m: Matcher, clip: Node) -> list[Value]:
    """What the line under a clip may be a function of: one or two steps back."""
    found: list[Value] = []
    value = clip.operands[0]
    for _ in range(2):
        node = m.made_by(value, "add", "mul", "div")
        step = None if node is None else m.scalar_operand(node)
        if step is None:
            break
        value = step[0]
        found.append(value)
    return found


def _hard_sigmoid(m: Matcher, node: Node, gate: Value, scale: float, inside: list[Node]) -> Found | None:
    clip = m.made_by(gate, "clip")
    if clip is None:
        return None
    for x in _sources(m, clip):
        nodes = [*inside, clip]
        unit = _line(m, clip, x, nodes)
        if unit is not None and close(unit * scale, 1.0, x.dtype):
            return Found(node, tuple(nodes), becomes("hard_sigmoid", node, x), "hard_sigmoid")
    return None


def _clipped_line(m: Matcher, clip: Node) -> Found | None:
    if clip.attrs["max"] != 1:
        return None
    for x in _sources(m, clip):
        nodes: list[Node] = []
        if _line(m, clip, x, nodes) is not None:
            return Found(clip, tuple(nodes), becomes("hard_sigmoid", clip, x), "hard_sigmoid")
    return None
