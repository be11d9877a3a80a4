"""Data movement: views where strides can say it, else one copy. Logic and arithmetic of plain integers (masks)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qcompiler.ir import DType, Node
from qcompiler.ir.ops.movement import END
from qcompiler.kernels.gpu import pointwise, real
from qcompiler.kernels.gpu.launch import memory_order
from qcompiler.targets.cuda.lower import Lowering, NoKernel, Rule, first, known_shape


def _reshape(low: Lowering, node: Node) -> None:
    x, shape = low.view(first(node)), known_shape(node.output)
    view = x.reshape(shape)
    if view is None:
        view = low.copy(x, first(node), (node,)).reshape(shape)
    assert view is not None
    low.bind(node.output, view)


def _transpose(low: Lowering, node: Node) -> None:
    low.bind(node.output, low.view(first(node)).transpose(node.attrs["perm"]))


def _expand(low: Lowering, node: Node) -> None:
    low.bind(node.output, low.view(first(node)).expand(known_shape(node.output)))


def _slice(low: Lowering, node: Node) -> None:
    x, attrs = low.view(first(node)), node.attrs
    axis = attrs["axis"] % len(x.shape)
    stop = None if attrs["stop"] == END else int(attrs["stop"])
    start, stop, step = slice(int(attrs["start"]), stop, attrs["step"]).indices(x.shape[axis])
    low.bind(node.output, x.part(axis, start, known_shape(node.output)[axis], step))


def _flip(low: Lowering, node: Node) -> None:
    x = low.view(first(node))
    for axis in {a % len(x.shape) for a in node.attrs["axes"]}:
        x = x.part(axis, x.shape[axis] - 1, x.shape[axis], -1)
    low.bind(node.output, x)


def _concat(low: Lowering, node: Node) -> None:
    views = [low.view(v) for v in node.operands]
    axis = node.attrs["axis"] % len(node.output.shape)
    dense = next((v for v in views if v.dense and v.count), None)
    y = low.new(node.output, None if dense is None else memory_order(dense))
    start = 0
    for view in views:
        size = view.shape[axis]
        low.add(pointwise.copy(view, y.part(axis, start, size)), [node], None, y.part(axis, start, size))
        start += size
    low.bind(node.output, y)
    if y.count:
        low.steps[-1] = replace(low.steps[-1], result=node.output, view=y)  # now all of it is there


def _pad(low: Lowering, node: Node) -> None:
    value = first(node)
    x, quant = low.view(value), node.output.quant
    fill = np.asarray(node.attrs["value"], value.dtype.numpy) if quant is None else quant.quantize(np.asarray(node.attrs["value"], np.float32))
    if value.dtype.is_float:  # real numbers are moved as their bits
        fill = fill.view(f"int{8 * fill.itemsize}")
    y = low.new(node.output, memory_order(x) if x.dense else None)
    rank, pads, mode = len(x.shape), node.attrs["pads"], node.attrs["mode"]
    if mode != "constant":  # what is cropped is not reflected
        for axis, (begin, end) in enumerate(zip(pads[:rank], pads[rank:])):
            x = x.part(axis, max(0, -begin), x.shape[axis] + min(0, begin) + min(0, end))
    begins = pads[:rank] if mode == "constant" else [max(0, p) for p in pads[:rank]]
    low.add(pointwise.pad(x, begins, int(fill), y, mode), [node], node.output, y)


def _triangle(low: Lowering, node: Node) -> None:
    x, y = low.view(first(node)), low.new(node.output)
    if first(node).quant is not None and not first(node).quant.symmetric:
        raise NoKernel("codes with a zero point")
    low.add(pointwise.triangle(x, node.attrs["upper"], node.attrs["diagonal"], y), [node], node.output, y)


def _resize(low: Lowering, node: Node) -> None:
    if node.attrs["mode"] != "nearest":
        raise NoKernel("resampling other than nearest has no integer form")
    x = low.view(first(node))
    y = low.new(node.output, memory_order(x) if x.dense else None)
    low.add(pointwise.resize(x, y), [node], node.output, y)


def _gather(low: Lowering, node: Node) -> None:
    data, indices = node.operands
    table = low.view(data)
    axis = node.attrs["axis"] % len(table.shape)
    y = low.new(node.output)
    low.add(pointwise.gather(table, low.view(indices), axis, y), [node], node.output, y)
    if any(v is indices for v in low.graph.inputs):
        rows = table.shape[axis]
        low.indices[indices.name] = min(rows, low.indices.get(indices.name, rows))
    elif not indices.is_const:
        raise NoKernel("indices are computed; those of inputs and constants can be checked before a kernel runs")


def _where(low: Lowering, node: Node) -> None:
    views = [low.view(v) for v in node.operands]
    if any(v.quant != node.output.quant or v.dtype is not node.output.dtype for v in node.operands[1:]):
        raise NoKernel("both branches of a choice have one quantization")
    y = low.new(node.output)
    low.add(pointwise.where(*views, y), [node], node.output, y)


def _cast(low: Lowering, node: Node) -> None:
    value = first(node)
    if value.quant is not None or node.output.quant is not None:
        raise NoKernel("a cast of codes has no kernel")
    x = low.view(value)
    y = low.like(node.output, x)
    if value.dtype.is_float or node.output.dtype.is_float:
        low.add(real.pointwise("cast", [(x, 0)], y), [node], node.output, y)
        return
    to_truth = node.output.dtype is DType.bool
    low.add(pointwise.plain("not_zero", [x], y) if to_truth else pointwise.copy(x, y), [node], node.output, y)


def plain(low: Lowering, node: Node) -> None:
    """Logic and arithmetic of plain integers."""
    if any(v.quant is not None for v in (*node.operands, node.output)):
        raise NoKernel("it computes on plain integers; codes are rescaled by requantize_sum and integer_mul")
    views = [low.view(v) for v in node.operands]
    y = low.new(node.output)
    limits: tuple[int, ...] = ()
    if node.op in ("clip", "relu"):
        given = (node.attrs["min"], node.attrs["max"]) if node.op == "clip" else (0, None)
        dtype = node.output.dtype
        limits = tuple(d if v is None else int(v) for v, d in zip(given, (dtype.min, dtype.max)))
    low.add(pointwise.plain("clip" if limits else node.op, views, y, limits), [node], node.output, y)


RULES: dict[str, Rule] = {
    **dict.fromkeys((op for op in (*pointwise.PLAIN, "relu") if op != "not_zero"), plain),
    "tri": _triangle,
    "reshape": _reshape,
    "transpose": _transpose,
    "expand": _expand,
    "slice": _slice,
    "flip": _flip,
    "concat": _concat,
    "pad": _pad,
    "resize": _resize,
    "gather": _gather,
    "where": _where,
    "cast": _cast,
}
