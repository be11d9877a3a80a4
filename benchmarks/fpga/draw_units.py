"""Random streaming units with random foldings: odd shapes, narrow and wide codes, both rounding profiles, extreme scales."""

from __future__ import annotations

import numpy as np

from qcompiler.ir import DType
from qcompiler.ir.signed_digits import codes_of_digits
from qcompiler.targets.fpga_hls.dataflow import BORDER, Dataflow, Edge, Terminal
from qcompiler.targets.fpga_hls.stream import Folding, Port, Scaling, Unit
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

KINDS = ("matrix", "depthwise", "window", "max_pool", "frame_pool", "add", "rescale", "lookup", "fork", "concat", "width")


def draw_unit(kind: str, rng: np.random.Generator, name: str = "unit") -> Unit:
    """A unit of one of `KINDS`."""
    unit: Unit = _DRAWS[kind](rng, name)
    given = {key: _pick(rng, values) for key, values in unit.choices.items() if key != "storage"}
    if "storage" in unit.choices:
        given["storage"] = _pick(rng, ("auto", "lut", "bram"))
    return unit.folded(**given) if given else unit


def alone(unit: Unit, name: str) -> Dataflow:
    """A network of one unit."""
    ends = lambda count: tuple(Terminal(f"t{i}", DType.int8, (1,), (0,)) for i in range(count))  # noqa: E731
    edges = [Edge(BORDER, i, unit.name, i) for i in range(len(unit.inputs))]
    edges += [Edge(unit.name, i, BORDER, i) for i in range(len(unit.outputs))]
    return Dataflow(name, (unit,), tuple(edges), ends(len(unit.inputs)), ends(len(unit.outputs)))


def draw_codes(rng: np.random.Generator, port: Port, frames: int) -> np.ndarray:
    """Codes [frames * vectors, channels], the extreme ones more often than the others."""
    low = -(1 << port.bits - 1) if port.signed else 0
    high = low + (1 << port.bits) - 1
    codes = rng.integers(low, high + 1, (frames * port.vectors, port.channels))
    edge = rng.random(codes.shape)
    return np.where(edge < 0.1, low, np.where(edge > 0.9, high, codes))


def _pick(rng: np.random.Generator, values: tuple) -> object:
    return values[int(rng.integers(len(values)))]


def _channels(rng: np.random.Generator, most: int = 24) -> int:
    return int(_pick(rng, tuple(c for c in (1, 2, 3, 4, 5, 6, 8, 9, 12, 16, 24) if c <= most)))


def _act(rng: np.random.Generator) -> tuple[int, bool]:
    return int(_pick(rng, (2, 4, 8, 8, 16))), bool(rng.integers(2))


def _scaling(rng: np.random.Generator, channels: int, reach: int, sum_of: int = 0) -> Scaling:
    """Sends accumulators of magnitude up to `reach` to codes, sometimes far beyond them; `sum_of` operands of a sum."""
    bits, signed = int(_pick(rng, (2, 4, 8, 8, 16))), bool(rng.integers(2))
    low = -(1 << bits - 1) if signed else 0
    high = low + (1 << bits) - 1
    zero = int(rng.integers(low, high + 1)) if rng.random() < 0.7 else 0
    qmin, qmax = (max(low, zero), high) if rng.random() < 0.3 else (low, high)
    target = max(1, reach >> bits)  # what one code stands for
    spread = int(rng.integers(0, 5))
    if rng.random() < 0.4:
        shift = max(0, target.bit_length() - 1 + int(rng.integers(-2, 3)))
        powers = rng.integers(0, spread + 1, channels)
        sign = rng.choice([-1, 1], channels) if sum_of else 1
        return Scaling("shift_half_even", sign * (1 << powers), shift + spread, zero, qmin, qmax, bits, signed)
    mantissa = rng.integers(1 << 16, 1 << 17, channels)
    drop = rng.integers(0, spread + 1, channels)
    if sum_of:
        mantissa = mantissa >> drop
        mantissa = mantissa * rng.choice([-1, 1], channels)
    else:
        mantissa = mantissa << drop
    shift = min(62 - spread, max(1, 17 + target.bit_length() + int(rng.integers(-2, 3))))
    return Scaling("dyadic", mantissa, shift, zero, qmin, qmax, bits, signed)


def _reach(weights: np.ndarray, bias: np.ndarray, bits: int) -> int:
    return int((np.abs(weights).sum(1) * (1 << bits) + np.abs(bias)).max())


def _weighted(rng: np.random.Generator, rows: int, columns: int) -> dict:
    bits, signed = _act(rng)
    weight_bits = int(_pick(rng, (2, 3, 4, 8, 8)))
    digits = int(_pick(rng, (0, 0, 1, 2, 3))) if weight_bits > 2 else 0
    weights = rng.integers(-(1 << weight_bits - 1), 1 << weight_bits - 1, (rows, columns))
    if digits:
        weights = rng.choice(codes_of_digits(weight_bits, digits), (rows, columns))
    bias = rng.integers(-1000, 1001, rows)
    reach = _reach(weights, bias, bits)
    return {
        "weights": weights,
        "bias": bias,
        "scaling": _scaling(rng, rows, reach),
        "vectors": int(rng.integers(1, 5)),
        "weight_bits": weight_bits,
        "act_bits": bits,
        "act_signed": signed,
        "acc_bits": reach.bit_length() + 1,
        "digits": digits,
    }


def _matrix(rng: np.random.Generator, name: str) -> Unit:
    return MatrixVector(name, "fuzz", **_weighted(rng, _channels(rng), int(rng.integers(1, 40))))


def _depthwise(rng: np.random.Generator, name: str) -> Unit:
    return Depthwise(name, "fuzz", **_weighted(rng, _channels(rng), int(_pick(rng, (1, 2, 3, 9, 25)))))


def _window(rng: np.random.Generator, name: str) -> Unit:
    height, width = int(rng.integers(1, 9)), int(rng.integers(1, 9))
    while True:
        kernel = int(rng.integers(1, 5)), int(rng.integers(1, 5))
        strides = int(rng.integers(1, 4)), int(rng.integers(1, 4))
        dilations = int(rng.integers(1, 3)), int(rng.integers(1, 3))
        pads = int(rng.integers(0, kernel[0])), int(rng.integers(0, kernel[1]))
        after = int(rng.integers(0, kernel[0])), int(rng.integers(0, kernel[1]))
        sizes = [
            (size + before + behind - dilation * (taps - 1) - 1) // stride + 1
            for size, before, behind, dilation, taps, stride in zip((height, width), pads, after, dilations, kernel, strides)
        ]
        if min(sizes) >= 1:
            break
    bits, signed = _act(rng)
    low = -(1 << bits - 1) if signed else 0
    fill = int(rng.integers(low, low + (1 << bits)))
    return SlidingWindow(
        name, "fuzz", height, width, _channels(rng, 8), *sizes, kernel, strides, dilations, pads, fill, bits, signed,
        bool(rng.integers(2)),
    )  # fmt: skip


def _max_pool(rng: np.random.Generator, name: str) -> Unit:
    return MaxPool(name, "fuzz", int(rng.integers(1, 6)), _channels(rng), int(_pick(rng, (1, 2, 4, 9))), *_act(rng))


def _frame_pool(rng: np.random.Generator, name: str) -> Unit:
    bits, signed = _act(rng)
    vectors, channels = int(rng.integers(1, 20)), _channels(rng)
    bias = -vectors * int(rng.integers(0, 1 << bits - 1))
    reach = vectors << bits + 1
    scaling = _scaling(rng, 1, reach)
    return FramePool(name, "fuzz", vectors, channels, bias, scaling, bits, signed, reach.bit_length() + 1)


def _add(rng: np.random.Generator, name: str) -> Unit:
    count = int(rng.integers(2, 5))
    operands = tuple(_act(rng) for _ in range(count))
    zero_points = tuple(int(rng.integers(0, 1 << bits - 1)) for bits, _ in operands)
    scaling = _scaling(rng, count, max(1 << bits for bits, _ in operands), count)
    reach = int((np.abs(scaling.multiplier) * [1 << bits + 1 for bits, _ in operands]).sum()) + (1 << scaling.shift)
    return Add(name, "fuzz", int(rng.integers(1, 12)), _channels(rng), operands, zero_points, scaling, reach.bit_length() + 1)


def _rescale(rng: np.random.Generator, name: str) -> Unit:
    bits, signed = _act(rng)
    zero = int(rng.integers(0, 1 << bits - 1))
    return Rescale(name, "fuzz", int(rng.integers(1, 12)), _channels(rng), zero, _scaling(rng, 1, 1 << bits), bits, signed)


def _lookup(rng: np.random.Generator, name: str) -> Unit:
    act, act_signed = int(_pick(rng, (2, 4, 8))), bool(rng.integers(2))
    bits, signed = _act(rng)
    low = -(1 << bits - 1) if signed else 0
    table = rng.integers(low, low + (1 << bits), 1 << act)
    return Lookup(name, "fuzz", int(rng.integers(1, 12)), _channels(rng), table, act, act_signed, bits, signed)


def _fork(rng: np.random.Generator, name: str) -> Unit:
    return Fork(name, "fuzz", int(rng.integers(1, 12)), _channels(rng), *_act(rng), int(rng.integers(2, 4)))


def _concat(rng: np.random.Generator, name: str) -> Unit:
    widths = tuple(_channels(rng) for _ in range(int(rng.integers(2, 4))))
    return Concat(name, "fuzz", int(rng.integers(1, 6)), widths, *_act(rng))


def _width(rng: np.random.Generator, name: str) -> Unit:
    small, factor = int(rng.integers(1, 5)), int(rng.integers(2, 5))
    lanes = Folding(pe=small, simd=small * factor) if rng.integers(2) else Folding(pe=small * factor, simd=small)
    channels = small * factor * int(rng.integers(1, 4))
    return WidthConverter(name, "fuzz", int(rng.integers(1, 8)), channels, *_act(rng), folding=lanes)


_DRAWS = {
    "matrix": _matrix,
    "depthwise": _depthwise,
    "window": _window,
    "max_pool": _max_pool,
    "frame_pool": _frame_pool,
    "add": _add,
    "rescale": _rescale,
    "lookup": _lookup,
    "fork": _fork,
    "concat": _concat,
    "width": _width,
}
