"""Scaled dot-product attention written in steps becomes `attention` (Vaswani et al. 2017).

softmax(s (q k^T) + mask) v        s on q, on k or on the scores; -inf where a bool mask is false, or where it is true
k and v repeated per head group    grouped-query attention: reshape(expand(reshape(k)))
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field

from qcompiler.ir import DType, Node, Rewriter, Value
from qcompiler.ir.dims import Shape, same, same_shape
from qcompiler.ir.ops.spec import broadcast_shapes
from qcompiler.passes.canonicalize.pattern import Found, Matcher, PatternPass, becomes, keeps_shape, pairs

# Numbers that programs put in the place of hidden scores, instead of -inf: -1e4, -1e9, the least of float16 or float32.
HIDDEN = -1e4


@dataclass(frozen=True)
class _Mask:
    """A mask, and the shape it was broadcast to before the scores took theirs (windows split off the batch).

    `hides`: a bool mask that is true where scores are hidden, the opposite of what `attention` takes.
    """

    value: Value
    spread: Shape | None = None
    hides: bool = False

    def build(self, r: Rewriter, shape: Shape) -> Value:
        value = r.op("logical_not", r[self.value]) if self.hides else r[self.value]
        return (
            value
            if self.spread is None
            else r.op("reshape", r.op("expand", value, shape=self.spread), shape=shape)
        )


@dataclass
class _Scores:
    """What was found on the way from the softmax to the product of q and k.

    `masks` are added, or, one bool mask, selects.
    """

    scale: float = 1.0
    masks: list[_Mask] = field(default_factory=list)
    inside: list[Node] = field(default_factory=list)


class FuseAttention(PatternPass):
    """See the module docstring."""

    name = "fuse_attention"
    must_follow = ("fuse_rotary",)
    roots = frozenset({"matmul", "attention"})

    def find(self, m: Matcher, node: Node) -> Found | str | None:
        """Sites are products of a softmax over the last axis and a value, and attention over repeated heads."""
        if node.op == "attention":
            return _grouped(m, node)
        weights, v = node.operands
        softmax = m.made_by(weights, "softmax")
        if softmax is None:
            return None
        rank = len(weights.shape)
        if rank < 3 or softmax.attrs["axis"] % rank != rank - 1:
            return f"{softmax.where()} does not run over the last of three or more axes"
        scores = _Scores(inside=[softmax])
        product = _walk(m, softmax.operands[0], scores)
        if isinstance(product, str):
            return product
        q, kt = product.operands
        scores.inside.append(product)
        if len(q.shape) != rank or len(kt.shape) != rank or len(v.shape) != rank:
            return f"{product.where()} broadcasts operands of different rank"
        q, kt = _unscaled(m, q, scores), _unscaled(m, kt, scores)
        return _site(m, node, q, kt, v, scores)


def _walk(m: Matcher, value: Value, scores: _Scores) -> Node | str:
    """The product of q and k under scaling and masking; the reason where something else is in the way."""
    while True:
        node = m.graph.producer(value)
        if node is None:
            return "scores are no product of two values"
        if node.op == "matmul":
            return node
        scores.inside.append(node)
        found = m.scalar_operand(node) if node.op in ("mul", "div") else None
        if found is not None and (node.op == "mul" or found[0] is node.operands[0]):
            scores.scale *= found[1] if node.op == "mul" else 1 / found[1]
            value = found[0]
        elif node.op == "add" and scores.scale == 1:
            branch = _added(m, node)
            if branch is None:
                return f"{node.where()} adds two values that are both no mask"
            value, mask = branch
            scores.masks.append(_Mask(mask))
        elif node.op == "reshape" and scores.scale == 1 and (windows := _windowed(m, node)) is not None:
            value, masked, inside = windows
            scores.masks.append(masked)
            scores.inside += inside
        elif node.op == "where" and not scores.masks and scores.scale == 1:
            hiding = _hiding(m, node)
            if isinstance(hiding, str):
                return hiding
            value, mask = hiding
            scores.masks.append(mask)
        else:
            return f"{node.where()} stands between softmax and the product"


def _hiding(m: Matcher, node: Node) -> tuple[Value, _Mask] | str:
    """(scores, mask) of a `where` that puts a number in the place of some scores; the reason if it hides none of them.

    A number that is not -inf hides as well in a row that keeps a score: exp(-1e4 - m) is 0 even in float64 for any
    score m above -9e3. That every row keeps one is known of constant masks only; a row without gets equal weights by
    such a number, and none by -inf.
    """
    condition, chosen, other = node.operands
    hides = m.scalar(other) is None
    hidden, scores = (m.scalar(chosen), other) if hides else (m.scalar(other), chosen)
    mask = condition.data
    complete = mask is not None and mask.ndim > 0 and bool((mask != hides).any(-1).all())
    if hidden == -math.inf or (hidden is not None and hidden <= HIDDEN and complete):
        return scores, _Mask(condition, hides=hides)
    number = "other scores" if hidden is None else f"{hidden:g}"
    return f"{node.where()} hides scores behind {number}, not -inf, where rows may be hidden as a whole"


def _added(m: Matcher, node: Node) -> tuple[Value, Value] | None:
    """(scores, mask) of a sum: the operand that leads to a product, and the other."""
    for value, mask in pairs(node):
        source = m.made_by(value, "matmul", "mul", "div", "add", "reshape")
        if source is not None and same_shape(value.shape, node.output.shape) and _leads(m, value):
            return value, mask
    return None


def _leads(m: Matcher, value: Value) -> bool:
    """True if only scaling and masking lie between a value and a product of two computed values."""
    for _ in range(6):
        node = m.made_by(value, "matmul", "mul", "div", "add", "reshape")
        if node is None:
            return False
        if node.op == "matmul":
            return not any(v.is_const for v in node.operands)
        if node.op == "reshape":
            windows = _windowed(m, node)
            return windows is not None and _leads(m, windows[0])
        if node.op == "add":
            return _added(m, node) is not None
        found = m.scalar_operand(node)
        if found is None:
            return False
        value = found[0]
    return False


def _windowed(m: Matcher, flat: Node) -> tuple[Value, _Mask, list[Node]] | None:
    """(scores, mask, nodes) of reshape(reshape(scores) + mask) that gives the scores' own shape back."""
    add = m.made_by(flat.operands[0], "add")
    if add is None:
        return None
    for value, mask in pairs(add):
        split = m.made_by(value, "reshape")
        if split is None or not same_shape(value.shape, add.output.shape):
            continue
        if same_shape(split.operands[0].shape, flat.output.shape):
            return split.operands[0], _Mask(mask, add.output.shape), [add, split]
    return None


def _unscaled(m: Matcher, value: Value, scores: _Scores) -> Value:
    """The operand before a scaling that only the product reads."""
    node = m.made_by(value, "mul", "div")
    found = None if node is None else m.scalar_operand(node)
    if node is None or found is None or m.graph.sole_user(value) is None:
        return value
    if node.op == "div" and found[0] is not node.operands[0]:
        return value
    scores.scale *= found[1] if node.op == "mul" else 1 / found[1]
    scores.inside.append(node)
    return found[0]


def _ungrouped(m: Matcher, value: Value) -> tuple[Value, list[Node]]:
    """A repeated key or value before its heads were repeated: reshape(expand(reshape(x [.., H, T, D])))."""
    flat = m.made_by(value, "reshape")
    wide = None if flat is None else m.made_by(flat.operands[0], "expand")
    narrow = None if wide is None else m.made_by(wide.operands[0], "reshape")
    if flat is None or wide is None or narrow is None:
        return value, []
    x, last = narrow.operands[0], len(value.shape) - 1
    *batch, heads, tokens, depth = x.shape
    copies = wide.output.shape[len(batch) + 1] if len(wide.output.shape) == last + 2 else None
    fits = (
        copies is not None
        and same_shape(narrow.output.shape, (*batch, heads, 1, tokens, depth))
        and same_shape(wide.output.shape, (*batch, heads, copies, tokens, depth))
        and same_shape(value.shape, (*batch, heads * copies, tokens, depth))
    )
    return (x, [flat, wide, narrow]) if fits else (value, [])


def _grouped(m: Matcher, node: Node) -> Found | None:
    """Attention itself serves several queries per key head."""
    q, k, v, mask = node.inputs
    assert k is not None and v is not None
    (key, repeated), (value, repeated_too) = _ungrouped(m, k), _ungrouped(m, v)
    if not repeated or not repeated_too or not same(key.shape[-3], value.shape[-3]):
        return None
    inside = tuple(dict.fromkeys([*repeated, *repeated_too]))
    return Found(
        node, inside, becomes("attention", node, q, key, value, mask, **node.attrs), "heads not repeated"
    )


def _site(m: Matcher, node: Node, q: Value, kt: Value, v: Value, scores: _Scores) -> Found | str:
    rank = len(kt.shape)
    swap = (*range(rank - 2), rank - 1, rank - 2)
    shape = (*broadcast_shapes(q.shape[:-2], kt.shape[:-2]), q.shape[-2], kt.shape[-1])
    for mask in scores.masks:
        if mask.spread is None and not keeps_shape(Value(q.dtype, shape), mask.value):
            return f"mask {mask.value.shape} does not broadcast to {shape}"
    if len(scores.masks) > 1 and any(mask.value.dtype is DType.bool for mask in scores.masks):
        return "a bool mask and an added one"
    key, inside = kt, scores.inside
    turn = m.made_by(kt, "transpose")
    turned = turn is not None and turn.attrs["perm"] == swap
    if turn is not None and turned:
        inside.append(turn)
        whole = _unscaled(m, turn.operands[0], scores)
        key, repeated = _ungrouped(m, whole)
        value, repeated_too = _ungrouped(m, v)
        if bool(repeated) is bool(repeated_too):
            inside += [*repeated, *repeated_too]
            v = value
        else:
            key = whole
    heads, key_heads = q.shape[-3], key.shape[-3]
    if not same(key_heads, v.shape[-3]) or not (same(heads, key_heads) or heads % key_heads == 0):
        return f"query {q.shape}, key {key.shape} and value {v.shape} differ in heads"

    def build(r: Rewriter) -> Value:
        keys = r[key] if turned else r.op("transpose", r[key], perm=swap)
        parts = [mask.build(r, shape) for mask in reversed(scores.masks)]
        total = functools.reduce(lambda a, b: r.op("add", a, b), parts) if parts else None
        return r.op("attention", r[q], keys, r[v], total, name=node.output.name, scale=scores.scale)

    return Found(node, tuple(dict.fromkeys(inside)), build, f"scale {scores.scale:g}")
