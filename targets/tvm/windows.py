"""Windows over channels: depthwise convolutions and pools, channels last, so that a vector is one of channels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tvm import te, tirx

from qcompiler.ir import Node
from qcompiler.kernels.common.reach import Reach
from qcompiler.targets.tvm.arithmetic import i32
from qcompiler.targets.tvm.kernel import KernelBuilder, operand, storage, weight_codes, zero_of
from qcompiler.targets.tvm.pair_sum import PAIRED, as_pairs, pair_sum, side_by_side
from qcompiler.targets.tvm.products import patch_reader
from qcompiler.targets.tvm.views import CHANNELS_LAST, Layout, Point, View

Element = Callable[[Any, Any, Any], Any]


def _axes(sizes: Sequence[int]) -> tuple[Any, ...]:
    return tuple(te.reduce_axis((0, size), f"k{i}") for i, size in enumerate(sizes))


def _stage(builder: KernelBuilder, node: Node, axes: Any, joined: Any, element: Element, name: str) -> View:
    """A stage [N * spatial, C] that joins `element` (row, axes, channel) over the axes."""
    shape = node.output.shape
    layout = Layout(CHANNELS_LAST, shape)
    stage = te.compute(layout.physical_shape(builder.symbols), lambda r, c: joined(element(r, axes, c), axis=axes), name=name)

    def at(point: Point) -> Any:
        same = point.layout is not None and point.layout.kind == CHANNELS_LAST
        return stage(*(point.place if same else layout.physical(point.index, builder.symbols)))

    return View(shape, at)


def depthwise(builder: KernelBuilder, node: Node, pair_lanes: int) -> View:
    """acc[row, channel] = sum over taps of (x - zero) w; channels are the vector.

    Args:
        pair_lanes: pairs of 16-bit numbers that the machine multiplies and adds by one instruction; 0 where it does not.
    """
    bias = node.inputs[2]
    acc, offsets = (_by_pairs if in_pairs(node, pair_lanes) else _by_taps)(builder, node, _taps(node))
    if bias is not None:
        assert bias.data is not None
        offsets = offsets + bias.data
    if not offsets.any():
        return acc
    held = builder.constant(offsets)
    return View(acc.shape, lambda point: acc.at(point) + held(point.index[1]))


def _taps(node: Node) -> np.ndarray:
    """Weights [kernel..., channels] less their zero point."""
    codes, _, zero = weight_codes(operand(node, 1))
    taps = np.ascontiguousarray(np.moveaxis(codes[:, 0], 0, -1))
    return taps if storage(operand(node, 0)) == "float32" else taps.astype(np.int64) - zero


def in_pairs(node: Node, lanes: int) -> bool:
    """8-bit images of known size, kernels of several rows, whole vectors of channels, one input per output.

    Their kernels run over [N, rows, places, channels], which is the memory of the layout.
    """
    x, taps = operand(node, 0), _taps(node)
    channels = taps.shape[-1]
    known = all(isinstance(d, int) for d in (*x.shape[1:], *node.output.shape[1:]))
    several = taps.ndim == 3 and taps.shape[0] > 1 and channels == node.attrs["groups"]
    if not (lanes and known and several and storage(x) in ("int8", "uint8") and channels % lanes == 0):
        return False
    return bool(np.abs(taps).max() < 1 << 15)


def _by_taps(builder: KernelBuilder, node: Node, taps: np.ndarray) -> tuple[View, np.ndarray]:
    """(sums, 0 to add per channel): one product after the other."""
    x, multiple = operand(node, 0), taps.shape[-1] // node.attrs["groups"]
    real = storage(x) == "float32"
    held = builder.constant(taps if real else taps.astype(np.int16))
    patch, zero = patch_reader(builder, node), zero_of(x)

    def element(r: Any, position: tuple[Any, ...], c: Any) -> Any:
        value = patch(r, position, c if multiple == 1 else c // multiple)
        if real:
            return value * held(*position, c)
        return (i32(value) - zero if zero else i32(value)) * i32(held(*position, c))

    acc = _stage(builder, node, _axes(taps.shape[:-1]), te.sum, element, "acc")
    return acc, np.zeros(taps.shape[-1], np.float32 if real else np.int32)


def _by_pairs(builder: KernelBuilder, node: Node, taps: np.ndarray) -> tuple[View, np.ndarray]:
    """(sums of codes, what the zero point takes off per channel) of an image: two rows of the kernel at a time.

    A stage holds two image rows side by side, as 16-bit numbers, the zero point around the image included, for every two
    rows that a window multiplies. Windows of other rows of the result read many of the same pairs. A missing last row
    has weight 0, whatever it is multiplied by.
    """
    x, attrs = operand(node, 0), node.attrs
    height, width, channels = taps.shape
    outs, sizes = node.output.shape[2:], x.shape[2:]
    image, kind, zero = builder.view(x), storage(x), zero_of(x)
    strides, pads, dilations = attrs["strides"], attrs["pads"], attrs["dilations"] or (1, 1)
    rows, n_dim = -(-height // 2), builder.symbols(x.shape[0])
    apart = math.gcd(strides[0], 2 * dilations[0])  # image rows from one pair that windows read to the next
    step, next_pair = strides[0] // apart, 2 * dilations[0] // apart
    down, across = Reach(step, (rows - 1) * next_pair + 1), Reach(strides[1], (width - 1) * dilations[1] + 1)

    def code(n: Any, y: Any, place: Any, c: Any) -> Any:
        at = place - pads[1]
        inside = [y >= 0, y < sizes[0], at >= 0, at < sizes[1]]
        return tirx.if_then_else(tirx.all(*inside), image(n, c, y, at), tirx.const(zero, kind))

    def two_rows(n: Any, pair: Any, place: Any, c: Any) -> Any:
        y = pair * apart - pads[0]
        return side_by_side(code(n, y, place, c), code(n, y + dilations[0], place, c))

    paired = te.compute(
        (n_dim, down.of(outs[0]), across.of(outs[1]), channels), two_rows, name=PAIRED,
        attrs={"down": [down.step, down.span], "across": [across.step, across.span]},
    )  # fmt: skip
    grown = np.pad(taps, ((0, height % 2), (0, 0), (0, 0))).reshape(rows, 2, width, channels)
    held = builder.constant(as_pairs(np.moveaxis(grown, 1, 3)))

    pair, tap = _axes((rows, width))

    def element(n: Any, y: Any, place: Any, c: Any) -> Any:
        window = paired(n, y * step + pair * next_pair, place * strides[1] + tap * dilations[1], c)
        return te.sum(pair_sum(window, held(pair, tap, c)), axis=(pair, tap))

    acc = te.compute((n_dim, *outs, channels), element, name="acc")
    view = View(node.output.shape, lambda point: acc(point.index[0], *point.index[2:], point.index[1]))
    return view, (-zero * taps.sum((0, 1))).astype(np.int32)


def max_pool(builder: KernelBuilder, node: Node) -> View:
    """Largest element of every window."""
    x = operand(node, 0)
    kind = storage(x)
    patch = patch_reader(builder, node, float("-inf") if kind == "float32" else int(np.iinfo(kind).min))
    return _stage(builder, node, _axes(node.attrs["kernel"]), te.max, patch, "peak")


def avg_pool(builder: KernelBuilder, node: Node) -> View:
    """Mean of every window, real."""
    total = _stage(builder, node, _axes(node.attrs["kernel"]), te.sum, patch_reader(builder, node, 0.0), "total")
    attrs, x = node.attrs, operand(node, 0)
    symbols = builder.symbols
    sizes = symbols.shape(x.shape[2:])
    rank = len(sizes)

    def count(point: Point) -> Any:
        whole: Any = tirx.const(1, "int32")
        for i in range(rank):
            start = point.index[2 + i] * attrs["strides"][i] - attrs["pads"][i]
            low, high = (0, sizes[i]) if not attrs["count_include_pad"] else (-attrs["pads"][i], sizes[i] + attrs["pads"][rank + i])
            whole = whole * i32(tirx.min(start + attrs["kernel"][i], high) - tirx.max(start, low))
        return whole.astype("float32")

    return View(node.output.shape, lambda point: total.at(point) / count(point))
