"""Rotary position embedding written in steps becomes `rotary` (Su et al. 2021).

x cos + concat(-x[h:], x[:h]) sin                 pairs i and i + R/2
x cos + interleave(-x[1::2], x[0::2]) sin         pairs 2i and 2i + 1
concat(rotary(x[:R]), x[R:])                      the rest of the channels passes
"""

from __future__ import annotations

from collections.abc import Iterator

from qcompiler.ir import Node, Value
from qcompiler.ir.dims import is_symbolic, same, same_shape
from qcompiler.ir.ops.movement import END
from qcompiler.passes.canonicalize.pattern import Found, Matcher, PatternPass, becomes, keeps_shape, pairs

# (value that was sliced, channels of it that turn, interleaved, nodes)
Turned = tuple[Value, tuple[int, int], bool, list[Node]]


class FuseRotary(PatternPass):
    """See the module docstring."""

    name = "fuse_rotary"
    must_follow = ("merge_duplicates",)
    roots = frozenset({"add"})

    def find(self, m: Matcher, node: Node) -> Found | str | None:
        """Sites are sums of x cos and turn(x) sin."""
        for first, second in pairs(node):
            direct, cross = m.made_by(first, "mul"), m.made_by(second, "mul")
            if direct is None or cross is None or direct is cross:
                continue
            for turn, sin in pairs(cross):
                turned = _half(m, turn) or _interleaved(m, turn)
                if turned is None:
                    continue
                whole, channels, interleaved, inside = turned
                found = next(((v, c) for v, c in pairs(direct) if _is_part(m, v, whole, channels)), None)
                if found is None:
                    return f"{cross.where()} turns another value than {direct.where()} scales"
                return _site(m, node, found[0], found[1], sin, interleaved, [direct, cross, *inside])
        return None


def _is_part(m: Matcher, value: Value, whole: Value, channels: tuple[int, int]) -> bool:
    """True if a value is the given channels of `whole`."""
    if value is whole:
        return channels == (0, whole.shape[-1])
    part = m.made_by(value, "slice")
    if part is None or part.operands[0] is not whole:
        return False
    on_last = part.attrs["axis"] % len(whole.shape) == len(whole.shape) - 1
    return on_last and bounds(part, whole.shape[-1]) == (*channels, 1)


def _site(
    m: Matcher, node: Node, x: Value, cos: Value, sin: Value, interleaved: bool, inside: list[Node]
) -> Found | str:
    width = x.shape[-1]
    if is_symbolic(width) or not all(same(v.shape[-1] if v.shape else 1, width) for v in (cos, sin)):
        return f"cos {cos.shape} and sin {sin.shape} are not as wide as x {x.shape}"
    if not same_shape(cos.shape, sin.shape) or not keeps_shape(x, cos):
        return f"cos {cos.shape} and sin {sin.shape} do not fit x {x.shape}"
    last, source = node, x
    part = m.made_by(x, "slice")
    whole = _passing(m, node, part)
    if part is not None and whole is not None:
        last, source = whole, part.operands[0]

    build = becomes("rotary", last, source, cos, sin, interleaved=interleaved)
    # The slices of x may have other readers (the turned value reads x itself in the half form).
    swallowed = dict.fromkeys(n for n in [*inside, *([node] if last is not node else [])] if n.op != "slice")
    kind = "interleaved" if interleaved else "halves"
    return Found(last, tuple(swallowed), build, f"{kind}, {width} of {source.shape[-1]} channels")


def _passing(m: Matcher, node: Node, part: Node | None) -> Node | None:
    """The concat that puts untouched channels behind the rotated first ones."""
    concat = m.next(node, "concat")
    if concat is None or part is None or len(concat.operands) != 2:
        return None
    rest = m.made_by(concat.operands[1], "slice")
    x, rank = part.operands[0], len(part.output.shape)
    if concat.operands[0] is not node.output or rest is None or rest.operands[0] is not x:
        return None
    width, size = part.output.shape[-1], x.shape[-1]
    on_last = all(n.attrs["axis"] % rank == rank - 1 for n in (part, rest, concat))
    fits = bounds(part, size) == (0, width, 1) and bounds(rest, size) == (width, size, 1)
    return concat if on_last and fits else None


def bounds(node: Node, size: int) -> tuple[int, int, int] | None:
    """(start, stop, step) of a slice of known bounds, counted from the front."""
    start, stop, step = (node.attrs[k] for k in ("start", "stop", "step"))
    if is_symbolic(start) or is_symbolic(stop) or is_symbolic(size):
        return None
    stop = size if stop >= END else stop
    start, stop = (max(b + size, 0) if b < 0 else min(b, size) for b in (start, stop))
    return start, stop, step


def _slices(
    m: Matcher, values: tuple[Value, Value]
) -> tuple[Value, list[tuple[int, int, int]], list[Node]] | None:
    """(x, bounds, nodes) if the values are -x[...] and x[...], slices of one value along its last axis."""
    neg = m.made_by(values[0], "neg")
    if neg is None:
        return None
    nodes = [m.made_by(neg.operands[0], "slice"), m.made_by(values[1], "slice")]
    if nodes[0] is None or nodes[1] is None:
        return None
    first, second = nodes[0], nodes[1]
    x = first.operands[0]
    if second.operands[0] is not x or any(
        n.attrs["axis"] % len(x.shape) != len(x.shape) - 1 for n in (first, second)
    ):
        return None
    found = [bounds(n, x.shape[-1]) for n in (first, second)]
    if found[0] is None or found[1] is None:
        return None
    return x, [found[0], found[1]], [neg, first, second]


def _half(m: Matcher, value: Value) -> Turned | None:
    concat = m.made_by(value, "concat")
    if (
        concat is None
        or len(concat.operands) != 2
        or concat.attrs["axis"] % len(value.shape) != len(value.shape) - 1
    ):
        return None
    found = _slices(m, (concat.operands[0], concat.operands[1]))
    if found is None:
        return None
    x, (upper, lower), nodes = found
    half = lower[1] - lower[0]
    if lower[2] != 1 or half < 1 or upper != (lower[1], lower[1] + half, 1):
        return None
    return x, (lower[0], upper[1]), False, [concat, *nodes]


def _interleaved(m: Matcher, value: Value) -> Turned | None:
    """reshape(concat(reshape(-x[1::2]), reshape(x[0::2]))): a stack along a new last axis, flattened."""
    flat = m.made_by(value, "reshape")
    concat = None if flat is None else m.made_by(flat.operands[0], "concat")
    if flat is None or concat is None or len(concat.operands) != 2:
        return None
    shape = concat.output.shape
    if (
        concat.attrs["axis"] % len(shape) != len(shape) - 1
        or shape[-1] != 2
        or len(shape) != len(value.shape) + 1
    ):
        return None
    columns = list(_columns(m, concat))
    if len(columns) != 2:
        return None
    found = _slices(m, (columns[0].operands[0], columns[1].operands[0]))
    if found is None or not same_shape(found[0].shape, value.shape):
        return None
    x, (odd, even), nodes = found
    size = x.shape[-1]
    if odd != (1, size, 2) or even != (0, size, 2) or size % 2:
        return None
    return x, (0, size), True, [flat, concat, *columns, *nodes]


def _columns(m: Matcher, concat: Node) -> Iterator[Node]:
    for value in concat.operands:
        column = m.made_by(value, "reshape")
        if column is not None and same_shape(column.output.shape, (*column.operands[0].shape, 1)):
            yield column
