"""Ops that index by data: scatter, and selection by size. Quadratic in the short axis that they select from or write to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import te, tirx

from qcompiler.ir import Node
from qcompiler.targets.tvm.arithmetic import const64
from qcompiler.targets.tvm.kernel import KernelBuilder, operand, storage
from qcompiler.targets.tvm.symbols import product_of
from qcompiler.targets.tvm.views import Point, View, unflatten


def _plain(x: Any) -> Any:
    """A tensor element as an expression."""
    return x.asobject() if hasattr(x, "asobject") else x


def _scatter_nd(builder: KernelBuilder, node: Node) -> View:
    """Each element looks for the places that write to it: the last one wins, or all are added in order."""
    data, indices, updates = (operand(node, i) for i in range(3))
    source, picks, given = (builder.view(v) for v in (data, indices, updates))
    depth = int(indices.shape[-1])  # type: ignore[arg-type]
    shape, lead = builder.symbols.shape(data.shape), builder.symbols.shape(indices.shape[:-1])
    kind, count = storage(data), builder.size(product_of(lead))
    place = te.reduce_axis((0, count), "place")

    def hits(index: tuple[Any, ...], at: tuple[Any, ...]) -> Any:
        conditions = []
        for axis in range(depth):
            picked = _plain(picks(*at, axis)).astype("int64")
            conditions.append(tirx.Select(picked < 0, picked + shape[axis], picked) == index[axis].astype("int64"))
        return tirx.all(*conditions)

    def added(*index: Any) -> Any:
        at = unflatten(place, lead)
        update = _plain(given(*at, *index[depth:]))
        return te.sum(tirx.Select(hits(index, at), update, tirx.const(0, kind)), axis=place)

    def last(*index: Any) -> Any:
        found = tirx.Select(hits(index, unflatten(place, lead)), place.var.astype("int64"), const64(-1))
        return te.max(found, axis=place)

    if node.attrs["accumulate"]:
        sums = te.compute(shape, added, name="reduced")
        return View(node.output.shape, lambda point: _plain(source.read(point)) + sums(*point.index))
    writer = te.compute(shape, last, name="reduced")

    def at(point: Point) -> Any:
        chosen = writer(*point.index)
        update = given(*unflatten(tirx.max(chosen, const64(0)), lead), *point.index[depth:])
        return tirx.Select(chosen >= const64(0), _plain(update), _plain(source.read(point)))

    return View(node.output.shape, at)


def _topk(builder: KernelBuilder, node: Node) -> tuple[View, View]:
    """(values, indices): an element's rank is the number of those before it in the order; rank p is at place p."""
    x, attrs = operand(node, 0), node.attrs
    rank = len(x.shape)
    axis, view = attrs["axis"] % rank, builder.view(x)
    shape = builder.symbols.shape(x.shape)
    i, j = te.reduce_axis((0, shape[axis]), "i"), te.reduce_axis((0, shape[axis]), "j")

    def read(index: tuple[Any, ...], place: Any) -> Any:
        return _plain(view(*index[:axis], place, *index[axis + 1 :]))

    def before(*index: Any) -> Any:
        mine, other = read(index, index[axis]), read(index, i)
        ahead = other > mine if attrs["largest"] else other < mine
        first = tirx.any(ahead, tirx.all(other == mine, i.var < index[axis]))
        return te.sum(tirx.Select(first, tirx.const(1, "int32"), tirx.const(0, "int32")), axis=i)

    ranks = te.compute(shape, before, name="ranks")
    outs = builder.symbols.shape(node.outputs[0].shape)

    def chosen(*index: Any) -> Any:
        mine = ranks(*index[:axis], j, *index[axis + 1 :]) == index[axis]
        return te.sum(tirx.Select(mine, j.var.astype("int64"), const64(0)), axis=j)

    places = te.compute(outs, chosen, name="places")
    values = View(node.outputs[0].shape, lambda point: read(point.index, places(*point.index)))
    return values, View(node.outputs[1].shape, lambda point: places(*point.index))


INDEXING: dict[str, Callable[[KernelBuilder, Node], View | tuple[View, ...]]] = {"scatter_nd": _scatter_nd, "topk": _topk}
