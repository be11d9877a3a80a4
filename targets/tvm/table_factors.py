"""A table of an exponential as the rounded products of two short ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PLACES = 64
"""Entries of a factor at most: four vector registers of 512 bits."""
TRIES = 33


@dataclass(frozen=True)
class Factors:
    """table[d] == floor(upper[d >> bits] * lower[d & (2^bits - 1)] + 1/2) for every d, in float32, fused or not.

    Attributes:
        upper: float32.
        lower: float32 [2^bits].
        bits: of a place within `lower`.
    """

    upper: np.ndarray
    lower: np.ndarray
    bits: int


def exponential_factors(table: np.ndarray) -> Factors | None:
    """Factors of a table that is a rounded falling exponential; None for other tables, and for longer ones than 64 * 64.

    Each entry says between which numbers the exponent's step lies. A few steps of what is left are tried, and one is
    taken with which all products are the table's entries.
    """
    wanted = np.asarray(table, np.int64)
    count = len(wanted)
    if not 2 <= count <= PLACES * PLACES or wanted[0] < 1 or wanted.min() < 0 or wanted[0] >= 1 << 20:
        return None
    k = np.arange(1, count)
    with np.errstate(divide="ignore"):
        least = (np.log(wanted[0]) - np.log(wanted[1:] + 0.5)) / k
        most = (np.log(wanted[0]) - np.log(np.maximum(wanted[1:] - 0.5, 0))) / k
    low, high = least.max(), most.min()
    if not low < high:
        return None
    bits = 5 if count <= 32 * PLACES else 6
    places = np.arange(count)
    # from the middle outwards: errors of float32 are least likely to matter there
    for step in sorted(np.linspace(low, high, TRIES), key=lambda s: abs(s - (low + high) / 2)):
        upper = (wanted[0] * np.exp(-step * np.arange(0, count, 1 << bits))).astype(np.float32)
        lower = np.exp(-step * np.arange(1 << bits)).astype(np.float32)
        a, b = upper[places >> bits], lower[places & ((1 << bits) - 1)]
        # a sum in float64 is off by less than one step: what one rounding makes of it lies between its neighbours'
        exact = a.astype(np.float64) * b + 0.5
        fused = (np.nextafter(exact, side).astype(np.float32) for side in (-np.inf, np.inf))
        if all(np.array_equal(np.floor(x), wanted) for x in (*fused, a * b + np.float32(0.5))):
            return Factors(upper, lower, bits)
    return None
