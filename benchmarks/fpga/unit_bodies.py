"""What every streaming unit computes, in NumPy, from the definitions in its docstring."""

from __future__ import annotations

import numpy as np

from qcompiler.ir.fixed_point import rescale_dyadic, rescale_shift_half_even
from qcompiler.targets.fpga_hls.stream import Scaling, Unit
from qcompiler.targets.fpga_hls.units import (
    Add,
    Concat,
    Depthwise,
    Fork,
    FramePool,
    Lookup,
    MatrixVector,
    MaxPool,
    Rescale,
    SlidingWindow,
    WidthConverter,
)


def run_unit(unit: Unit, inputs: list[np.ndarray], frames: int) -> list[np.ndarray]:
    """Outputs [frames * vectors, channels] for inputs of such shapes, elements in the order of the stream.

    Words of a unit that works by channel (windows for depthwise filters and pools) are [.., taps, lanes] per group
    of channels; arrays here hold a row per `channels` elements as they arrive.
    """
    return _BODIES[type(unit)](unit, inputs, frames)


def scaled(acc: np.ndarray, scaling: Scaling) -> np.ndarray:
    """Codes of accumulators [..., channels]."""
    if scaling.rounding == "shift_half_even":
        y = rescale_shift_half_even(acc * scaling.multiplier, np.asarray(scaling.shift))
    else:
        y = rescale_dyadic(acc, scaling.multiplier, np.asarray(scaling.shift))
    return np.clip(y + scaling.zero_point, scaling.qmin, scaling.qmax)


def by_group(unit: Depthwise | MaxPool, x: np.ndarray, taps: int, channels: int) -> np.ndarray:
    """A stream by channel as [windows, taps, channels]."""
    lanes = unit.folding.pe
    groups = x.reshape(-1, channels // lanes, taps, lanes)
    return groups.transpose(0, 2, 1, 3).reshape(-1, taps, channels)


def _matrix(unit: MatrixVector, inputs: list[np.ndarray], frames: int) -> list[np.ndarray]:
    return [scaled(inputs[0] @ unit.weights.T + unit.bias, unit.scaling)]


def _depthwise(unit: Depthwise, inputs: list[np.ndarray], frames: int) -> list[np.ndarray]:
    windows = by_group(unit, inputs[0], unit.columns, unit.rows)
    return [scaled((windows * unit.weights.T).sum(1) + unit.bias, unit.scaling)]


def _windows(unit: SlidingWindow, inputs: list[np.ndarray], frames: int) -> list[np.ndarray]:
    x = inputs[0].reshape(frames, unit.height, unit.width, unit.channels)
    rows = np.arange(unit.out_height)[:, None] * unit.strides[0] - unit.pads[0] + np.arange(unit.kernel[0]) * unit.dilations[0]
    cols = np.arange(unit.out_width)[:, None] * unit.strides[1] - unit.pads[1] + np.arange(unit.kernel[1]) * unit.dilations[1]
    inside = ((rows >= 0) & (rows < unit.height))[:, None, :, None] & ((cols >= 0) & (cols < unit.width))[None, :, None, :]
    taken = x[:, rows.clip(0, unit.height - 1)[:, None, :, None], cols.clip(0, unit.width - 1)[None, :, None, :]]
    y = np.where(inside[None, ..., None], taken, unit.fill)  # [frames, rows, columns, taps, taps, channels]
    y = y.reshape(-1, unit.taps, unit.channels)
    if unit.by_channel:
        lanes = unit.folding.pe
        y = y.reshape(-1, unit.taps, unit.channels // lanes, lanes).transpose(0, 2, 1, 3)
    return [y.reshape(-1, unit.channels)]


def _max_pool(unit: MaxPool, inputs: list[np.ndarray], frames: int) -> list[np.ndarray]:
    return [by_group(unit, inputs[0], unit.taps, unit.channels).max(1)]


def _frame_pool(unit: FramePool, inputs: list[np.ndarray], frames: int) -> list[np.ndarray]:
    return [scaled(inputs[0].reshape(frames, unit.vectors, unit.channels).sum(1) + unit.bias, unit.scaling)]


def _sum(unit: Add, inputs: list[np.ndarray], frames: int) -> list[np.ndarray]:
    factors = np.broadcast_to(unit.scaling.multiplier, len(inputs))
    total = sum(m * (x - z) for m, x, z in zip(factors, inputs, unit.zero_points))
    return [_rounded(total, unit.scaling)]


def _rounded(total: np.ndarray, scaling: Scaling) -> np.ndarray:
    """Codes of sums that are multiplied already."""
    half_even = scaling.rounding == "shift_half_even"
    rescale = rescale_shift_half_even(total, np.asarray(scaling.shift)) if half_even else rescale_dyadic(
        total, np.asarray(1), np.asarray(scaling.shift)
    )  # fmt: skip
    return np.clip(rescale + scaling.zero_point, scaling.qmin, scaling.qmax)


def _rescale(unit: Rescale, inputs: list[np.ndarray], frames: int) -> list[np.ndarray]:
    return [_rounded((inputs[0] - unit.zero_point_in) * int(unit.scaling.multiplier.ravel()[0]), unit.scaling)]


def _lookup(unit: Lookup, inputs: list[np.ndarray], frames: int) -> list[np.ndarray]:
    least = -(1 << unit.act_bits - 1) if unit.act_signed else 0
    return [unit.table[inputs[0] - least]]


def _fork(unit: Fork, inputs: list[np.ndarray], frames: int) -> list[np.ndarray]:
    return inputs * unit.copies


def _concat(unit: Concat, inputs: list[np.ndarray], frames: int) -> list[np.ndarray]:
    return [np.concatenate(inputs, axis=1)]


def _same(unit: WidthConverter, inputs: list[np.ndarray], frames: int) -> list[np.ndarray]:
    return inputs


_BODIES = {
    MatrixVector: _matrix,
    Depthwise: _depthwise,
    SlidingWindow: _windows,
    MaxPool: _max_pool,
    FramePool: _frame_pool,
    Add: _sum,
    Rescale: _rescale,
    Lookup: _lookup,
    Fork: _fork,
    Concat: _concat,
    WidthConverter: _same,
}
