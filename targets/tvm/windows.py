"""Windows over channels: depthwise convolutions and pools, channels last, so that a vector is one of channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tvm import te, tirx

from qcompiler.ir import Node
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
    x, w, bias = operand(node, 0), operand(node, 1), node.inputs[2]
    codes, _, w_zero = weight_codes(w)
    taps = np.ascontiguousarray(np.moveaxis(codes[:, 0], 0, -1))  # [kernel..., channels]
    taps = taps if storage(x) == "float32" else taps.astype(np.int64) - w_zero
    acc, offsets = _by_pairs(builder, node, taps) if _in_pairs(node, taps, pair_lanes) else _by_taps(builder, node, taps)
    if bias is not None:
        assert bias.data is not None
        offsets = offsets + bias.data
    if not offsets.any():
        return acc
    held = builder.constant(offsets)
    return View(acc.shape, lambda point: acc.at(point) + held(point.index[1]))


def _in_pairs(node: Node, taps: np.ndarray, lanes: int) -> bool:
    """8-bit images of known size, kernels of several rows, whole vectors of channels, one input per output."""
    x, channels = operand(node, 0), taps.shape[-1]
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

    A stage holds what a row of windows reads, the zero point around the image included: two image rows side by side,
    as 16-bit numbers, for every two rows of the kernel. A missing last row has weight 0.
    """
    x, attrs = operand(node, 0), node.attrs
    height, width, channels = taps.shape
    outs, sizes = node.output.shape[2:], x.shape[2:]
    view, kind, zero = builder.view(x), storage(x), zero_of(x)
    strides, pads, dilations = attrs["strides"], attrs["pads"], attrs["dilations"] or (1, 1)
    rows, n_dim = -(-height // 2), builder.symbols(x.shape[0])
    reached = (outs[1] - 1) * strides[1] + (width - 1) * dilations[1] + 1

    def code(row: Any, tap: Any, place: Any, c: Any) -> Any:
        y, at = row % outs[0] * strides[0] + tap * dilations[0] - pads[0], place - pads[1]
        inside = [tap < height, y >= 0, y < sizes[0], at >= 0, at < sizes[1]]
        return tirx.if_then_else(tirx.all(*inside), view(row // outs[0], c, y, at), tirx.const(zero, kind))

    paired = te.compute(
        (n_dim * outs[0], rows, reached, channels),
        lambda row, pair, place, c: side_by_side(code(row, 2 * pair, place, c), code(row, 2 * pair + 1, place, c)),
        name=PAIRED,
    )
    grown = np.pad(taps, ((0, height % 2), (0, 0), (0, 0))).reshape(rows, 2, width, channels)
    held = builder.constant(as_pairs(np.moveaxis(grown, 1, 3)))

    def element(r: Any, at: tuple[Any, ...], c: Any) -> Any:
        pair, tap = at
        return pair_sum(paired(r // outs[1], pair, r % outs[1] * strides[1] + tap * dilations[1], c), held(pair, tap, c))

    acc = _stage(builder, node, _axes((rows, width)), te.sum, element, "acc")
    return acc, (-zero * taps.sum((0, 1))).astype(np.int32)


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
