"""Products: convolutions, linear layers, means. Each becomes a unit where its accumulators are rescaled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from qcompiler.ir import Node, Value
from qcompiler.ir.ops.spec import centred
from qcompiler.targets.fpga_hls.legalize import (
    Legalizer,
    NoStream,
    Stream,
    channels_last,
    known_shape,
)
from qcompiler.targets.fpga_hls.stream import Scaling
from qcompiler.targets.fpga_hls.units import Depthwise, FramePool, MatrixVector, SlidingWindow

ProductRule = Callable[[Legalizer, Node, Node, Scaling], None]
"""Takes a product, the requantize that reads it, and how that rescales."""


def first(node: Node) -> Value:
    """Operand 0, which is there."""
    value = node.inputs[0]
    assert value is not None
    return value


def zero_point(value: Value) -> int:
    """Of codes quantized per tensor; 0 for plain integers."""
    return 0 if value.quant is None else int(value.quant.zero_point)


@dataclass(frozen=True)
class Window:
    """Kernel, strides, dilations and pads over (rows, columns); a single spatial axis is the columns."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int]
    image: tuple[int, int]
    result: tuple[int, int]

    @property
    def moves_nothing(self) -> bool:
        """True if every output pixel is the input pixel of its place."""
        return self.kernel == self.strides == (1, 1) and self.image == self.result

    @property
    def whole(self) -> bool:
        """True if there is one output pixel, of all input pixels."""
        return self.kernel == self.image and self.result == (1, 1) and self.pads == (0, 0) and self.dilations == (1, 1)


def window_of(x: Value, y: Value, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], pads: Sequence[int]) -> Window:
    """The window of an op from [N, C, spatial...] to [N, C', spatial'...]."""
    rank = len(x.shape) - 2
    if rank not in (1, 2):
        raise NoStream(f"windows over {rank} axes have no unit")

    def pair(values: Sequence[int], neutral: int) -> tuple[int, int]:
        numbers = tuple(int(v) for v in values)
        return (neutral, numbers[0]) if rank == 1 else (numbers[0], numbers[1])

    return Window(
        pair(kernel, 1), pair(strides, 1), pair(dilations, 1), pair(pads[:rank], 0), pair(known_shape(x)[2:], 1),
        pair(known_shape(y)[2:], 1),
    )  # fmt: skip


def image_stream(low: Legalizer, value: Value) -> Stream:
    """The stream of [N, C, spatial...], pixel after pixel."""
    stream, shape = low.stream(value), known_shape(value)
    pixels = np.arange(np.prod(shape)).reshape(shape).transpose(channels_last(len(shape))).ravel()
    if not np.array_equal(stream.positions, pixels):
        raise NoStream("its operand does not arrive pixel after pixel")
    return stream


def add_window(low: Legalizer, node: Node, x: Value, window: Window, fill: int, by_channel: bool) -> Stream:
    """A sliding window over an operand."""
    unit = SlidingWindow(
        low.name(node, "window"), node.origin.module, *window.image, int(x.shape[1]), *window.result, window.kernel, window.strides,
        window.dilations, window.pads, fill, x.dtype.bits, x.dtype.is_signed, by_channel,
    )  # fmt: skip
    return low.add(unit, [image_stream(low, x)])


def image_positions(value: Value) -> np.ndarray:
    """Positions of [N, C, spatial...] pixel after pixel."""
    shape = known_shape(value)
    return np.arange(int(np.prod(shape))).reshape(shape).transpose(channels_last(len(shape))).ravel()


def _layer(low: Legalizer, product: Node, weights: np.ndarray, x: Value, scaling: Scaling) -> dict[str, object]:
    """What every layer with weights has; `weights` [rows, columns], less their zero point."""
    bias = product.inputs[2].data.astype(np.int64) if len(product.inputs) > 2 and product.inputs[2] is not None else 0  # type: ignore[union-attr]
    w = product.inputs[1]
    assert w is not None
    bits = low.acc_bits(product.output)
    folded = bias - zero_point(x) * weights.sum(1)
    rows = len(weights)
    return {
        "weights": weights,
        "bias": wrapped(np.broadcast_to(folded, (rows,)), bits),
        "scaling": scaling,
        "weight_bits": weight_bits(weights, w),
        "act_bits": x.dtype.bits,
        "act_signed": x.dtype.is_signed,
        "acc_bits": bits,
        "digits": 0 if w.quant is None else w.quant.digits or 0,
    }


def weight_bits(weights: np.ndarray, value: Value) -> int:
    """Of the codes' type; fewer where the layer uses fewer, unless they are spelled digit by digit."""
    if value.quant is not None and value.quant.digits is not None:
        return value.dtype.bits
    peak = max((int(weights.max(initial=0))).bit_length(), (-1 - int(weights.min(initial=0))).bit_length()) + 1
    return min(peak, value.dtype.bits) if zero_point_free(value) else peak


def zero_point_free(value: Value) -> bool:
    """True if codes are multiplied as they are."""
    return value.quant is None or value.quant.symmetric


def wrapped(values: np.ndarray, bits: int) -> np.ndarray:
    """Modulo 2^bits, as two's complement."""
    half = 1 << (bits - 1)
    return ((values.astype(np.int64) + half) & ((1 << bits) - 1)) - half


def _weights(node: Node) -> np.ndarray:
    """Constant weights less their zero points, int64."""
    w = node.inputs[1]
    assert w is not None
    if w.data is None:
        raise NoStream("both its operands are computed")
    return centred(w.data, w.quant).astype(np.int64)


def _conv(low: Legalizer, node: Node, rescale: Node, scaling: Scaling) -> None:
    x, w, a = first(node), _weights(node), node.attrs
    window = window_of(x, node.output, w.shape[2:], a["strides"], a["dilations"], a["pads"])
    channels, out = int(x.shape[1]), w.shape[0]
    pixels = window.result[0] * window.result[1]
    nodes = (node, rescale)
    depthwise = a["groups"] == channels == out and channels > 1
    if a["groups"] != 1 and not depthwise:
        raise NoStream(f"{a['groups']} groups of {channels} to {out} channels have no unit; one group and one per channel have")
    if depthwise and window.whole and (w == 1).all() and node.inputs[2] is None:
        _frame_sum(low, nodes, image_stream(low, x), pixels=window.image[0] * window.image[1], channels=channels, scaling=scaling)
        return
    if depthwise:
        flat = w.reshape(channels, -1)
        reads = add_window(low, node, x, window, zero_point(x), True)
        unit = Depthwise(low.name(node), node.origin.module, vectors=pixels, **_layer(low, node, flat, x, scaling))  # type: ignore[arg-type]
    else:
        order = (0, *range(2, w.ndim), 1)
        flat = w.transpose(order).reshape(out, -1)
        reads = image_stream(low, x) if window.moves_nothing else add_window(low, node, x, window, zero_point(x), False)
        unit = MatrixVector(low.name(node), node.origin.module, vectors=pixels, **_layer(low, node, flat, x, scaling))  # type: ignore[arg-type]
    low.add(unit, [reads], nodes, image_positions(rescale.output))


def _linear(low: Legalizer, node: Node, rescale: Node, scaling: Scaling) -> None:
    """Rows of K; the elements of a row may arrive in any order that is the same for all rows."""
    x, w = first(node), _weights(node)
    known_shape(x)
    stream, inner = low.stream(x), w.shape[1]
    rows = stream.positions.reshape(-1, inner)
    places, columns = rows // inner, rows % inner
    if (places != places[:, :1]).any() or (columns != columns[0]).any():
        raise NoStream("its operand does not arrive row after row")
    layer = _layer(low, node, w[:, columns[0]], x, scaling)
    unit = MatrixVector(low.name(node), node.origin.module, vectors=len(rows), **layer)  # type: ignore[arg-type]
    positions = (places[:, :1] * len(w) + np.arange(len(w))).ravel()
    low.add(unit, [stream], (node, rescale), positions)


def _mean(low: Legalizer, node: Node, rescale: Node, scaling: Scaling) -> None:
    """A sum over all vectors of a frame."""
    x = first(node)
    shape, stream = known_shape(x), low.stream(x)
    rank = len(shape)
    axes = {a % rank for a in node.attrs["axes"]} or set(range(rank))
    kept = [1 if a in axes else d for a, d in enumerate(shape)]
    target = np.broadcast_to(np.arange(int(np.prod(kept))).reshape(kept), shape).ravel()
    results = target[stream.positions]
    count = int(np.prod(kept))
    table = results.reshape(-1, count)
    if (table != table[0]).any() or len(set(table[0].tolist())) != count:
        raise NoStream(f"it sums axes {sorted(axes)} of {list(shape)}; a unit sums all vectors of a frame, channel by channel")
    _frame_sum(low, (node, rescale), stream, pixels=len(table), channels=count, scaling=scaling, positions=table[0])


def _frame_sum(
    low: Legalizer, nodes: tuple[Node, Node], stream: Stream, pixels: int, channels: int, scaling: Scaling,
    positions: np.ndarray | None = None,
) -> None:  # fmt: skip
    node = nodes[0]
    x, bits = first(node), low.acc_bits(node.output)
    bias = int(wrapped(np.asarray(-pixels * zero_point(x)), bits))
    unit = FramePool(
        low.name(node), node.origin.module, pixels, channels, bias, scaling, x.dtype.bits, x.dtype.is_signed, bits
    )
    low.add(unit, [stream], nodes, np.arange(channels) if positions is None else positions)


PRODUCTS: dict[str, ProductRule] = {"conv": _conv, "linear": _linear, "reduce_mean": _mean, "reduce_sum": _mean}
