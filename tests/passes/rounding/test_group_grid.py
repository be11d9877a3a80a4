"""Grids of weights in groups: exact at the peak, never worse for the search, usable for any weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qcompiler.ir import DType
from qcompiler.passes.rounding.group_grid import group_grid, nearest_codes, round_groups, weight_codes


def weights(rows: int = 12, columns: int = 64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)


def errors(w: np.ndarray, dtype: DType, size: int | None, search: bool) -> np.ndarray:
    wrong = np.square(round_groups(w, dtype, size, search).real() - w)
    return wrong.reshape(len(w), -1, size or w.shape[1]).sum(2)


def test_signed_scales_map_the_peak_to_the_lowest_code() -> None:
    w = weights()
    rounded = round_groups(w, DType.int4, 16, search=False)
    parts, codes = w.reshape(12, 4, 16), rounded.codes.reshape(12, 4, 16)
    peak = np.abs(parts).argmax(2)[..., None]
    assert (np.take_along_axis(codes, peak, 2) == -8).all()
    assert (np.sign(rounded.quant.scale) == -np.sign(np.take_along_axis(parts, peak, 2))[..., 0]).all()
    np.testing.assert_allclose(np.take_along_axis(rounded.real().reshape(12, 4, 16), peak, 2), np.take_along_axis(parts, peak, 2), rtol=1e-6)
    unsigned = np.abs(parts).max(2, keepdims=True) / 7
    plain = np.square(np.clip(np.rint(parts / unsigned), -7, 7) * unsigned - parts).sum()
    assert errors(w, DType.int4, 16, False).sum() < 0.9 * plain


@pytest.mark.parametrize("dtype", [DType.int2, DType.int4, DType.uint2, DType.uint3, DType.uint4, DType.int8])
@pytest.mark.parametrize("size", [16, None])
def test_the_search_is_no_worse_in_any_group(dtype: DType, size: int | None) -> None:
    found, plain = errors(weights(), dtype, size, True), errors(weights(), dtype, size, False)
    assert (found <= plain * (1 + 1e-5)).all() and found.sum() < plain.sum()


def test_important_channels_are_rounded_better() -> None:
    w, importance = weights(), torch.linspace(0.01, 4, 64) ** 2
    real = torch.from_numpy(w)
    totals = []
    for chosen in (importance, None):
        grid = group_grid(real, DType.int3, 32, True, chosen)
        rounded = weight_codes(nearest_codes(real, grid), grid, DType.int3, True)
        totals.append(float((torch.from_numpy(rounded.real()) - real).square().mul(importance).sum()))
    assert totals[0] < totals[1]


@pytest.mark.parametrize("dtype", [DType.int4, DType.uint4])
def test_groups_of_zeros_of_one_sign_and_of_denormals(dtype: DType) -> None:
    w = weights(4, 32)
    w[0] = 0
    w[1] = np.abs(w[1]) + 1
    w[2] = 1e-42
    rounded = round_groups(w, dtype, 16, search=True)
    assert (rounded.real()[0] == 0).all() and np.isfinite(rounded.quant.scale).all()
    assert np.abs(rounded.real()[1] - w[1]).max() < 0.5 and np.abs(rounded.real()[2]).max() < 1e-3
