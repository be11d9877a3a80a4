"""Data movement: what only renames axes costs nothing, the rest is copies."""

from __future__ import annotations

import math

import numpy as np

from qcompiler.ir import DType, Node, Value, constant
from qcompiler.ir.ops.movement import END
from qcompiler.targets.mcu.layouts import Order, channels_last, plain, reshaped, strides, transposed
from qcompiler.targets.mcu.legalize import Legalizer, NoKernel, Rule, known_shape
from qcompiler.targets.mcu.memory_plan import Overlap
from qcompiler.targets.mcu.program import At, Step, Struct, Tensor
from qcompiler.targets.mcu.rule_tools import first, in_any_order, reduced, window_of


def _reshape(low: Legalizer, node: Node) -> None:
    value = first(node)
    x = low.tensor(value)
    after = known_shape(node.output)
    order = None if x.columns is not None else reshaped(x.order, x.shape, after)
    if order is not None:
        low.bind(node.output, low.view(node.output, x, order))
    elif x.columns is None and _only_linears_read(low, node):
        # Rows of a matrix whose columns lie in another order: the weights' columns are reordered instead.
        index = np.arange(math.prod(x.shape)).reshape(x.shape).transpose(x.order).ravel()
        low.bind(node.output, low.view(node.output, x, plain(len(after)), index))
    else:
        moved = low.ordered(value, plain(len(x.shape)), node)
        low.bind(node.output, low.view(node.output, moved, plain(len(after))))


def _only_linears_read(low: Legalizer, node: Node) -> bool:
    users = low.graph.uses(node.output)
    flat = math.prod(known_shape(node.output)) == node.output.shape[-1]
    return flat and bool(users) and not low.graph.is_output(node.output) and all(u.op == "linear" and i == 0 for u, i in users)


def _transpose(low: Legalizer, node: Node) -> None:
    x = low.tensor(first(node))
    low.bind(node.output, low.view(node.output, x, transposed(x.order, node.attrs["perm"])))


def _byte_strides(t: Tensor) -> tuple[int, ...]:
    return tuple(s * t.item for s in strides(t.shape, t.order))


def _concat(low: Legalizer, node: Node) -> None:
    """Each operand is copied to its place: runs that lie together behind the joined axis in one go."""
    rank = len(node.output.shape)
    axis = node.attrs["axis"] % rank
    order = _common_order(low, node)
    xs = [low.ordered(v, order, node) for v in node.operands]
    y = low.new(node.output, order)
    inner = _byte_strides(y)[axis]
    outer = math.prod(y.shape[a] for a in order[: order.index(axis)])
    start = 0
    for x in xs:
        run = x.shape[axis] * inner
        low.copy(node, x, y, outer, run, run, y.shape[axis] * inner, y_first=start)
        start += run
    low.bind(node.output, y)


def _common_order(low: Legalizer, node: Node) -> Order:
    """That of the largest operand which is no constant."""
    candidates = [low.tensors[v] for v in node.operands if not v.is_const]
    if not candidates:
        return plain(len(node.output.shape))
    return max(candidates, key=lambda t: t.count).order


def _slice(low: Legalizer, node: Node) -> None:
    x = low.tensor(first(node))
    rank, attrs = len(x.shape), node.attrs
    axis, step = attrs["axis"] % rank, attrs["step"]
    size = x.shape[axis]
    start = attrs["start"] if attrs["start"] < END else size
    begin = min(max(start + size if start < 0 else start, 0), size)
    y = low.new(node.output, x.order)
    inner = _byte_strides(x)[axis]
    outer = math.prod(x.shape[a] for a in x.order[: x.order.index(axis)])
    kept = y.shape[axis]
    if step == 1:
        low.copy(node, x, y, outer, kept * inner, size * inner, kept * inner, x_first=begin * inner)
    else:
        low.copy(
            node, x, y, kept, inner, step * inner, inner, x_first=begin * inner, repeat=(outer, size * inner, kept * inner)
        )
    low.bind(node.output, y)


def _flip(low: Legalizer, node: Node) -> None:
    """Runs from the last to the first, one axis after the other."""
    x = in_any_order(low, first(node), node)
    for axis in sorted({a % len(x.shape) for a in node.attrs["axes"]}):
        y = low.new(Value(x.dtype, x.shape, x.quant, node.output.name), x.order)
        run, size = _byte_strides(x)[axis], x.shape[axis]
        outer = math.prod(x.shape[a] for a in x.order[: x.order.index(axis)])
        low.copy(node, x, y, size, run, -run, run, x_first=(size - 1) * run, repeat=(outer, size * run, size * run))
        x = y
    low.bind(node.output, low.view(node.output, x, x.order))


def _expand(low: Legalizer, node: Node) -> None:
    """Copies along one axis after the other, outermost in memory last."""
    value = first(node)
    after = known_shape(node.output)
    x = low.ordered(value, plain(len(value.shape)), node)
    shape = [1] * (len(after) - len(x.shape)) + list(x.shape)
    current = Tensor(x.storage, x.dtype, tuple(shape), plain(len(shape)), x.quant)
    for axis in reversed(range(len(after))):
        if shape[axis] == after[axis]:
            continue
        shape[axis] = after[axis]
        y = low.new(Value(x.dtype, tuple(shape), x.quant, node.output.name), plain(len(shape)))
        run = math.prod(after[axis + 1 :]) * x.item
        outer = math.prod(shape[:axis])
        low.copy(node, current, y, after[axis], run, 0, run, repeat=(outer, run, run * after[axis]))
        current = y
    low.bind(node.output, low.view(node.output, current, plain(len(after))))


def _resize(low: Legalizer, node: Node) -> None:
    """Nearest neighbours: along one axis after the other, by a whole factor as copies, else as rows by their numbers."""
    value = first(node)
    if node.attrs["mode"] != "nearest":
        raise NoKernel(f"resizing in mode {node.attrs['mode']} has no kernel; nearest neighbours have one")
    rank = len(value.shape)
    x = low.ordered(value, channels_last(rank), node)
    for axis in range(rank - 1, 1, -1):
        size, wanted = x.shape[axis], int(node.output.shape[axis])
        if size == wanted:
            continue
        shape = tuple(wanted if a == axis else d for a, d in enumerate(x.shape))
        y = low.new(Value(x.dtype, shape, x.quant, node.output.name), x.order)
        run = _byte_strides(x)[axis]
        outer = x.count * x.item // (size * run)
        if wanted % size == 0:
            factor = wanted // size
            low.copy(node, x, y, factor, run, 0, run, repeat=(outer * size, run, run * factor))
        else:
            _choose(low, node, x, y, np.arange(wanted) * size // wanted, run, outer)
        x = y
    low.bind(node.output, low.view(node.output, x, x.order))


def _choose(low: Legalizer, node: Node, x: Tensor, y: Tensor, index: np.ndarray, run: int, outer: int) -> None:
    """Runs of `run` bytes by their numbers, `outer` times."""
    rows, count = x.count * x.item // (run * outer), len(index)
    chosen = low.tensor(constant(index.astype(np.int64), name=f"{node.output.name}_index"))
    arguments = (At(x, rows * run), At(chosen), At(y, count * run), count, rows, run)
    low.steps.append(Step("qc_gather_rows", arguments, (x, chosen), y, (node,), repeat=outer))


def _pad(low: Legalizer, node: Node) -> None:
    value = first(node)
    if min(node.attrs["pads"]) < 0:
        raise NoKernel("padding that crops has no kernel; a slice has one")
    if node.attrs["mode"] == "constant":
        _pad_constant(low, node)
        return
    current, rank = low.tensor(value), len(value.shape)
    if current.columns is not None:
        current = low.ordered(value, plain(rank), node)
    for axis in current.order:
        if node.attrs["pads"][axis] or node.attrs["pads"][rank + axis]:
            current = _pad_repeating(low, node, current, axis)
    low.bind(node.output, low.view(node.output, current, current.order))


def _pad_repeating(low: Legalizer, node: Node, x: Tensor, axis: int) -> Tensor:
    """Copies of what lies at the border of one axis: its outermost element, or its neighbours mirrored."""
    before, after = node.attrs["pads"][axis], node.attrs["pads"][len(x.shape) + axis]
    size = x.shape[axis]
    shape = tuple(size + before + after if a == axis else d for a, d in enumerate(x.shape))
    y = low.new(Value(x.dtype, shape, x.quant, node.output.name), x.order)
    inner = _byte_strides(y)[axis]
    outer = math.prod(x.shape[a] for a in x.order[: x.order.index(axis)])
    run, wide = size * inner, (size + before + after) * inner
    low.copy(node, x, y, outer, run, run, wide, y_first=before * inner)
    mirrored = node.attrs["mode"] == "reflect"
    step = -inner if mirrored else 0
    starts = (before, size - 2) if mirrored else (0, size - 1)
    for count, start, place in ((before, starts[0], 0), (after, starts[1], before + size)):
        if count:
            low.copy(
                node, x, y, count, inner, step, inner, x_first=start * inner, y_first=place * inner, repeat=(outer, run, wide)
            )
    return y


def _pad_constant(low: Legalizer, node: Node) -> None:
    value = first(node)
    pads, rank = node.attrs["pads"], len(value.shape)
    fixed = [a for a in range(rank) if a not in (2, 3) and (pads[a] or pads[rank + a])]
    if rank != 4 or fixed or value.dtype is not DType.int8:
        raise NoKernel("padding with a constant has a kernel for the height and width of images of int8 codes")
    quant = node.output.quant
    fill = np.asarray(node.attrs["value"], np.float32)
    code = int(quant.quantize(fill)) if quant is not None else int(node.attrs["value"])
    x = low.ordered(value, channels_last(4), node)
    y = low.new(node.output, channels_last(4))
    batch, channels, height, width = x.shape
    params = Struct(
        low.fresh("pad"), "qc_pad_s8_params",
        {
            "in_height": height, "in_width": width, "channels": channels, "pad_top": pads[2], "pad_left": pads[3],
            "pad_bottom": pads[6], "pad_right": pads[7], "value": code,
        },
    )  # fmt: skip
    arguments = (At(x, x.count // batch), At(y, y.count // batch), params)
    low.steps.append(Step("qc_pad_s8", arguments, (x,), y, (node,), repeat=batch))
    low.bind(node.output, y)


def _max_pool(low: Legalizer, node: Node) -> None:
    value = first(node)
    name = _largest_of(value)
    x = low.ordered(value, channels_last(len(value.shape)), node)
    y = low.new(node.output, channels_last(len(value.shape)))
    rank = len(value.shape) - 2
    attrs = {"strides": node.attrs["strides"], "pads": node.attrs["pads"], "dilations": node.attrs["dilations"] or (1,) * rank}
    kernel = node.attrs["kernel"]
    params = Struct(low.fresh("max_pool"), "qc_max_pool_params", {"window": vars(window_of(x, kernel, attrs, y.shape))})
    batch = x.shape[0]
    apart = all(s >= k for s, k in zip(node.attrs["strides"], kernel, strict=True)) and not any(node.attrs["pads"])
    overlaps = {0: Overlap(None, same=True)} if apart and batch == 1 else {}
    arguments = (At(x, x.count // batch), At(y, y.count // batch), params)
    low.steps.append(Step(name, arguments, (x,), y, (node,), overlaps=overlaps, repeat=batch))
    low.bind(node.output, y)


def _largest_of(value: Value) -> str:
    """The kernel for the largest codes of windows."""
    if value.dtype not in (DType.int8, DType.int16):
        raise NoKernel(f"the maximum of {value.dtype.name} has no kernel; that of int8 and int16 has")
    return "qc_max_pool_s8" if value.dtype is DType.int8 else "qc_max_pool_s16"


def _reduce_max(low: Legalizer, node: Node) -> None:
    """The largest code of one window as large as the axes are."""
    name = _largest_of(first(node))
    found = reduced(low, node)
    y = low.new(node.output, found.order)
    params = Struct(low.fresh("maximum"), "qc_max_pool_params", {"window": vars(found.window())})
    arguments = (At(found.x, found.count * found.inner), At(y, found.inner), params)
    low.steps.append(Step(name, arguments, (found.x,), y, (node,), repeat=found.outer))
    low.bind(node.output, y)


RULES: dict[str, Rule] = {
    "reduce_max": _reduce_max,
    "reshape": _reshape,
    "transpose": _transpose,
    "concat": _concat,
    "slice": _slice,
    "flip": _flip,
    "expand": _expand,
    "resize": _resize,
    "pad": _pad,
    "max_pool": _max_pool,
}
