"""Random integers for cases: ordinary ones mostly, and the extremes often."""

from __future__ import annotations

import math

import numpy as np

from qcompiler.ir.fixed_point import quantize_multiplier

Rng = np.random.Generator


def codes(rng: Rng, shape: tuple[int, ...], bits: int = 8) -> np.ndarray:
    """int8 codes of `bits` bits; one array in five takes only its ends."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    kind = rng.integers(10)
    if kind == 0:
        return np.full(shape, rng.choice([low, high]), np.int8)
    if kind == 1:
        return rng.choice([low, high], shape).astype(np.int8)
    return rng.integers(low, high + 1, shape).astype(np.int8)


def wide_codes(rng: Rng, shape: tuple[int, ...], bits: int) -> np.ndarray:
    """Codes of 8 or 16 bits, the ends often."""
    if bits == 8:
        return codes(rng, shape)
    spread = int(rng.choice([40, 2000, 32767]))
    x = rng.integers(-spread - 1, spread, shape, endpoint=True)
    return np.where(rng.random(shape) < 0.05, rng.choice([-32768, 32767], shape), x).astype(np.int16)


def zero_point(rng: Rng) -> int:
    """Of int8 codes; the ends as often as the rest."""
    return int(rng.choice([-128, 127, 0, rng.integers(-128, 128)]))


def limits(rng: Rng, zero: int) -> tuple[int, int]:
    """qmin and qmax: all of int8 mostly, else a relu or any range."""
    kind = rng.integers(4)
    if kind < 2:
        return -128, 127
    if kind == 2:
        return zero, 127
    low, high = sorted(int(v) for v in rng.integers(-128, 128, 2))
    return low, high


def factors(rng: Rng, profile: str, typical: float, channels: int | None) -> tuple[np.ndarray, np.ndarray]:
    """int64 multiplier and shift, [channels] or []; around a typical factor, or anything the profile takes."""
    count = 1 if channels is None else channels
    extreme = rng.random() < 0.25
    pairs = []
    for _ in range(count):
        real = typical * float(np.exp(rng.normal() * 0.5))
        if profile == "shift_half_even":
            shift = int(rng.integers(-31, 63)) if extreme else int(np.clip(round(-math.log2(real)), -31, 62))
            pairs.append((1, shift))
        elif extreme:
            pairs.append((int(rng.integers(1, 1 << int(rng.integers(1, 32)))), int(rng.integers(1, 63))))
        else:
            bits = int(rng.choice([31, 31, 17, 15]))
            pairs.append(quantize_multiplier(real, bits))
    packed = np.array(pairs, np.int64)
    return (packed[0, 0], packed[0, 1]) if channels is None else (packed[:, 0], packed[:, 1])


def bias(rng: Rng, room: np.ndarray) -> np.ndarray:
    """int32 biases [C] of at most `room`; sometimes as large as that."""
    scale = rng.choice([0.0, 1e-5, 1e-3, 1.0])
    return np.rint(rng.uniform(-1, 1, room.shape) * room * scale).astype(np.int32)
