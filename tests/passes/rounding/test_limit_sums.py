"""Codes under a limit on the sums of neighbours: nearest of all that keep to it, at scales that fit best."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from qcompiler.passes.rounding.gptq import Grid, factorize, objective, round_columns
from qcompiler.passes.rounding.limit_sums import limited_codes, limited_weights
from qcompiler.targets.saturation import neighbours, pair_safe_scale
from support.sums import sums_fit


@pytest.mark.parametrize("limit", [1, 3, 5, 9])
def test_nearest_of_all_codes_within_the_limit(limit: int) -> None:
    x = torch.from_numpy(np.random.default_rng(limit).uniform(-4, 4, (40, 4)))
    found = limited_codes(x, torch.arange(4)[None], limit)
    every = torch.tensor(list(itertools.product(range(-4, 5), repeat=4)), dtype=x.dtype)
    every = every[(every.clamp_min(0).sum(1) <= limit) & (every.clamp_max(0).sum(1) >= -limit)]
    least = (every[None] - x[:, None]).square().sum(2).min(1).values
    torch.testing.assert_close((found - x).square().sum(1), least)
    assert (found.clamp_min(0).sum(1) <= limit).all() and (found.clamp_max(0).sum(1) >= -limit).all()


@pytest.mark.parametrize("shape", [(8, 384), (5, 13), (6, 24, 3, 3), (4, 7, 1, 2)])
@pytest.mark.parametrize("count", [4, 8])
def test_weights_keep_to_the_limit_at_scales_that_are_no_worse_than_safe_ones(shape: tuple[int, ...], count: int) -> None:
    weight = np.random.default_rng(0).standard_normal(shape) ** 3
    least = pair_safe_scale(weight)
    codes, scale = limited_weights(weight, least, count, 127)
    assert sums_fit(codes.astype(np.int8), count) and np.abs(codes).max() <= 127 and (scale >= least * (1 - 1e-6)).all()
    flat = weight.reshape(len(weight), -1)
    members = np.pad(flat, ((0, 0), (0, 1)))[:, neighbours(shape, count)]
    peak = np.maximum(np.maximum(members, 0).sum(-1).max(1), -np.minimum(members, 0).sum(-1).min(1))
    safe = np.maximum(peak / (129 - count), least)[:, None]  # sums stay below however codes are rounded
    cut = np.square(codes.reshape(flat.shape) * scale[:, None] - flat).sum(1)
    assert (cut < 1.0001 * np.square(np.rint(flat / safe) * safe - flat).sum(1)).all()


def test_one_scale_for_a_whole_weight() -> None:
    weight = np.random.default_rng(1).standard_normal((8, 64))
    codes, scale = limited_weights(weight, pair_safe_scale(weight).max(keepdims=True), 4, 127)
    assert scale.shape == (1,) and sums_fit(codes.astype(np.int8), 4)


@pytest.mark.parametrize("count", [2, 4, 8])
def test_gptq_keeps_to_the_limit_and_is_better_than_nearest(count: int) -> None:
    rng = np.random.default_rng(2)
    weight = rng.standard_normal((24, 96))
    x = torch.from_numpy(rng.standard_normal((400, 96)) @ rng.standard_normal((96, 96)))
    hessian, sets = x.T @ x, torch.from_numpy(neighbours(weight.shape, count))
    nearest, scale = limited_weights(weight, pair_safe_scale(weight), count, 127)
    steps = torch.from_numpy(scale[:, None])
    target = torch.from_numpy(weight)
    codes, _ = round_columns(target, factorize(hessian), Grid(steps, torch.zeros_like(steps), -127, 127, 96, sets))
    assert sums_fit(codes.numpy().astype(np.int8), count)
    free, _ = round_columns(target, factorize(hessian), Grid(steps, torch.zeros_like(steps), -127, 127, 96))
    assert count == 2 or not sums_fit(free.numpy().astype(np.int8), count)
    assert objective(target, codes * steps, hessian) < objective(target, torch.from_numpy(nearest) * steps, hessian)
