"""Sums, rescales, tables, pools and movement."""

from __future__ import annotations

import numpy as np

from qcompiler.ir import Node
from qcompiler.targets.fpga_hls.legalize import (
    Legalizer,
    NoStream,
    Rule,
    Stream,
    channels_last,
    known_shape,
    limits,
    scaling_of,
)
from qcompiler.targets.fpga_hls.rules_products import (
    add_window,
    first,
    image_positions,
    image_stream,
    window_of,
    zero_point,
)
from qcompiler.targets.fpga_hls.rules_rows import constant_stream
from qcompiler.targets.fpga_hls.stream import Scaling
from qcompiler.targets.fpga_hls.units import Add, Concat, Lookup, MaxPool, Rescale


def rescale(low: Legalizer, node: Node) -> None:
    """Codes in other parameters."""
    x, scaling = first(node), scaling_of(node)
    if scaling.multiplier.size != 1:
        raise NoStream("it has a factor per channel without a product before it")
    stream = low.stream(x)
    unit = Rescale(
        low.name(node, "rescale"), node.origin.module, stream.vectors, stream.channels, zero_point(x), scaling, x.dtype.bits,
        x.dtype.is_signed,
    )  # fmt: skip
    low.add(unit, [stream], (node,), stream.positions)


def _sum(low: Legalizer, node: Node) -> None:
    """A residual sum of two streams of one order."""
    if len(node.operands) != 2:
        raise NoStream(f"a sum of {len(node.operands)} operands has no unit; two have")
    rounding = str(node.attrs["rounding"])
    if rounding not in ("dyadic", "shift_half_even"):
        raise NoStream(f"it rounds by {rounding}; units round by dyadic or shift_half_even")
    streams = _operands(low, node)
    if not any(v.is_const for v in node.operands) and known_shape(node.operands[0]) != known_shape(node.operands[1]):
        raise NoStream(f"{list(node.operands[0].shape)} and {list(node.operands[1].shape)} are broadcast")
    if not np.array_equal(streams[0].positions, streams[1].positions):
        raise NoStream("its operands arrive in different orders")
    scaling = Scaling(rounding, np.asarray(node.attrs["multipliers"], np.int64), int(node.attrs["shift"]), **limits(node))  # type: ignore[arg-type]
    (step,) = [s for s in low.bounds.steps if s.node is node and s.what == "weighted sum"]
    flow = max(streams, key=lambda s: -s.channels)
    unit = Add(
        low.name(node, "add"), node.origin.module, flow.vectors, flow.channels,
        tuple((v.dtype.bits, v.dtype.is_signed) for v in node.operands), tuple(zero_point(v) for v in node.operands), scaling,
        step.needed,
    )  # fmt: skip
    low.add(unit, streams, (node,), streams[0].positions)


def _operands(low: Legalizer, node: Node) -> list[Stream]:
    """Both streams; a constant flows in the order of the other."""
    flowing = next(low.stream(v) for v in node.operands if not v.is_const)
    shape = known_shape(node.output)
    return [constant_stream(low, node, v, flowing, shape) if v.is_const else low.stream(v) for v in node.operands]


def _lookup(low: Legalizer, node: Node) -> None:
    x, table = node.operands
    if table.data is None:
        raise NoStream("its table is computed")
    stream, quant = low.stream(x), node.attrs["quant"]
    unit = Lookup(
        low.name(node, "lookup"), node.origin.module, stream.vectors, stream.channels, table.data.astype(np.int64), x.dtype.bits,
        x.dtype.is_signed, quant.dtype.bits, quant.dtype.is_signed,
    )  # fmt: skip
    low.add(unit, [stream], (node,), stream.positions)


def _max_pool(low: Legalizer, node: Node) -> None:
    x, a = first(node), node.attrs
    rank = len(x.shape) - 2
    window = window_of(x, node.output, a["kernel"], a["strides"], a.get("dilations") or (1,) * rank, a["pads"])
    reads = add_window(low, node, x, window, x.dtype.min, True)
    unit = MaxPool(
        low.name(node, "max_pool"), node.origin.module, window.result[0] * window.result[1], int(x.shape[1]),
        window.kernel[0] * window.kernel[1], x.dtype.bits, x.dtype.is_signed,
    )  # fmt: skip
    low.add(unit, [reads], (node,), image_positions(node.output))


def _concat(low: Legalizer, node: Node) -> None:
    """Channels of images, or of rows, side by side."""
    values = node.operands
    rank = len(values[0].shape)
    axis = node.attrs["axis"] % rank
    streams = [low.stream(v) for v in values]
    positions = np.arange(int(np.prod(known_shape(node.output)))).reshape(known_shape(node.output))
    spatial = axis == 1 and rank > 2
    if spatial:
        streams = [image_stream(low, v) for v in values]
        positions = positions.transpose(channels_last(rank))
    elif axis != rank - 1 or any((s.positions != np.arange(s.positions.size)).any() for s in streams):
        raise NoStream(f"it joins axis {axis} of streams whose innermost axis is another one")
    widths = [int(v.shape[axis]) for v in values]
    stream, width = streams[0], widths[0]
    for index in range(1, len(streams)):
        vectors = streams[index].positions.size // widths[index]
        unit = Concat(
            low.name(node, "concat"), node.origin.module, vectors, (width, widths[index]), values[0].dtype.bits,
            values[0].dtype.is_signed,
        )  # fmt: skip
        last = index == len(streams) - 1
        stream = low.add(unit, [stream, streams[index]], (node,) if last else (), positions.ravel() if last else None)
        width += widths[index]


def _reshape(low: Legalizer, node: Node) -> None:
    """Row-major indices stay."""
    known_shape(node.output)
    low.rename(node, low.stream(first(node)).positions)


def _transpose(low: Legalizer, node: Node) -> None:
    shape = known_shape(first(node))
    known_shape(node.output)
    moved = np.arange(int(np.prod(shape))).reshape(shape).transpose(node.attrs["perm"]).ravel()
    low.rename(node, np.argsort(moved)[low.stream(first(node)).positions])


RULES: dict[str, Rule] = {
    "requantize_sum": _sum,
    "lookup": _lookup,
    "max_pool": _max_pool,
    "concat": _concat,
    "reshape": _reshape,
    "transpose": _transpose,
}
