"""Pair-safe weights never saturate, whatever the rounding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.targets.saturation import (
    is_pair_safe,
    neighbours,
    pair_peak,
    pair_safe_scale,
    reduction_rows,
    worthwhile_sums,
)
from support.sums import sums_fit


def worst_pair(codes: np.ndarray) -> int:
    """Largest |255 * (sum of same-sign neighbours)|, by brute force over u in {0, 255}."""
    rows = reduction_rows(codes).astype(int)
    rows = np.pad(rows, [(0, 0), (0, rows.shape[1] % 2)]).reshape(len(rows), -1, 2)
    sums = [(rows * u).sum(-1) for u in (np.array(p) for p in ((255, 0), (0, 255), (255, 255)))]
    low, high = min(s.min() for s in sums), max(s.max() for s in sums)
    return max(high - 32767, -32768 - low)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(4, 7), (3, 8), (2, 3, 3, 3), (2, 4, 1, 1)]), st.floats(0.1, 6))
def test_any_rounding_of_a_pair_safe_weight_is_exact(seed: int, shape: tuple[int, ...], power: float) -> None:
    rng = np.random.default_rng(seed)
    weight = np.sign(rng.normal(size=shape)) * rng.random(shape) ** power
    scale = pair_safe_scale(weight).reshape(-1, *[1] * (len(shape) - 1))
    real = weight / scale
    codes = np.floor(real) + rng.integers(0, 2, shape)  # up or down at random
    codes = np.clip(np.where(real == np.floor(real), real, codes), -127, 127).astype(np.int8)
    assert worst_pair(codes) <= 0 and is_pair_safe(codes)


def test_the_bound_is_tight() -> None:
    safe, unsafe = np.array([[64, 64, -64, -64]], np.int8), np.array([[65, 64]], np.int8)
    assert is_pair_safe(safe) and worst_pair(safe) <= 0
    assert not is_pair_safe(unsafe) and worst_pair(unsafe) > 0
    assert is_pair_safe(np.array([[127, -127, 100, -100]], np.int8))


def test_pairs_follow_channels_then_taps() -> None:
    weight = np.zeros((1, 2, 1, 2))
    weight[0, :, 0, 0] = 1, 2  # two channels at one tap are neighbours
    weight[0, 0, 0, 1] = 5
    assert pair_peak(weight).tolist() == [5.0]
    odd = np.zeros((1, 3, 1, 2))
    odd[0, 2, 0, 0], odd[0, 0, 0, 1] = 3, 4  # an odd number of channels pairs across taps
    assert pair_peak(odd).tolist() == [7.0]
    odd[0, 1, 0, 1] = 5  # or, padded with a channel of zeros, within them
    assert pair_peak(odd).tolist() == [9.0]


def test_depthwise_weights_use_the_whole_range() -> None:
    weight = np.random.default_rng(0).normal(size=(6, 1, 3, 3))
    np.testing.assert_allclose(pair_safe_scale(weight, groups=6), np.abs(weight).max((1, 2, 3)) / 127)
    assert is_pair_safe(np.full((6, 1, 3, 3), 127, np.int8), groups=6)


def test_neighbours_are_even_or_odd_pairs_of_a_run_of_channels() -> None:
    assert neighbours((1, 8), 4).tolist() == [[0, 1, 4, 5], [2, 3, 6, 7]]
    assert neighbours((1, 8), 2).tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert neighbours((1, 16), 8).tolist() == [[0, 1, 4, 5, 8, 9, 12, 13], [2, 3, 6, 7, 10, 11, 14, 15]]
    # taps are apart, and 8 is beside the filter
    assert neighbours((1, 4, 1, 2), 4).tolist() == [[0, 2, 8, 8], [4, 6, 8, 8], [1, 3, 8, 8], [5, 7, 8, 8]]


@pytest.mark.parametrize(("count", "places"), [(2, (0, 1)), (4, (0, 1, 4, 5)), (8, (2, 3, 6, 7, 10, 11, 14, 15))])
def test_a_sum_of_many_is_limited_as_a_whole(count: int, places: tuple[int, ...]) -> None:
    codes = np.full((2, 16), -1, np.int8)
    codes[1, list(places)] = 128 // count
    assert sums_fit(codes, count) and sums_fit(-codes, count)
    codes[1, places[-1]] += 1
    assert not sums_fit(codes, count) and not sums_fit(-codes, count)
    assert count == 2 or sums_fit(codes, count // 2)


@pytest.mark.parametrize(
    ("shape", "groups", "sums"), [((8, 1, 3, 3), 8, 1), ((8, 63, 3, 3), 1, 2), ((8, 64), 1, 4), ((8, 128), 1, 8), ((8, 64), 2, 4)]
)
def test_layers_of_few_channels_sum_few_products(shape: tuple[int, ...], groups: int, sums: int) -> None:
    assert worthwhile_sums(8, shape, groups) == sums
    assert worthwhile_sums(1, shape, groups) == 1


@pytest.mark.parametrize("shape", [(2, 0), (0, 4)])
def test_empty_weights(shape: tuple[int, int]) -> None:
    assert pair_peak(np.zeros(shape)).shape == (shape[0],)
