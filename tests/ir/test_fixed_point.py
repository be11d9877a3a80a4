"""Rescaling against published golden integers and against exact rational arithmetic."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.ir.fixed_point import (
    INT32_MAX,
    INT32_MIN,
    PROFILES,
    SHIFTS,
    quantize_multiplier,
    rescale,
    rescale_dyadic,
    rescale_dyadic_double,
    rescale_float32,
    rescale_shift_half_even,
    rounding_divide_by_power_of_two,
    saturating_rounding_doubling_high_mul,
)

ACC = st.integers(INT32_MIN, INT32_MAX) | st.sampled_from([INT32_MIN, INT32_MIN + 1, -1, 0, 1, INT32_MAX])
MULTIPLIER = st.integers(1, INT32_MAX) | st.sampled_from([1, 1 << 30, INT32_MAX])


def i64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def ties_up(x: Fraction) -> int:
    return floor(x + Fraction(1, 2))


def ties_away(x: Fraction) -> int:
    return ties_up(x) if x >= 0 else -ties_up(-x)


def ties_even(x: Fraction) -> int:
    return round(x)  # Fraction rounds half to even


@pytest.mark.parametrize(
    "real, m, shift",
    [(0.0111111, 1527097956, 37), (0.00144027, 1583593612, 40), (0.5, 1 << 30, 31), (1.0, 1 << 30, 30)],
)
def test_golden_multipliers(real, m, shift):
    assert quantize_multiplier(real) == (m, shift)


def test_golden_high_mul_and_power_of_two_division():
    a = i64(1, 3, 5, -1, -3, -5)
    assert saturating_rounding_doubling_high_mul(a, i64(1 << 30)).tolist() == [1, 2, 3, 0, -1, -2]
    assert rounding_divide_by_power_of_two(a, i64(1)).tolist() == [1, 2, 3, -1, -2, -3]
    assert saturating_rounding_doubling_high_mul(i64(INT32_MIN), i64(INT32_MIN)).tolist() == [INT32_MAX]
    assert saturating_rounding_doubling_high_mul(i64(INT32_MIN), i64(INT32_MAX)).tolist() == [-INT32_MAX]
    assert rounding_divide_by_power_of_two(i64(INT32_MIN, INT32_MAX), i64(31)).tolist() == [-1, 1]
    assert rounding_divide_by_power_of_two(a, i64(0)).tolist() == a.tolist()


@pytest.mark.parametrize(
    "acc, real, double, single, even", [(585, 0.0111111, 7, 6, 6), (7984, 0.00144027, 12, 11, 11)]
)
def test_golden_disagreements_of_the_profiles(acc, real, double, single, even):
    m, s = quantize_multiplier(real)
    assert rescale_dyadic_double(i64(acc), i64(m), i64(s)).tolist() == [double]
    assert rescale_dyadic(i64(acc), i64(m), i64(s)).tolist() == [single]
    assert rescale_float32(i64(acc), np.float32(real)).tolist() == [even]


@settings(max_examples=300, deadline=None)
@given(ACC, MULTIPLIER, st.integers(1, 62))
def test_dyadic_is_exact_with_ties_up(acc, m, s):
    assert rescale_dyadic(i64(acc), i64(m), i64(s)).tolist() == [ties_up(Fraction(acc * m, 1 << s))]


@settings(max_examples=300, deadline=None)
@given(ACC, MULTIPLIER, st.integers(0, 62))
def test_dyadic_double_rounds_twice(acc, m, s):
    shifted = max(INT32_MIN, min(INT32_MAX, acc << max(31 - s, 0)))
    high = ties_up(Fraction(shifted * m, 1 << 31))
    expected = ties_away(Fraction(high, 1 << max(s - 31, 0)))
    assert rescale_dyadic_double(i64(acc), i64(m), i64(s)).tolist() == [expected]


@settings(max_examples=300, deadline=None)
@given(ACC, st.integers(-31, 62))
def test_shift_is_exact_with_ties_to_even(acc, s):
    assert rescale_shift_half_even(i64(acc), i64(s)).tolist() == [ties_even(acc / Fraction(2) ** s)]


@settings(max_examples=300, deadline=None)
@given(ACC, st.floats(2.0**-40, 2.0, width=32))
def test_float32_rounds_the_operand_the_product_and_the_result(acc, m):
    product = np.float32(np.float32(acc) * np.float32(m))
    assert rescale_float32(i64(acc), np.float32(m)).tolist() == [ties_even(Fraction(float(product)))]


def test_float32_never_wraps():
    assert rescale_float32(i64(1000), np.float32(3e38))[0] > INT32_MAX
    assert rescale_float32(i64(-1000), np.float32(3e38))[0] < INT32_MIN


@settings(max_examples=300, deadline=None)
@given(st.floats(2.0**-100, 2.0**29, allow_subnormal=False), st.sampled_from([15, 17, 31]))
def test_multiplier_is_nearest_and_normalized(real, bits):
    if real >= 1 << (bits - 2):
        real /= 1 << 20
    m, s = quantize_multiplier(real, bits)
    assert 1 <= s <= 62
    if 1 << (bits - 1) <= m:
        assert abs(Fraction(real) - Fraction(m, 1 << s)) <= Fraction(1, 1 << (s + 1))
        assert m < 1 << bits
    else:  # factors so small that every accumulator rescales to 0
        assert real < 2.0 ** (bits - 62)
        assert rescale_dyadic(i64(INT32_MIN, INT32_MAX), i64(m), i64(s)).tolist() == [0, 0]


@pytest.mark.parametrize("bits", [15, 17, 31])
@pytest.mark.parametrize("exponent", [-33, -40, -64, -100, -149])
def test_factors_too_small_for_any_accumulator_give_zero(bits, exponent):
    m, s = quantize_multiplier(2.0**exponent * 0.999, bits)
    for fn in (rescale_dyadic, rescale_dyadic_double):
        assert fn(i64(INT32_MIN, INT32_MAX), i64(m), i64(s)).tolist() == [0, 0]


def test_mantissa_that_rounds_up_to_a_power_of_two():
    real = float(np.nextafter(1.0, 0))
    assert quantize_multiplier(real) == (1 << 30, 30)


@pytest.mark.parametrize("real", [0.0, -0.5, float("nan"), float("inf"), 2.0**30, 2.0**31])
def test_impossible_factors_are_refused(real):
    with pytest.raises(ValueError, match="rescale factor"):
        quantize_multiplier(real)


@pytest.mark.parametrize("profile", [p for p in PROFILES if p in SHIFTS])
def test_shift_limits_are_enforced(profile):
    low, high = SHIFTS[profile]
    m = i64(1)
    for s in (low, high):
        rescale(i64(INT32_MIN, INT32_MAX), profile, m, i64(s))
    for s in (low - 1, high + 1):
        with pytest.raises(ValueError, match=f"shifts of {profile}"):
            rescale(i64(5), profile, m, i64(s))


def test_unknown_profiles_and_missing_or_wrong_operands_are_refused():
    with pytest.raises(ValueError, match="unknown rounding profile 'up'; known: float32_half_even"):
        rescale(i64(1), "up", i64(1), i64(1))
    with pytest.raises(ValueError, match="needs a shift"):
        rescale(i64(1), "dyadic", i64(1), None)
    with pytest.raises(ValueError, match="takes multiplier 1"):
        rescale(i64(1), "shift_half_even", i64(3), i64(1))
    with pytest.raises(ValueError, match="multipliers lie in"):
        rescale(i64(1), "dyadic", i64(0), i64(1))


def test_multipliers_broadcast_per_channel():
    acc = i64(100, 200, 300, 400).reshape(2, 2)
    assert rescale(acc, "dyadic", i64(1, 3), i64(1, 2)).tolist() == [[50, 150], [150, 300]]
