"""Attention of a few queries over keys and values that lie as a cache does: one kernel, nothing copied or packed.

For a row of one head, tile by tile of `TILE` keys: products with the query in vectors of the depth, their sums by halves,
exponentials of what the tiles hold, and the weighted sum of the values. A concatenation in front is not made: its parts
are read where they lie, one after the other.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from tvm import te, tirx

from qcompiler.ir import DType, Graph, Node, Value
from qcompiler.ir.dims import is_symbolic, same_shape
from qcompiler.kernels.common.attention import DEPTH, LOWEST, TILE, stage
from qcompiler.targets.tvm.exponential import exponential
from qcompiler.targets.tvm.kernel import KernelBuilder, operand
from qcompiler.targets.tvm.real import f
from qcompiler.targets.tvm.views import ROWS, Layout, Point, View

BLIND = -2.9e38
"""Scores below are of queries that may look at nothing."""


def is_cached_attention(node: Node) -> bool:
    """True for queries whose number is not known, as those of a decoder: mostly one, which no matrix product serves."""
    if node.op != "attention":
        return False
    q, k, v = (operand(node, i) for i in range(3))
    if any(x.dtype is not DType.float32 or x.data is not None for x in (q, k, v)):
        return False
    whole = all(isinstance(x.shape[-1], int) and x.shape[-1] % DEPTH == 0 for x in (q, v))
    return whole and is_symbolic(q.shape[-2]) and same_shape(q.shape[:-3], k.shape[:-3])


def joined_in_place(graph: Graph) -> set[Value]:
    """Concatenations that attention alone reads, part by part."""
    found = set()
    for node in graph.nodes:
        if node.op == "attention":
            for value in (operand(node, 1), operand(node, 2)):
                maker = graph.producer(value)
                if maker is not None and maker.op == "concat" and _axis(maker) == len(value.shape) - 2:
                    if graph.sole_user(value) is node:
                        found.add(value)
    return found


def _axis(node: Node) -> int:
    return int(node.attrs["axis"]) % len(node.output.shape)


def _parts(builder: KernelBuilder, value: Value) -> list[tuple[View, Any]]:
    """(view, length) of the pieces of keys or values."""
    if value not in builder.layouts and value in joined_in_place(builder.graph):
        maker = builder.graph.producer(value)
        assert maker is not None
        pieces = [v for v in maker.inputs if v is not None]
    else:
        pieces = [value]
    builder.free_offsets = True  # layers differ in their places of the cache alone
    found = [(builder.view(piece), builder.symbols(piece.shape[-2])) for piece in pieces]
    builder.free_offsets = False
    return found


def attention(builder: KernelBuilder, node: Node) -> View:
    """The stages of one kernel, a row of the result per query and head."""
    q, k, v, mask = (*node.inputs, None)[:4]
    assert q is not None and k is not None and v is not None
    symbols, depth, width = builder.symbols, int(q.shape[-1]), int(v.shape[-1])
    layout, source = Layout(ROWS, node.output.shape), Layout(ROWS, q.shape)
    rows = layout.physical_shape(symbols)[0]
    repeat = int(q.shape[-3]) // int(k.shape[-3])
    scale = node.attrs["scale"]
    factor = f(1 / math.sqrt(depth) if scale is None else scale)
    queries = builder.view(q)
    held = te.compute(
        (rows, depth), lambda r, c: queries.at(Point(q.shape, source.logical((r, c), symbols), source, (r, c))) * factor, name=stage("held")
    )
    looks = None if mask is None else builder.view(mask)
    scores_shape = (*node.output.shape[:-1], k.shape[-2])

    def head(r: Any) -> tuple[tuple[Any, ...], Any]:
        """(index of the row's head among the keys', place of the query)."""
        *lead, h, m, _ = layout.logical((r, 0), symbols)
        return (*lead, h // repeat if repeat > 1 else h), m

    def allowed(first: Any, score: Any, r: Any, place: Any) -> Any:
        *lead, m, _ = layout.logical((r, 0), symbols)
        t = first + place
        if node.attrs["causal"]:
            score = tirx.Select(t <= m, score, f(LOWEST))
        if looks is None:
            return score
        seen = looks.read(Point(scores_shape, (*lead, m, t)))
        if mask is not None and mask.dtype is DType.bool:
            return tirx.Select(seen.astype("bool"), score, f(LOWEST))
        return tirx.max(score + seen, f(LOWEST))

    keys, values = _parts(builder, k), _parts(builder, v)
    scores, start = [], tirx.const(0, "int64")
    for index, (view, length) in enumerate(keys):
        scores.append(_scores(rows, depth, held, view, length, head, partial(allowed, start), index))
        start = start + length
    tops = [_across(rows, s, te.max, f"top{i}") for i, s in enumerate(scores)]

    def highest(r: Any) -> Any:
        value = tops[0][r]
        for top in tops[1:]:
            value = tirx.max(value, top[r])
        return value

    top = te.compute((rows,), highest, name=stage("top"))
    exps = [_exponentials(s, top, i) for i, s in enumerate(scores)]
    totals = [_across(rows, e, te.sum, f"total{i}") for i, e in enumerate(exps)]
    mixed = [_mixed(rows, width, e, view, length, head, i) for i, (e, (view, length)) in enumerate(zip(exps, values, strict=True))]

    def share(r: Any) -> Any:
        total = totals[0][r]
        for other in totals[1:]:
            total = total + other[r]
        return tirx.Select(top[r] > f(BLIND), f(1) / total, f(0))

    shares = te.compute((rows,), share, name=stage("share"))

    def element(r: Any, c: Any) -> Any:
        value = mixed[0][r, c]
        for other in mixed[1:]:
            value = value + other[r, c]
        return value * shares[r]

    def at(point: Point) -> Any:
        same = point.layout is not None and point.layout.kind == ROWS
        return element(*(point.place if same else layout.physical(point.index, symbols)))

    return View(node.output.shape, at)


def _tiles(length: Any) -> Any:
    return (length + TILE - 1) // TILE


def _scores(rows: Any, depth: int, held: Any, keys: View, length: Any, head: Any, allowed: Any, index: int) -> Any:
    """[rows, tiles, TILE]: scores of a piece's keys, the lowest number behind its end."""

    def products(r: Any, o: Any, i: Any, lane: Any) -> Any:
        t = tirx.min(o * TILE + i, length - 1)
        value: Any = 0
        for first in range(0, depth, DEPTH):  # no reduction, which would be kept in memory
            value = value + held[r, first + lane] * keys(*head(r)[0], t, first + lane)
        return value

    shape = (rows, _tiles(length), TILE)
    wide = te.compute((*shape, DEPTH), products, name=stage(f"sums{index}"))
    sums = te.compute(
        (*shape, 4), lambda r, o, i, p: (wide[r, o, i, p] + wide[r, o, i, p + 8]) + (wide[r, o, i, p + 4] + wide[r, o, i, p + 12]), name=stage(f"sums{index}_by_four")
    )  # fmt: skip

    def score(r: Any, o: Any, i: Any) -> Any:
        value = (sums[r, o, i, 0] + sums[r, o, i, 2]) + (sums[r, o, i, 1] + sums[r, o, i, 3])
        t = o * TILE + i
        return tirx.Select(t < length, allowed(value, r, tirx.min(t, length - 1)), f(LOWEST))

    return te.compute(shape, score, name=stage(f"scores{index}"))


def _exponentials(scores: Any, top: Any, index: int) -> Any:
    return te.compute(scores.shape, lambda r, o, i: exponential(scores[r, o, i] - top[r]), name=stage(f"exps{index}"))


def _across(rows: Any, x: Any, join: Any, name: str) -> Any:
    """[rows]: all of [rows, tiles, TILE] joined, place by place of the tiles first."""
    o, i = te.reduce_axis((0, x.shape[1]), "o"), te.reduce_axis((0, TILE), "i")
    places = te.compute((rows, TILE), lambda r, p: join(x[r, o, p], axis=o), name=stage(f"{name}_places"))
    return te.compute((rows,), lambda r: join(places[r, i], axis=i), name=stage(name))


def _mixed(rows: Any, width: int, exps: Any, values: View, length: Any, head: Any, index: int) -> Any:
    """[rows, width]: sum of a piece's values by their exponentials."""
    o, i = te.reduce_axis((0, _tiles(length)), "o"), te.reduce_axis((0, TILE), "i")

    def total(r: Any, c: Any) -> Any:
        return te.sum(exps[r, o, i] * values(*head(r)[0], tirx.min(o * TILE + i, length - 1), c), axis=[o, i])

    return te.compute((rows, width), total, name=stage(f"mixed{index}"))
