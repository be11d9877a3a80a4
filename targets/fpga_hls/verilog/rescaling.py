"""A unit's scaling as the hardware holds it: narrow multipliers and one short shift per channel."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from qcompiler.targets.fpga_hls.stream import Scaling

MULTIPLIER_BITS = 17
"""What the unsigned side of a DSP block's 18-bit port holds."""


@dataclass(frozen=True, eq=False)
class HardwareScaling:
    """`m 2^-(least + extra)` per channel, the same factors as the scaling they come from.

    Attributes:
        multiplier: int64 [channels]; all 1 where `multiplier_bits` is 0.
        multiplier_bits: 0 where no multiplier is needed.
        least: smallest shift, >= 1.
        extra: int64 [channels], >= 0.
        extra_bits: 0 where all shifts are equal.
        left: bits that accumulators are shifted up first, so that `least` is 1 or more.
        half_even: ties to even, else up.
    """

    multiplier: np.ndarray
    multiplier_bits: int
    least: int
    extra: np.ndarray
    extra_bits: int
    left: int
    half_even: bool


@lru_cache(maxsize=1024)
def hardware_scaling(scaling: Scaling) -> HardwareScaling:
    """Multipliers without the zeros at their ends that they do not need, and the shifts that these stood for."""
    half_even = scaling.rounding == "shift_half_even"
    wide = np.abs(scaling.multiplier).astype(np.int64)
    zeros = _log2(wide & -wide)
    length = _log2(wide) + 1
    bits = int((length - zeros).max()) if half_even else max(MULTIPLIER_BITS, int((length - zeros).max()))
    drop = np.maximum(length - bits, 0)
    multiplier = wide >> drop
    shift = scaling.shift - drop
    left = max(0, 1 - int(shift.min()))
    shift = shift + left
    extra = shift - int(shift.min())
    return HardwareScaling(
        multiplier,
        0 if (multiplier == 1).all() else int((_log2(multiplier) + 1).max()),
        int(shift.min()),
        extra,
        int(extra.max()).bit_length(),
        left,
        half_even,
    )


def _log2(values: np.ndarray) -> np.ndarray:
    """Exponent of the highest bit of positive integers, exact beyond 2^53."""
    return np.array([int(v).bit_length() - 1 for v in values.ravel()], np.int64).reshape(values.shape)
