"""Metrics against their definitions and at their edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.metrics import agreement, cosine, energy_ratio_db, spearman, sqnr


def test_sqnr_of_a_known_error():
    x = np.array([3.0, 4.0])
    assert sqnr(x, x + [0.3, 0.4]) == pytest.approx(20.0)


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [([1, 2], [1, 2], math.inf), ([0, 0], [0, 0], math.inf), ([0, 0], [0, 1], -math.inf), ([], [], math.inf)],
)
def test_sqnr_at_the_edges(x, y, expected):
    assert sqnr(x, y) == expected


@given(st.floats(1e-100, 1e100), st.integers(0, 2**31))
def test_sqnr_does_not_depend_on_the_scale(scale, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=20), rng.normal(size=20)
    assert sqnr(scale * x, scale * y) == pytest.approx(sqnr(x, y))


def test_energy_ratio_survives_sums_whose_quotient_overflows():
    assert energy_ratio_db(1e300, 1e-300) == pytest.approx(6000)
    assert energy_ratio_db(1.0, math.inf) == -math.inf


def test_sums_are_exact_enough_for_half_precision():
    x = np.full(100_000, 0.1, np.float16)
    assert sqnr(x, x * np.float16(0.5)) == pytest.approx(20 * math.log10(2), abs=0.02)


def test_cosine():
    assert cosine([1, 0], [1, 1]) == pytest.approx(math.sqrt(0.5))
    assert cosine([1, 2], [-2, -4]) == pytest.approx(-1)
    assert cosine([0, 0], [0, 0]) == 1
    assert cosine([0, 0], [1, 0]) == 0


def test_agreement_counts_rows():
    x = [[1, 2, 3], [3, 2, 1], [0, 5, 0], [1, 0, 0]]
    y = [[1, 2, 3], [1, 2, 1], [0, 1, 0], [9, 0, 0]]
    assert agreement(x, y) == 0.75
    assert math.isnan(agreement(np.zeros((0, 3)), np.zeros((0, 3))))


def test_agreement_needs_classes():
    with pytest.raises(ValueError, match="last axis"):
        agreement(1.0, 1.0)


def test_spearman_sees_order_only():
    assert spearman([1, 2, 3, 4], [1, 8, 27, 64]) == pytest.approx(1)
    assert spearman([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert math.isnan(spearman([1, 1], [1, 2])) and math.isnan(spearman([1], [2]))


@pytest.mark.parametrize("metric", [sqnr, cosine, agreement, spearman])
def test_shapes_must_be_equal(metric):
    with pytest.raises(ValueError, match="shapes differ"):
        metric(np.zeros(3), np.zeros((3, 1)))
