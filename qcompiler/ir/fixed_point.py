"""Fixed-point rescaling, the one definition of rounding for every target.

A requantize computes `clip(round(acc * m) + zero_point)` for a real factor m. The profiles differ in how m is
held and how the product is rounded:

- `dyadic`: `(acc * m + 2^(s-1)) >> s`, integer m with 0 < m < 2^mult_bits, ties up, 64-bit product.
- `dyadic_double`: gemmlowp's saturating rounding doubling high multiply, then a rounding divide by a power of
  two with ties away from zero (Jacob et al. 2018, section 2.2; what TFLite's reference kernels compute).
- `shift_half_even`: m = 2^-s, round half to even: what ONNX Q/DQ computes for power-of-two scales.
- `float32_half_even`: float32(acc) * float32(m), round half to even: what ONNX Runtime's kernels compute.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

PROFILES = ("float32_half_even", "dyadic", "dyadic_double", "shift_half_even")
INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1

# Smallest and largest shift per integer profile: where 64-bit arithmetic holds for every int32 accumulator.
SHIFTS = {"dyadic": (1, 62), "dyadic_double": (0, 62), "shift_half_even": (-31, 62)}


def quantize_multiplier(real: float, mult_bits: int = 31) -> tuple[int, int]:
    """Integers (m, s) with m / 2^s nearest to a positive real factor, 2^(mult_bits-1) <= m < 2^mult_bits.

    Ties of the mantissa round half up. s >= 1 always; factors of 2^(mult_bits-1) and more are refused.

    Raises:
        ValueError: not finite, not positive, or too large.
    """
    if not (math.isfinite(real) and real > 0):
        raise ValueError(f"a rescale factor must be finite and positive, got {real}")
    mantissa, exponent = math.frexp(real)
    m = math.floor(mantissa * (1 << mult_bits) + 0.5)
    shift = mult_bits - exponent
    if m == 1 << mult_bits:
        m, shift = m >> 1, shift - 1
    if shift < 1:
        raise ValueError(f"rescale factor {real} is too large for {mult_bits} multiplier bits")
    if shift > 62:
        # acc * m < 2^62, so the result is 0 for any larger shift, as it is for 2^-62.
        m, shift = max(1, m >> min(shift - 62, mult_bits - 1)), 62
    return m, shift


def rescale_dyadic(acc: np.ndarray, m: np.ndarray, s: np.ndarray) -> np.ndarray:
    """`(acc * m + 2^(s-1)) >> s` in int64; ties round towards plus infinity. acc int32, 0 < m < 2^31, 1 <= s <= 62."""
    m, s = np.asarray(m, np.int64), np.asarray(s, np.int64)
    return (acc.astype(np.int64) * m + (np.int64(1) << (s - 1))) >> s


def saturating_rounding_doubling_high_mul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Gemmlowp SRDHM: high 32 bits of 2ab, rounded with ties towards plus infinity; (MIN, MIN) saturates."""
    a, b = np.asarray(a, np.int64), np.asarray(b, np.int64)
    product = a * b
    nudge = np.where(product >= 0, np.int64(1) << 30, 1 - (np.int64(1) << 30))
    total = product + nudge
    high = np.where(total >= 0, total >> 31, -((-total) >> 31))
    return np.where((a == INT32_MIN) & (b == INT32_MIN), INT32_MAX, high)


def rounding_divide_by_power_of_two(x: np.ndarray, exponent: np.ndarray) -> np.ndarray:
    """Gemmlowp RDBPOT: x / 2^exponent, ties away from zero; 0 <= exponent <= 31."""
    x, exponent = np.asarray(x, np.int64), np.asarray(exponent, np.int64)
    mask = (np.int64(1) << exponent) - 1
    threshold = (mask >> 1) + (x < 0)
    return (x >> exponent) + ((x & mask) > threshold)


def rescale_dyadic_double(acc: np.ndarray, m: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Double rounding with a Q31 multiplier: factor m / 2^s, 0 < m < 2^31, 0 <= s <= 62.

    s < 31 shifts acc left first (saturating to int32, where gemmlowp is undefined).
    """
    exponent = 31 - np.asarray(s, np.int64)
    left, right = np.maximum(exponent, 0), np.minimum(np.maximum(-exponent, 0), 31)
    shifted = np.clip(acc.astype(np.int64) << left, INT32_MIN, INT32_MAX)
    return rounding_divide_by_power_of_two(saturating_rounding_doubling_high_mul(shifted, m), right)


def rescale_shift_half_even(acc: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Round acc / 2^s, ties to even; a negative s shifts left. -31 <= s <= 62."""
    acc, s = acc.astype(np.int64), np.asarray(s, np.int64)
    right, left = np.maximum(s, 0), np.maximum(-s, 0)
    floor = acc >> right
    twice = (acc - (floor << right)) << 1
    unit = np.int64(1) << right
    up = (twice > unit) | ((twice == unit) & (floor & 1 == 1))
    return np.where(right == 0, acc, floor + up) << left


def rescale_float32(acc: np.ndarray, m: np.ndarray) -> np.ndarray:
    """`rint(float32(acc) * float32(m))` in float32, as int64; ties to even."""
    with np.errstate(over="ignore"):
        product = acc.astype(np.float32) * np.asarray(m, np.float32)
    # Beyond 2^62 (infinity included) int64 would wrap around; every result type saturates long before.
    return np.clip(np.rint(product).astype(np.float64), -(2.0**62), 2.0**62).astype(np.int64)


def fused_multiply_add(x: np.ndarray, m: float, total: np.ndarray) -> np.ndarray:
    """float32(x m + total) with one rounding, m a float32; float64 holds products of codes exactly."""
    return (np.asarray(x, np.float64) * np.float64(np.float32(m)) + total).astype(np.float32)


def sum_constant(multipliers: Sequence[float], zeros: Sequence[int], zero: int) -> np.ndarray:
    """What the zero points add to a sum of codes in `float32_half_even`: zero - sum of m_i z_i, in float32.

    Terms are added from the last to the first with fused multiply-add, as ONNX Runtime's QLinearAdd does it on
    x86-64; its other processors round otherwise.
    """
    total = np.zeros((), np.float32)
    for z, m in zip(zeros[::-1], multipliers[::-1], strict=True):
        total = fused_multiply_add(np.asarray(z), m, total)
    return np.asarray(np.float32(zero) - total)


def check_rescale(rounding: str, multiplier: np.ndarray, shift: np.ndarray) -> None:
    """Check the integers of a profile.

    Raises:
        ValueError: naming the limit.
    """
    low, high = SHIFTS[rounding]
    if shift.size and (shift.min() < low or shift.max() > high):
        raise ValueError(f"shifts of {rounding} lie in [{low}, {high}], got [{shift.min()}, {shift.max()}]")
    if rounding == "shift_half_even" and (multiplier != 1).any():
        raise ValueError("shift_half_even takes multiplier 1")
    if multiplier.size and (multiplier.min() < 1 or multiplier.max() > INT32_MAX):
        raise ValueError(f"multipliers lie in [1, 2^31), got [{multiplier.min()}, {multiplier.max()}]")


def rescale(acc: np.ndarray, rounding: str, multiplier: np.ndarray, shift: np.ndarray | None) -> np.ndarray:
    """Rescaled accumulators (int64, before zero point and clip) in a profile.

    Args:
        acc: int32 accumulators.
        rounding: one of `PROFILES`.
        multiplier: broadcastable against acc; float32 for `float32_half_even`, else int64 (1 for
            `shift_half_even`).
        shift: int64, absent for `float32_half_even`.

    Raises:
        ValueError: unknown profile, or a multiplier or shift outside what the profile takes.
    """
    if rounding == "float32_half_even":
        return rescale_float32(acc, multiplier)
    if rounding not in PROFILES:
        raise ValueError(f"unknown rounding profile {rounding!r}; known: {', '.join(PROFILES)}")
    if shift is None:
        raise ValueError(f"profile {rounding} needs a shift")
    check_rescale(rounding, np.asarray(multiplier), np.asarray(shift))
    if rounding == "dyadic":
        return rescale_dyadic(acc, multiplier, shift)
    if rounding == "dyadic_double":
        return rescale_dyadic_double(acc, multiplier, shift)
    return rescale_shift_half_even(acc, shift)
