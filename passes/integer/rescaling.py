"""Real rescale factors as the integers of a profile.

Sums in a `dyadic_double` program round once, as `dyadic`: that profile is defined for one product.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qcompiler.ir.fixed_point import SHIFTS, quantize_multiplier

NARROW_SUM = 1 << 31
WIDE_SUM = 1 << 62
# Bits that the largest multiplier of a sum keeps at least where the sum is made to fit 32 bits.
LEAST_SUM_BITS = 16


@dataclass(frozen=True)
class Profile:
    """rounding: of requantize. mult_bits: multipliers lie in [1, 2^mult_bits).

    one_shift: dyadic multipliers of a layer share a shift, that of the largest; the others keep fewer bits, and the
    error that makes is below that of the largest in steps of the result.
    """

    rounding: str
    mult_bits: int = 31
    one_shift: bool = False

    @property
    def sum_rounding(self) -> str:
        """Rounding of requantize_sum."""
        return "dyadic" if self.rounding == "dyadic_double" else self.rounding

    @property
    def power_of_two(self) -> bool:
        """True if factors have to be powers of two."""
        return self.rounding == "shift_half_even"

    def factors(self, real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(multiplier, shift), int64 in the shape of the positive factors.

        Raises:
            ValueError: a factor that the profile does not have.
        """
        pairs = [self._factor(float(r)) for r in np.ravel(real)]
        found = np.array(pairs, np.int64).reshape(-1, 2)
        if self.one_shift and not self.power_of_two and len(found):
            shift = int(found[np.argmax(np.ravel(real)), 1])
            multipliers = [max(1, math.floor(float(r) * 2.0**shift + 0.5)) for r in np.ravel(real)]
            found = np.array([(m, shift) for m in multipliers], np.int64)
        return found[:, 0].reshape(np.shape(real)), found[:, 1].reshape(np.shape(real))

    def _factor(self, real: float) -> tuple[int, int]:
        if not self.power_of_two:
            return quantize_multiplier(real, self.mult_bits)
        shift = -exponent_of(real)
        low, high = SHIFTS[self.rounding]
        if not low <= shift <= high:
            raise ValueError(f"factor 2^{-shift} is outside 2^-{high} .. 2^{-low}")
        return 1, shift

    def sum_factors(self, real: Sequence[float], peaks: Sequence[int]) -> tuple[tuple[int, ...], int]:
        """Multipliers with the signs of the factors, and their common shift.

        The sum of multiplier times peak stays below 2^31 where that leaves the multipliers `LEAST_SUM_BITS`, and
        below 2^62 always.

        Args:
            real: a factor per operand, not 0.
            peaks: largest magnitude of each centred operand.

        Raises:
            ValueError: a factor that the profile does not have.
        """
        if self.power_of_two:
            shifts = [-exponent_of(abs(r)) for r in real]
            shift = max(0, *shifts)
            return tuple(int(math.copysign(1 << (shift - s), r)) for r, s in zip(real, shifts, strict=True)), shift
        for bits, bound in [*((b, NARROW_SUM) for b in range(self.mult_bits, LEAST_SUM_BITS - 1, -1)), (self.mult_bits, WIDE_SUM)]:
            shift = bits - math.frexp(max(abs(r) for r in real))[1]
            if not 1 <= shift <= 62:
                raise ValueError(f"rescale factors {tuple(real)} do not fit {bits} multiplier bits")
            found = [int(math.copysign(max(1, math.floor(abs(r) * 2.0**shift + 0.5)), r)) for r in real]
            total = sum(abs(m) * p for m, p in zip(found, peaks, strict=True)) + (1 << (shift - 1))
            if total < bound and max(map(abs, found)) < 1 << 31:
                return tuple(found), shift
        raise ValueError(f"rescale factors {tuple(real)} are too large for a 64-bit sum")


def exponent_of(real: float) -> int:
    """The e of 2^e.

    Raises:
        ValueError: not a power of two.
    """
    mantissa, exponent = math.frexp(real)
    if mantissa != 0.5:
        raise ValueError(f"factor {real!r} is no power of two")
    return exponent - 1
