"""Dyadic rescaling as one float32 product, found by trying every sum.

A mean of N codes has no power of two for its multiplier. Where the sum is small, one float32 number near the
multiplier may round every possible sum as the integers do, ties included; whether it does is checked for each of them.
"""

from __future__ import annotations

import numpy as np

from qcompiler.ir import QuantParams
from qcompiler.ir.fixed_point import rescale

MAX_SUMS = 1 << 22
"""Sums that are tried at most."""
STEPS = (0, *(sign * (1 << k) for k in range(12) for sign in (1, -1)))
"""Numbers that are tried, in steps of the last place from the multiplier."""


def range_of_sums(codes: np.ndarray, x: QuantParams, bias: np.ndarray | None) -> tuple[int, int]:
    """Smallest and largest sum of products of x's codes with weights [O, ...], x per tensor."""
    zero = int(x.zero_point)
    low, high = x.dtype.min - zero, x.dtype.max - zero
    rows = codes.reshape(codes.shape[0], -1).astype(np.int64)
    above, below = np.maximum(rows, 0).sum(1), np.minimum(rows, 0).sum(1)
    added = np.zeros((), np.int64) if bias is None else bias.astype(np.int64)
    return int((above * low + below * high + added).min()), int((above * high + below * low + added).max())


def real_multiplier(
    limits: tuple[int, int], step: float, out: QuantParams, multiplier: int, shift: int, rounding: str
) -> np.float32 | None:
    """c such that quantizing float32(sum * step) * c gives the codes of the integer rescaling, for every sum.

    Args:
        limits: smallest and largest sum, below 2^24.
        step: a power of two, the real number of one.
        out: parameters of the codes, per tensor; its scale is a power of two.
        multiplier: of the rescaling, with its shift and rounding.

    Returns:
        None where no number near the multiplier does it, or there are too many sums to try.
    """
    low, high = limits
    if high - low >= MAX_SUMS or max(-low, high) >= 1 << 24:
        return None
    sums = np.arange(low, high + 1)
    zero = int(out.zero_point)
    wanted = rescale(sums, rounding, np.asarray(multiplier, np.int64), np.asarray(shift, np.int64)) + zero
    wanted = np.clip(wanted, out.dtype.min, out.dtype.max)
    reals = (sums * step).astype(np.float32)
    nearest = np.float32(multiplier * 2.0**-shift * float(out.scale) / step)
    for places in STEPS:
        c = np.float32(nearest + places * np.spacing(nearest))
        scaled = reals * c / np.float32(out.scale)
        # readers of QONNX add the zero point before they round, this compiler after it
        for codes in (np.rint(scaled + np.float32(zero)), np.rint(scaled) + zero):
            if not np.array_equal(np.clip(codes, out.dtype.min, out.dtype.max), wanted):
                break
        else:
            return c
    return None
