"""Units as networks have them, for synthesis: sizes of small networks, 2 to 8 bits, foldings from slow to fast.

`draw_layer` draws the kinds that most networks consist of; `draw_any_layer` every kind with a Verilog twin that has logic of
its own, weights of few signed digits, powers of two as scales, and codes that fill their range.
"""

from __future__ import annotations

import numpy as np

from qcompiler.ir.signed_digits import codes_of_digits
from qcompiler.targets.fpga_hls.stream import Folding, Scaling, Unit
from qcompiler.targets.fpga_hls.units import (
    Add,
    Concat,
    Depthwise,
    FramePool,
    Lookup,
    MatrixVector,
    MaxPool,
    Rescale,
    SlidingWindow,
    WidthConverter,
)

LIMIT = 48
"""Products per clock: larger units take minutes to synthesise."""


def draw_layer(rng: np.random.Generator) -> Unit:
    """A unit; matrices more often than others."""
    kind = rng.choice(["matrix", "depthwise", "window", "add", "lookup", "max_pool", "frame_pool"], p=[0.5, 0.12, 0.16, 0.08, 0.04, 0.05, 0.05])
    channels = int(rng.choice([8, 12, 16, 24, 32, 48, 64, 96, 128]))
    while True:
        unit = _DRAWS[kind](rng, channels)
        lanes = {key: int(rng.choice([v for v in values if v <= 32])) for key, values in unit.choices.items() if key != "storage"}
        storage = {"storage": str(rng.choice(["auto", "auto", "lut", "bram"]))} if kind in ("matrix", "depthwise") else {}
        unit = unit.folded(**lanes, **storage)
        if _cheap(unit):
            return unit


def draw_any_layer(rng: np.random.Generator) -> Unit:
    """A unit of any kind, with any format of weights and scales."""
    while True:
        kind = rng.choice(["matrix", "plain", "sum", "rescale", "lookup", "concat", "width"], p=[0.4, 0.28, 0.08, 0.08, 0.04, 0.06, 0.06])
        if kind == "plain":
            unit = draw_layer(rng)
        else:
            unit = _MORE[kind](rng, int(rng.choice([8, 12, 16, 24, 32, 48, 64])))
            if kind != "width":
                lanes = {key: int(rng.choice([v for v in values if v <= 32])) for key, values in unit.choices.items() if key != "storage"}
                unit = unit.folded(**lanes)
        if _cheap(unit):
            return unit


def _cheap(unit: Unit) -> bool:
    simd = unit.folding.simd if isinstance(unit, MatrixVector) else 1
    if unit.folding.pe * simd > LIMIT:
        return False
    if isinstance(unit, MatrixVector | Depthwise):
        words = unit.weights.size // (unit.folding.pe * simd)
        # constant weights are multiplied by no multiplier, and large tables in LUTs take yosys minutes
        return words > 1 and not (unit.folding.storage == "lut" and unit.weights.size * unit.weight_bits > 40_000)
    return True


def _scaling(rng: np.random.Generator, channels: int) -> Scaling:
    spread = int(rng.choice([0, 0, 1, 3]))
    multiplier = rng.integers(1 << 16, 1 << 17, channels) << rng.integers(0, spread + 1, channels)
    signed = bool(rng.integers(2))
    bits = int(rng.choice([4, 8, 8, 8]))
    low = -(1 << bits - 1) if signed else 0
    return Scaling("dyadic", multiplier, 30, int(rng.integers(0, 4)), low, low + (1 << bits) - 1, bits, signed)


def _weighted(rng: np.random.Generator, rows: int, columns: int) -> dict:
    weight_bits, act_bits = (int(b) for b in rng.choice([2, 4, 8, 8], 2))
    weights = rng.integers(-(1 << weight_bits - 1), 1 << weight_bits - 1, (rows, columns))
    return {
        "weights": weights,
        "bias": rng.integers(-2000, 2000, rows),
        "scaling": _scaling(rng, rows),
        "vectors": 1,
        "weight_bits": weight_bits,
        "act_bits": act_bits,
        "act_signed": bool(rng.integers(2)),
        "acc_bits": int(np.ceil(np.log2(columns))) + weight_bits + act_bits + 1,
    }


def _matrix(rng: np.random.Generator, channels: int) -> Unit:
    columns = int(rng.choice([27, 32, 64, 72, 128, 144, 256, 288, 576]))
    return MatrixVector("unit", "drawn", **_weighted(rng, channels, columns))


def _depthwise(rng: np.random.Generator, channels: int) -> Unit:
    return Depthwise("unit", "drawn", **_weighted(rng, channels, int(rng.choice([9, 25]))))


def _window(rng: np.random.Generator, channels: int) -> Unit:
    size, kernel, stride = int(rng.choice([8, 14, 16, 28, 32])), int(rng.choice([1, 2, 3, 5])), int(rng.choice([1, 2]))
    pad = kernel // 2
    out = (size + 2 * pad - kernel) // stride + 1
    return SlidingWindow(
        "unit", "drawn", size, size, min(channels, 64), out, out, (kernel, kernel), (stride, stride), (1, 1), (pad, pad), 0,
        int(rng.choice([4, 8])), True, bool(rng.integers(2)),
    )  # fmt: skip


def _add(rng: np.random.Generator, channels: int) -> Unit:
    multipliers = rng.integers(1 << 15, 1 << 16, 2)
    scaling = Scaling("dyadic", multipliers, 16, 0, -128, 127, 8, True)
    return Add("unit", "drawn", 4, channels, ((8, True), (8, True)), (3, -5), scaling, 27)


def _lookup(rng: np.random.Generator, channels: int) -> Unit:
    return Lookup("unit", "drawn", 4, channels, rng.integers(-128, 128, 256), 8, True, 8, True)


def _max_pool(rng: np.random.Generator, channels: int) -> Unit:
    return MaxPool("unit", "drawn", 4, channels, int(rng.choice([4, 9])), int(rng.choice([4, 8])), bool(rng.integers(2)))


def _frame_pool(rng: np.random.Generator, channels: int) -> Unit:
    vectors = int(rng.choice([16, 49, 64]))
    scaling = Scaling("dyadic", rng.integers(1 << 16, 1 << 17, 1), 22, 0, -128, 127, 8, True)
    return FramePool("unit", "drawn", vectors, channels, -3 * vectors, scaling, 8, True, 16)


def _any_scaling(rng: np.random.Generator, channels: int, acc_bits: int) -> Scaling:
    """Accumulators of so many bits fill the codes, or nearly."""
    bits, signed = int(rng.choice([2, 4, 8, 8])), bool(rng.integers(2))
    low = -(1 << bits - 1) if signed else 0
    zero, spread = int(rng.integers(low, low + (1 << bits))) if rng.integers(2) else 0, int(rng.choice([0, 1, 3, 6]))
    drop = max(1, acc_bits - bits - int(rng.integers(0, 3)))
    extra = rng.integers(0, spread + 1, channels)
    if rng.random() < 0.35:
        return Scaling("shift_half_even", 1 << extra, drop + spread, zero, low, low + (1 << bits) - 1, bits, signed)
    multiplier = rng.integers(1 << 16, 1 << 17, channels) << extra
    return Scaling("dyadic", multiplier, drop + 16 + spread, zero, low, low + (1 << bits) - 1, bits, signed)


def _any_matrix(rng: np.random.Generator, channels: int) -> Unit:
    """A matrix or depthwise filters; weights like those of trained layers, most of them small."""
    depthwise = rng.random() < 0.25
    columns = int(rng.choice([9, 25] if depthwise else [9, 27, 32, 64, 72, 144, 288]))
    given = _weighted(rng, channels, columns)
    weight_bits, act_bits = int(rng.choice([2, 3, 4, 5, 6, 8, 8])), int(rng.choice([2, 4, 8, 8]))
    limit = (1 << weight_bits - 1) - 1
    weights = np.clip(np.rint(rng.normal(0, limit / 2.5, (channels, columns))), -limit, limit).astype(np.int64)
    digits = int(rng.choice([0, 0, 1, 2, 3])) if weight_bits > 3 else 0
    if digits:
        known = np.array(codes_of_digits(weight_bits, digits))
        weights = known[np.abs(weights[..., None] - known).argmin(-1)]
    acc_bits = int((np.abs(weights).sum(1) * (1 << act_bits) + 2000).max()).bit_length() + 1
    made = {**given, "weights": weights, "weight_bits": weight_bits, "act_bits": act_bits, "acc_bits": acc_bits}
    made["scaling"] = _any_scaling(rng, channels, acc_bits)
    return (Depthwise if depthwise else MatrixVector)("unit", "drawn", **made, digits=digits)


def _any_add(rng: np.random.Generator, channels: int) -> Unit:
    count = int(rng.choice([2, 2, 3]))
    operands = tuple((int(rng.choice([4, 8])), bool(rng.integers(2))) for _ in range(count))
    if rng.integers(2):
        factors, shift, rounding = rng.integers(1 << 14, 1 << 16, count), 16, "dyadic"
    else:
        factors, shift, rounding = 1 << rng.integers(0, 4, count), 3, "shift_half_even"
    scaling = Scaling(rounding, factors, shift, 0, -128, 127, 8, True)
    acc_bits = int((factors * [1 << bits + 1 for bits, _ in operands]).sum() + (1 << shift)).bit_length() + 1
    return Add("unit", "drawn", 4, channels, operands, tuple(int(z) for z in rng.integers(0, 8, count)), scaling, acc_bits)


def _rescale(rng: np.random.Generator, channels: int) -> Unit:
    bits = int(rng.choice([4, 8]))
    return Rescale("unit", "drawn", 4, channels, int(rng.integers(0, 8)), _any_scaling(rng, 1, bits + 1), bits, bool(rng.integers(2)))


def _any_lookup(rng: np.random.Generator, channels: int) -> Unit:
    act, bits = int(rng.choice([4, 8])), int(rng.choice([4, 8]))
    return Lookup("unit", "drawn", 4, channels, rng.integers(0, 1 << bits, 1 << act), act, bool(rng.integers(2)), bits, False)


def _concat(rng: np.random.Generator, channels: int) -> Unit:
    widths = tuple(channels * int(rng.integers(1, 4)) for _ in range(int(rng.integers(2, 4))))
    return Concat("unit", "drawn", 4, widths, int(rng.choice([4, 8])), True)


def _width(rng: np.random.Generator, channels: int) -> Unit:
    small, factor = int(rng.choice([1, 2, 4, 8])), int(rng.choice([2, 3, 4, 8]))
    lanes = Folding(small, small * factor) if rng.integers(2) else Folding(small * factor, small)
    return WidthConverter("unit", "drawn", 4, small * factor * 2, int(rng.choice([4, 8])), True, folding=lanes)


_MORE = {
    "matrix": _any_matrix,
    "sum": _any_add,
    "rescale": _rescale,
    "lookup": _any_lookup,
    "concat": _concat,
    "width": _width,
}

_DRAWS = {
    "matrix": _matrix,
    "depthwise": _depthwise,
    "window": _window,
    "add": _add,
    "lookup": _lookup,
    "max_pool": _max_pool,
    "frame_pool": _frame_pool,
}
