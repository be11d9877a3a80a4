"""Data movement as other ways to read the same buffer, and movement that is worth a copy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import tirx

from qcompiler.errors import UnsupportedError
from qcompiler.ir import Node
from qcompiler.ir.dims import same
from qcompiler.ir.ops.movement import _clamp_index
from qcompiler.targets.tvm.kernel import KernelBuilder, operand, storage
from qcompiler.targets.tvm.views import Point, View, reshape_index

MakeView = Callable[[KernelBuilder, Node], View]


def _moved(builder: KernelBuilder, node: Node, place: Callable[[tuple[Any, ...]], tuple[Any, ...]]) -> View:
    """A view that reads its operand at another index."""
    source = builder.view(operand(node, 0))
    return View(node.output.shape, lambda point: source(*place(point.index)))


def _reshape(builder: KernelBuilder, node: Node) -> View:
    old, new = operand(node, 0).shape, node.output.shape
    return _moved(builder, node, lambda index: reshape_index(old, new, index, builder.symbols))


def _transpose(builder: KernelBuilder, node: Node) -> View:
    perm = node.attrs["perm"]
    return _moved(builder, node, lambda index: tuple(index[perm.index(axis)] for axis in range(len(perm))))


def _expand(builder: KernelBuilder, node: Node) -> View:
    source = builder.view(operand(node, 0))
    return View(node.output.shape, lambda point: source.at(Point(point.shape, point.index).of(source.shape)))


def _slice(builder: KernelBuilder, node: Node) -> View:
    x, attrs = operand(node, 0), node.attrs
    axis = attrs["axis"] % len(x.shape)
    start, step = builder.offset(builder.symbols(_clamp_index(attrs["start"], x.shape[axis]))), attrs["step"]

    def place(index: tuple[Any, ...]) -> tuple[Any, ...]:
        at = index[axis] * step if step > 1 else index[axis]
        at = at if isinstance(start, int) and start == 0 else at + start
        return (*index[:axis], at, *index[axis + 1 :])

    return _moved(builder, node, place)


def _flip(builder: KernelBuilder, node: Node) -> View:
    shape = builder.symbols.shape(operand(node, 0).shape)
    axes = {a % len(shape) for a in node.attrs["axes"]}
    return _moved(builder, node, lambda index: tuple(shape[a] - 1 - i if a in axes else i for a, i in enumerate(index)))


VIEWS: dict[str, MakeView] = {
    "reshape": _reshape,
    "transpose": _transpose,
    "expand": _expand,
    "slice": _slice,
    "flip": _flip,
}


def _concat(builder: KernelBuilder, node: Node) -> View:
    axis = node.attrs["axis"] % len(node.output.shape)
    values = [v for v in node.inputs if v is not None]
    views = [builder.view(v) for v in values]
    sizes = [builder.symbols(v.shape[axis]) for v in values]

    def at(point: Point) -> Any:
        index = point.index
        starts: list[Any] = [0]
        for size in sizes[:-1]:
            starts.append(starts[-1] + size)
        result: Any = None
        for view, start, _ in reversed(list(zip(views, starts, sizes, strict=True))):
            part = view(*index[:axis], index[axis] - start, *index[axis + 1 :])
            end = start + _
            result = part if result is None else tirx.if_then_else(index[axis] < end, part, result)
        return result

    return View(node.output.shape, at)


def _pad(builder: KernelBuilder, node: Node) -> View:
    x, attrs = operand(node, 0), node.attrs
    pads, rank = attrs["pads"], len(x.shape)
    shape = builder.symbols.shape(x.shape)
    source = builder.view(x)
    mode = attrs["mode"]
    quant = node.output.quant
    fill = attrs["value"] if quant is None else quant.quantize(np.asarray(attrs["value"], np.float32)).item()
    kind = storage(node.output)

    def at(point: Point) -> Any:
        places, inside = [], []
        for axis in range(rank):
            i = point.index[axis] - pads[axis] if pads[axis] else point.index[axis]
            before, after = pads[axis] > 0, pads[rank + axis] > 0
            # crops on the other side bound what may be read
            low, high = max(0, -pads[axis]) * 0, shape[axis] - 1
            cut_low, cut_high = max(0, -pads[axis]), shape[axis] - 1 + min(0, pads[rank + axis])
            if mode == "constant":
                inside += [i >= low] if before else []
                inside += [i <= high] if after else []
                places.append(i)
            elif mode == "edge":
                places.append(tirx.min(tirx.max(i, cut_low), cut_high) if before or after else i)
            else:
                i = tirx.Select(i < cut_low, 2 * cut_low - i, i) if before else i
                places.append(tirx.Select(i > cut_high, 2 * cut_high - i, i) if after else i)
        value = source(*places)
        return tirx.if_then_else(tirx.all(*inside), value, tirx.const(_as(fill, kind), kind)) if inside else value

    return View(node.output.shape, at)


def _as(number: Any, kind: str) -> Any:
    return bool(number) if kind == "bool" else float(number) if kind.startswith("float") else int(number)


def _gather(builder: KernelBuilder, node: Node) -> View:
    data, indices = operand(node, 0), operand(node, 1)
    axis = node.attrs["axis"] % len(data.shape)
    rows, picks = builder.view(data), builder.view(indices)
    size = builder.symbols(data.shape[axis])
    count = len(indices.shape)

    def at(point: Point) -> Any:
        picked = picks(*point.index[axis : axis + count])
        return rows(*point.index[:axis], _wrapped(picked, size), *point.index[axis + count :])

    return View(node.output.shape, at)


def _wrapped(index: Any, size: Any) -> Any:
    """A negative index counts from the end; what lies outside is refused before the kernel runs, clipped here."""
    wide = index.astype("int64")
    zero = tirx.const(0, "int64")
    at = tirx.Select(wide < zero, wide + size, wide)
    return tirx.max(tirx.min(at, size - tirx.const(1, "int64")), zero)


def _gather_elements(builder: KernelBuilder, node: Node) -> View:
    data, indices = operand(node, 0), operand(node, 1)
    axis = node.attrs["axis"] % len(data.shape)
    source, picks = builder.view(data), builder.view(indices)
    size = builder.symbols(data.shape[axis])

    def at(point: Point) -> Any:
        index = point.index
        return source(*index[:axis], _wrapped(picks(*index), size), *index[axis + 1 :])

    return View(node.output.shape, at)


def _gather_nd(builder: KernelBuilder, node: Node) -> View:
    data, indices = operand(node, 0), operand(node, 1)
    depth = int(indices.shape[-1])  # type: ignore[arg-type]
    source, picks = builder.view(data), builder.view(indices)
    sizes, lead = builder.symbols.shape(data.shape), len(indices.shape) - 1

    def at(point: Point) -> Any:
        index = point.index
        picked = [_wrapped(picks(*index[:lead], axis), sizes[axis]) for axis in range(depth)]
        return source(*picked, *index[lead:])

    return View(node.output.shape, at)


def _tri(builder: KernelBuilder, node: Node) -> View:
    source = builder.view(operand(node, 0))
    diagonal, upper, kind = node.attrs["diagonal"], node.attrs["upper"], storage(node.output)

    def at(point: Point) -> Any:
        row, column = point.index[-2:]
        keep = column - row >= diagonal if upper else column - row <= diagonal
        return tirx.Select(keep, _expr(source.read(point)), tirx.const(_as(0, kind), kind))

    return View(node.output.shape, at)


def _expr(x: Any) -> Any:
    return x.asobject() if hasattr(x, "asobject") else x


def _resize_nearest(builder: KernelBuilder, node: Node) -> View:
    x = operand(node, 0)
    if node.attrs["mode"] != "nearest":
        raise UnsupportedError(f"{node.where()}: resize interpolates only to the nearest element")
    source = builder.view(x)
    sizes = builder.symbols.shape(x.shape[2:])
    outs = builder.symbols.shape(node.output.shape[2:])

    def at(point: Point) -> Any:
        spatial = [
            i if same(a, b) else i * size // out
            for i, size, out, a, b in zip(point.index[2:], sizes, outs, x.shape[2:], node.output.shape[2:], strict=True)
        ]
        return source(*point.index[:2], *spatial)

    return View(node.output.shape, at)


COPIES: dict[str, MakeView] = {
    "concat": _concat,
    "pad": _pad,
    "gather": _gather,
    "gather_elements": _gather_elements,
    "gather_nd": _gather_nd,
    "tri": _tri,
    "resize": _resize_nearest,
}
