"""Drop nodes that change nothing, and merge neighbouring movements.

Dropped: reshape, expand, slice, transpose, cast, pad, concat and clip that give back their operand; x + 0, x - 0,
x * 1, x / 1, x ^ 1, x and true, x or false; an expand whose reader broadcasts anyway. Moved: an expand behind an elementwise op with scalars (masks stay
small). Merged: reshape of reshape, transpose of transpose,
slice of slice along one axis (step 1), expand of expand, a widening cast and its way back.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from qcompiler.ir import DType, Graph, Level, Node, Rewriter, Value, make_node, rewrite
from qcompiler.ir.dims import is_symbolic, same, same_shape
from qcompiler.ir.ops.movement import END
from qcompiler.passes.base import Context, Kind, Note, Pass, Result

# Ops that broadcast their operands.
_BROADCASTING = frozenset(
    "add sub mul div pow maximum minimum where equal not_equal less less_equal greater greater_equal logical_and"
    " logical_or logical_xor attention".split()
)
_NEUTRAL = {"add": 0, "sub": 0, "mul": 1, "div": 1, "pow": 1}
_WIDTH = {DType.bfloat16: 0, DType.float16: 0, DType.float32: 1, DType.float64: 2}


class DropIdentities(Pass):
    """See the module docstring."""

    name = "drop_identities"
    kind = Kind.EXACT
    requires = (Level.FLOAT, Level.QUANTIZED)

    def run(self, graph: Graph, context: Context) -> Result:
        """One walk in program order: every node sees its operands already simplified."""
        notes: list[Note] = []
        made: dict[Value, Node] = {}

        def visit(r: Rewriter, node: Node) -> Value | None:
            before = len(r.nodes)
            result = simplify(r, node, made)
            for new in r.nodes[before:]:
                made[new.outputs[0]] = new
            if result is None:
                inputs = tuple(r.get(v) for v in node.inputs)
                if (
                    any(a is not b for a, b in zip(inputs, node.inputs, strict=True))
                    and len(node.outputs) == 1
                ):
                    # Rebuilt here instead of by the walk, to learn who makes the new value.
                    rebuilt = make_node(node.op, inputs, dict(node.attrs), node.origin, node.outputs[0].name)
                    r.nodes.append(rebuilt)
                    made[rebuilt.output] = rebuilt
                    return rebuilt.output
                for value in node.outputs:
                    made[value] = node
                return None
            notes.append(Note(node.where(), True, "changes nothing" if result not in made else "merged"))
            return result

        new = rewrite(graph, visit, self.name)
        return Result(new, new is not graph, tuple(notes))


def simplify(r: Rewriter, node: Node, made: dict[Value, Node]) -> Value | None:
    """What stands for a node in the new graph, None to keep it."""
    if len(node.outputs) != 1 or not node.inputs:
        return None
    if node.op in _BROADCASTING:
        return _neutral(r, node) or _neutral_truth(r, node) or _drop_expand(r, node, made)
    rule = _RULES.get(node.op)
    return None if rule is None or node.inputs[0] is None else rule(r, node, r[node.inputs[0]], made)


def _neutral(r: Rewriter, node: Node) -> Value | None:
    """Gives x for x + 0 and the like, where the result has x's own shape."""
    if node.op not in _NEUTRAL:
        return None
    a, b = (r[v] for v in node.operands)
    candidates = [(a, b), (b, a)] if node.op in ("add", "mul") else [(a, b)]
    for x, c in candidates:
        if (
            c.data is not None
            and (c.data == _NEUTRAL[node.op]).all()
            and same_shape(x.shape, node.output.shape)
        ):
            if node.op == "div" and not x.dtype.is_float:
                continue
            return x
    return None


def _neutral_truth(r: Rewriter, node: Node) -> Value | None:
    """Gives x for `x and true`, `x or false`; broadcast where the constant has more elements."""
    if node.op not in ("logical_and", "logical_or"):
        return None
    a, b = (r[v] for v in node.operands)
    for x, c in ((a, b), (b, a)):
        if c.data is None or c.data.dtype != np.bool_ or x.dtype is not DType.bool:
            continue
        if (c.data == (node.op == "logical_and")).all():
            same_already = same_shape(x.shape, node.output.shape)
            return x if same_already else r.op("expand", x, shape=node.output.shape, name=node.output.name)
    return None


def _drop_expand(r: Rewriter, node: Node, made: dict[Value, Node]) -> Value | None:
    inputs = [r[v] for v in node.operands]
    for i, value in enumerate(inputs):
        source = made.get(value)
        if source is None or source.op != "expand" or source.inputs[0] is None:
            continue
        trial = [*inputs[:i], source.inputs[0], *inputs[i + 1 :]]
        if same_shape(make_node(node.op, trial, node.attrs).output.shape, node.output.shape):
            return r.op(node.op, *trial, name=node.output.name, **node.attrs)
        others = [*inputs[:i], *inputs[i + 1 :]]
        if all(v.data is not None and v.data.size == 1 for v in others):
            small = r.op(node.op, *trial, **node.attrs)
            return r.op("expand", small, shape=node.output.shape, name=node.output.name)
    return None


def _reshape(r: Rewriter, node: Node, x: Value, made: dict[Value, Node]) -> Value | None:
    if same_shape(x.shape, node.output.shape):
        return x
    source = made.get(x)
    if source is not None and source.op == "reshape":
        first = source.operands[0]
        if same_shape(first.shape, node.output.shape):
            return first
        return r.op("reshape", first, shape=node.attrs["shape"], name=node.output.name)
    return None


def _transpose(r: Rewriter, node: Node, x: Value, made: dict[Value, Node]) -> Value | None:
    perm = node.attrs["perm"]
    if perm == tuple(range(len(perm))):
        return x
    source = made.get(x)
    if source is not None and source.op == "transpose":
        both = tuple(source.attrs["perm"][p] for p in perm)
        if both == tuple(range(len(both))):
            return source.operands[0]
        return r.op("transpose", source.operands[0], perm=both, name=node.output.name)
    return None


def _expand(r: Rewriter, node: Node, x: Value, made: dict[Value, Node]) -> Value | None:
    if same_shape(x.shape, node.output.shape):
        return x
    source = made.get(x)
    if source is not None and source.op == "expand":
        return r.op("expand", source.operands[0], shape=node.attrs["shape"], name=node.output.name)
    return None


def _slice(r: Rewriter, node: Node, x: Value, made: dict[Value, Node]) -> Value | None:
    if node.attrs["step"] == 1 and same_shape(x.shape, node.output.shape):
        axis = node.attrs["axis"] % len(x.shape)
        # A symbolic bound may cut although the declared shapes agree only under the program's guards.
        if not is_symbolic(x.shape[axis]) or same(node.attrs["start"], 0):
            return x
    source = made.get(x)
    if source is None or source.op != "slice" or source.attrs["step"] != 1 or node.attrs["step"] != 1:
        return None
    rank = len(x.shape)
    bounds = [n.attrs[k] for n in (source, node) for k in ("start", "stop")]
    plain = all(not is_symbolic(b) and b >= 0 for b in bounds)
    if not plain or source.attrs["axis"] % rank != node.attrs["axis"] % rank:
        return None
    (first, end), (start, stop) = bounds[:2], bounds[2:]
    stop = end if stop >= END else min(end, first + stop)
    attrs = {"axis": node.attrs["axis"], "start": min(first + start, stop), "stop": stop}
    return r.op("slice", source.operands[0], name=node.output.name, **attrs)


def _cast(r: Rewriter, node: Node, x: Value, made: dict[Value, Node]) -> Value | None:
    target = node.attrs["dtype"]
    if x.dtype is target:
        return x
    source = made.get(x)
    if source is not None and source.op == "cast":
        first = source.operands[0]
        widened = first.dtype in _WIDTH and x.dtype in _WIDTH and _WIDTH[first.dtype] < _WIDTH[x.dtype]
        if first.dtype is target and widened:
            return first
    return None


def _pad(r: Rewriter, node: Node, x: Value, made: dict[Value, Node]) -> Value | None:
    return None if any(node.attrs["pads"]) else x


def _concat(r: Rewriter, node: Node, x: Value, made: dict[Value, Node]) -> Value | None:
    return x if len(node.inputs) == 1 else None


def _clip(r: Rewriter, node: Node, x: Value, made: dict[Value, Node]) -> Value | None:
    return x if node.attrs["min"] is None and node.attrs["max"] is None else None


_RULES: dict[str, Callable[[Rewriter, Node, Value, dict[Value, Node]], Value | None]] = {
    "reshape": _reshape,
    "transpose": _transpose,
    "expand": _expand,
    "slice": _slice,
    "cast": _cast,
    "pad": _pad,
    "concat": _concat,
    "clip": _clip,
}
