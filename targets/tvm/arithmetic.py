"""Integer arithmetic of the graph in TVM expressions, to the bit what `qcompiler.ir.fixed_point` defines.

Rescaling is defined in 64 bits. Vector units of 32 bits per lane are twice as fast and often have no arithmetic shift
of 64 bits, so a shift of 32 and more takes the high word first: `p >> s == (p >> 32) >> (s - 32)`. Multipliers of
fewer bits, accumulators with room, or the products are moved up until the shift is that large, which changes no result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import tirx

from qcompiler.ir.fixed_point import INT32_MAX, INT32_MIN
from qcompiler.targets.tvm.high_product import high_product

Read = Callable[[np.ndarray], Any]
"""Turns a constant (scalar, or one number per channel) into its element at the current channel."""


def kind_of(x: Any) -> str:
    """Element type of an expression."""
    return str(x.dtype) if hasattr(x, "dtype") else str(x.ty)


def i32(x: Any) -> Any:
    """As int32."""
    return x.astype("int32") if hasattr(x, "astype") else tirx.const(int(x), "int32")


def i64(x: Any) -> Any:
    """As int64."""
    return x.astype("int64") if hasattr(x, "astype") else tirx.const(int(x), "int64")


def whole64(x: Any) -> Any:
    """An int32 as int64 that the code generator takes for a whole.

    Parts of a sum would be widened one by one, and the product be none of two 32-bit numbers, which has an instruction.
    """
    return tirx.reinterpret("int32", tirx.reinterpret("uint32", i32(x))).astype("int64")


def const64(value: int) -> Any:
    """An int64 number."""
    return tirx.const(int(value), "int64")


def clamp(x: Any, low: int, high: int) -> Any:
    """x within [low, high], in its own type."""
    kind = kind_of(x)
    return tirx.max(tirx.min(x, tirx.const(high, kind)), tirx.const(low, kind))


def high_word(m: np.ndarray, s: np.ndarray, bound: int) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """(multipliers, shifts, shifts of the sum to the left) that give the same results with shifts + left >= 32.

    What a shift lacks of 32 is made up by the multiplier where it has room in 31 bits, and then by the sum of product
    and half. The result is the high word of that, shifted right by what is beyond 32. None if accumulators of
    magnitude `bound` leave no room in 64 bits for that, which is to say that results may leave 32.
    """
    m, s, left = _up_to(32, m, s)
    largest = max(((bound * int(a) + (1 << int(b) - 1)) << int(c) for a, b, c in zip(m.flat, s.flat, left.flat, strict=True)), default=0)
    return None if largest >= 1 << 63 else (m, s, left)


def _up_to(least: int, m: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(multipliers, shifts, what the shifts still lack of `least`): multipliers moved up as far as 31 bits hold them."""
    m, s = np.broadcast_arrays(np.asarray(m, np.int64), np.asarray(s, np.int64))
    lacking = np.maximum(least - s, 0)
    by_factor = np.minimum(lacking, 30 - np.floor(np.log2(np.maximum(m, 1))).astype(np.int64))
    return m << by_factor, s + by_factor, lacking - by_factor


def rescale(
    acc: Any, rounding: str, m: np.ndarray, s: np.ndarray | None, read: Read, bound: int, zero: int = 0
) -> tuple[Any, int]:
    """(rescaled accumulators, what of the zero point is still to be added to them).

    Accumulators are int32, results int32 or int64, float32 for `float32_half_even`. `bound` is one on the magnitude of
    the accumulators.
    """
    if rounding == "dyadic":
        assert s is not None
        factor, shift, left = _up_to(33, m, s)
        if not left.any() or bound << int(left.max()) < 1 << 31:
            # half is a multiple of 2^32: it is added to the high word, whose product has an instruction; so is the
            # zero point where that leaves room
            x, shift = (acc << read(left.astype(np.int32)) if left.any() else acc), shift + left
            largest = max(((bound << int(c)) * int(a) >> 32 for a, c in zip(factor.flat, left.flat, strict=True)), default=0) + 1
            added, rest = _half_and_zero(shift, zero), 0
            if largest + int(np.abs(added).max(initial=0)) >= 1 << 31:
                added, rest = _half_and_zero(shift, 0), zero
            high = high_product(x, read(factor.astype(np.int32))) + read(added.astype(np.int32))
            return high >> read((shift - 32).astype(np.int32)), rest
    return _rescale_alone(acc, rounding, m, s, read, bound), zero


def _half_and_zero(s: np.ndarray, zero: int) -> np.ndarray:
    """Half a unit of the result and the zero point, in high words before their shift by s - 32."""
    return (np.int64(1) << (s - 33)) + (np.int64(zero) << (s - 32))


def _rescale_alone(acc: Any, rounding: str, m: np.ndarray, s: np.ndarray | None, read: Read, bound: int) -> Any:
    if rounding == "float32_half_even":
        return tirx.nearbyint(acc.astype("float32") * read(np.asarray(m, np.float32)))
    assert s is not None
    if rounding == "dyadic":
        moved = high_word(m, s, bound)
        if moved is not None:
            m, s, left = moved
            product = whole64(acc) * i64(read(m.astype(np.int32))) + (const64(1) << i64(read((s - 1).astype(np.int32))))
            product = product << i64(read(left.astype(np.int32))) if left.any() else product
            high = (product >> const64(32)).astype("int32")
            return high >> read((s + left - 32).astype(np.int32))
        shift = i64(read(s.astype(np.int32)))
        return (i64(acc) * i64(read(m.astype(np.int32))) + (const64(1) << (shift - const64(1)))) >> shift
    if rounding == "shift_half_even":
        return half_even(acc, s, read, bound)
    return _doubling(acc, m, s, read)


def half_even(acc: Any, s: np.ndarray, read: Read, bound: int = 1 << 62) -> Any:
    """acc / 2^s, ties to even; negative shifts go left.

    (acc + 2^(s-1) - 1 + bit s of acc) >> s: what is above half carries, and a half does where the floor is odd.

    Args:
        acc: int32 or int64.
        s: shifts.
        read: see `Read`.
        bound: on the magnitude of acc, for the choice of 32 bits.
    """
    s = np.asarray(s, np.int64)
    right, left = np.maximum(s, 0), np.maximum(-s, 0)
    less = np.where(right > 0, (np.int64(1) << np.maximum(right - 1, 0)) - 1, 0)
    odd = np.where(right > 0, 1, 0)
    narrow = kind_of(acc) == "int32" and not left.any() and right.max(initial=0) <= 30 and bound + int(less.max()) + 1 < 1 << 31
    kind, widen = ("int32", i32) if narrow else ("int64", i64)
    x = widen(acc)
    shift = widen(read(right.astype(np.int32)))
    bit = x >> shift
    bit = bit & widen(read(odd.astype(np.int32))) if not odd.all() else bit & tirx.const(1, kind)
    rounded = (x + widen(read(less.astype(kind))) + bit) >> shift
    return rounded << widen(read(left.astype(np.int32))) if left.any() else rounded


def _doubling(acc: Any, m: np.ndarray, s: np.ndarray, read: Read) -> Any:
    """gemmlowp's doubling high multiply and rounding division, with as few copies of the operand as possible.

    Truncating (p + nudge) / 2^31, the nudge 2^30 for p >= 0 and 1 - 2^30 else, is the floor of (p + 2^30) / 2^31. The
    division rounds halves away from zero: the floor of (h + 2^(s-1) - [h < 0]) / 2^s, and h itself for s = 0.
    """
    exponent = 31 - np.asarray(s, np.int64)
    left, right = np.maximum(exponent, 0), np.minimum(np.maximum(-exponent, 0), 31)
    wide = i64(acc)
    if left.any():
        wide = clamp(wide << i64(read(left.astype(np.int32))), INT32_MIN, INT32_MAX)
    high = (wide * i64(read(np.asarray(m).astype(np.int32))) + const64(1 << 30)) >> const64(31)
    if not right.any():
        return high
    half = np.where(right > 0, np.int64(1) << np.maximum(right - 1, 0), 0)
    sign = high >> const64(63)
    if not right.all():
        sign = sign & i64(read(-np.minimum(right, 1).astype(np.int32)))
    return (high + i64(read(half.astype(np.int32))) + sign) >> i64(read(right.astype(np.int32)))


def saturate(value: Any, zero: int, low: int, high: int, kind: str) -> Any:
    """Zero point added, clipped to [low, high], as the storage type `kind`.

    The limits are moved instead of the value, so that nothing overflows and real values are clipped before they become
    integers. Integers without a zero point are clipped to the limits of the type first, for which conversions have
    instructions that saturate.
    """
    info = np.iinfo(kind)
    if not zero and kind_of(value) == "int32" and info.bits < 32:
        narrow = clamp(value, int(info.min), int(info.max)).astype(kind)
        narrow = narrow if high == info.max else tirx.min(narrow, tirx.const(high, kind))
        return narrow if low == info.min else tirx.max(narrow, tirx.const(low, kind))
    return clamp_sum(clamp(value, low - zero, high - zero), zero, kind)


def clamp_sum(value: Any, zero: int, kind: str) -> Any:
    """value (clipped) + zero as `kind`."""
    whole = value.astype("int32")
    return (whole + tirx.const(zero, "int32") if zero else whole).astype(kind)


def shift_exp(p: Any, unit: int, bits: int) -> Any:
    """Shift-exp of p <= 0 (`ir.ops.integer.shift_exp`) in the type of p.

    The quotient is that of two numbers that are not negative.
    """
    kind = kind_of(p)

    def c(value: int) -> Any:
        return tirx.const(value, kind)

    p = p + (p >> c(1)) - (p >> c(4))
    p = tirx.max(p, c(-bits * unit))
    q = tirx.truncdiv(c(0) - p, c(unit))
    r = (c(0) - p) - q * c(unit)
    return ((c(2 * unit) - r) << (c(bits) - q)) >> c(1)


def floor_sqrt(v: Any) -> Any:
    """Largest k with k k <= v for an int64 v in [0, 2^62): the float64 root, put right by one step either way."""
    k = tirx.sqrt(v.astype("float64")).astype("int64")
    k = k - tirx.Select(k * k > v, const64(1), const64(0))
    return k + tirx.Select((k + const64(1)) * (k + const64(1)) <= v, const64(1), const64(0))


def quotient(a: Any, b: Any) -> Any:
    """a div b of int64 numbers with a >= 0, b > 0 and a + b < 2^53, by float64, exactly.

    The exact quotient is at most floor + 1 - 1/b; the rounding error is below 2^-53 (floor + 1) <= 2^-53 (a + b) / b,
    hence below 1/b: it never reaches the next integer.
    """
    return (a.astype("float64") / b.astype("float64")).astype("int64")
