"""Units as networks have them, for synthesis: sizes of small networks, 2 to 8 bits, foldings from slow to fast."""

from __future__ import annotations

import numpy as np

from qcompiler.targets.fpga_hls.stream import Scaling, Unit
from qcompiler.targets.fpga_hls.units import (
    Add,
    Depthwise,
    FramePool,
    Lookup,
    MatrixVector,
    MaxPool,
    SlidingWindow,
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


_DRAWS = {
    "matrix": _matrix,
    "depthwise": _depthwise,
    "window": _window,
    "add": _add,
    "lookup": _lookup,
    "max_pool": _max_pool,
    "frame_pool": _frame_pool,
}
