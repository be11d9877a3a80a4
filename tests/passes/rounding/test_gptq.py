"""The GPTQ engine against its definition, its golden example and round-to-nearest."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.passes.rounding.gptq import GramSum, Grid, gptq, inverse_factor, objective, refit_scales
from qcompiler.passes.rounding.group_grid import nearest_codes
from qcompiler.targets.saturation import neighbours


def grid_for(weight: torch.Tensor, bits: int, group_size: int) -> Grid:
    top = (1 << (bits - 1)) - 1
    columns = weight.shape[1]
    groups = [weight[:, i : i + group_size].abs().amax(1) / top for i in range(0, columns, group_size)]
    scale = torch.stack(groups, 1).double().clamp_min(1e-12)
    return Grid(scale, torch.zeros_like(scale), -top, top, group_size)


def problem(seed: int, rows: int, columns: int, samples: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    mix = torch.randn(columns, columns, generator=generator, dtype=torch.float64)
    x = torch.randn(samples, columns, generator=generator, dtype=torch.float64) @ mix
    return weight, x.T @ x / samples


def test_golden_pair() -> None:
    """w = (.6, .6), H = [[1, .9], [.9, 1]], step 1: codes (1, 0), objective .088 against .608 for nearest."""
    weight = torch.tensor([[0.6, 0.6]], dtype=torch.float64)
    hessian = torch.tensor([[1.0, 0.9], [0.9, 1.0]], dtype=torch.float64)
    grid = Grid(torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64), -8, 7, 2)
    codes, _ = gptq(weight, hessian, grid, damping=0.0)
    assert codes.tolist() == [[1, 0]]
    assert objective(weight, grid.real(codes.double()), hessian) == pytest.approx(0.088)
    assert objective(weight, grid.real(nearest_codes(weight, grid)), hessian) == pytest.approx(0.608)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), rows=st.integers(1, 5), columns=st.integers(1, 40), bits=st.integers(2, 8))
def test_uncorrelated_inputs_round_to_nearest(seed: int, rows: int, columns: int, bits: int) -> None:
    weight, _ = problem(seed, rows, columns)
    grid = grid_for(weight, bits, 16)
    codes, _ = gptq(weight, torch.eye(columns, dtype=torch.float64), grid)
    assert torch.equal(codes.double(), nearest_codes(weight, grid))


@pytest.mark.parametrize("act_order", [True, False])
def test_blocks_are_a_matter_of_speed_only(act_order: bool) -> None:
    weight, hessian = problem(1, 6, 50)
    grid = grid_for(weight, 4, 16)
    eager = gptq(weight, hessian, grid, act_order=act_order, block=1)[0]
    for block in (7, 50, 128):
        assert torch.equal(gptq(weight, hessian, grid, act_order=act_order, block=block)[0], eager)


@pytest.mark.parametrize("bits", [3, 4, 8])
def test_better_than_nearest_and_refit_better_still(bits: int) -> None:
    weight, hessian = problem(2, 32, 64)
    grid = grid_for(weight, bits, 32)
    codes = gptq(weight, hessian, grid)[0]
    plain = objective(weight, grid.real(nearest_codes(weight, grid)), hessian)
    better = objective(weight, grid.real(codes.double()), hessian)
    assert better < 0.6 * plain
    refitted = Grid(
        refit_scales(weight, codes, hessian, grid), grid.zero, grid.low, grid.high, grid.group_size
    )
    assert objective(weight, refitted.real(codes.double()), hessian) < better


def test_codes_stay_in_range_with_zero_points_and_negative_scales() -> None:
    weight, hessian = problem(3, 8, 20)
    scale = torch.full((8, 2), -0.3, dtype=torch.float64)
    grid = Grid(scale, torch.full((8, 2), 5.0, dtype=torch.float64), 0, 15, 10)
    codes = gptq(weight, hessian, grid)[0]
    assert int(codes.min()) >= 0 and int(codes.max()) <= 15


def test_dead_columns_round_to_nearest() -> None:
    weight, hessian = problem(4, 4, 12)
    hessian[5], hessian[:, 5] = 0, 0
    grid = grid_for(weight, 4, 12)
    codes = gptq(weight, hessian, grid)[0]
    assert torch.equal(codes[:, 5].double(), nearest_codes(weight, grid)[:, 5])


def test_singular_moments_get_more_damping() -> None:
    weight, _ = problem(5, 4, 16)
    x = torch.ones(3, 16, dtype=torch.float64)
    _, used = inverse_factor(x.T @ x, 0.0)
    assert used > 0
    codes, _ = gptq(weight, x.T @ x, grid_for(weight, 4, 16), damping=0.0)
    assert codes.shape == (4, 16)


def test_a_moment_that_is_not_finite_is_refused() -> None:
    weight, hessian = problem(6, 2, 4)
    hessian[0, 0] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        gptq(weight, hessian, grid_for(weight, 4, 4))


def test_groups_of_zeros_keep_their_scale() -> None:
    weight, hessian = problem(7, 3, 8)
    weight[1, :4] = 0
    grid = grid_for(weight, 4, 4)
    codes = nearest_codes(weight, grid)
    assert torch.equal(refit_scales(weight, codes, hessian, grid)[1], grid.scale[1])


def test_scales_of_groups_with_small_inputs_are_refitted_beside_massive_ones() -> None:
    """Inputs of the second group are 10^4 times those of the first: its ridge is none of the first one's.

    1 %: a ridge of 10^-6 on the one still reaches the other through what correlates.
    """
    x = torch.randn(400, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x[:, 8:] *= 1e4
    codes = torch.randint(-7, 8, (5, 16), generator=torch.Generator().manual_seed(2)).double()
    true = Grid(torch.rand(5, 2, dtype=torch.float64) + 0.5, torch.zeros(5, 2, dtype=torch.float64), -7, 7, 8)
    start = Grid(true.scale * 1.3, true.zero, -7, 7, 8)
    for dtype in (torch.float64, torch.float32):
        found = refit_scales(true.real(codes), codes, (x.T @ x).to(dtype), start)
        torch.testing.assert_close(found.double(), true.scale, rtol=0.01, atol=0)


def test_inverse_factor_is_the_upper_factor_of_the_inverse() -> None:
    hessian = problem(3, 1, 30)[1]
    factor, used = inverse_factor(hessian, 0.01)
    damped = hessian + used * hessian.diagonal().mean() * torch.eye(30, dtype=torch.float64)
    assert torch.equal(factor, factor.triu())
    torch.testing.assert_close(factor.T @ factor @ damped, torch.eye(30, dtype=torch.float64), rtol=0, atol=1e-9)


@pytest.mark.parametrize("parts", [1, 4, 6])
def test_moments_in_panels_are_the_plain_sums(parts: int) -> None:
    rows = torch.randn(parts, 20, 230, generator=torch.Generator().manual_seed(parts))
    sums = GramSum(230)
    for part in rows:
        sums.add(part)
        sums.add_drift(part.abs(), part)
    flat = rows.reshape(-1, 230).double()
    for got, expected in zip(sums.totals(), (flat.T @ flat, flat.abs().T @ flat), strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("columns", [12, 13])
@pytest.mark.parametrize("act_order", [False, True])
def test_pairs_of_codes_keep_a_limit_on_their_sum(columns: int, act_order: bool) -> None:
    weight, hessian = problem(5, 32, columns)
    free = grid_for(weight, 8, columns)
    limited = replace(free, sets=torch.from_numpy(neighbours((32, columns), 2)))
    loose, _ = gptq(weight, hessian, free, act_order=act_order)
    codes, _ = gptq(weight, hessian, limited, act_order=act_order)
    pairs = codes[:, : columns // 2 * 2].reshape(32, -1, 2)
    alike = (pairs[..., 0] * pairs[..., 1]) > 0
    sums = pairs.sum(2).abs()
    assert int(sums[alike].max()) == free.high + 1  # reached, and not passed
    assert int(loose[:, : columns // 2 * 2].reshape(32, -1, 2).sum(2).abs()[alike].max()) > free.high + 1
    before, after = (objective(weight, limited.real(c.double()), hessian) for c in (_cut(loose, free.high + 1), codes))
    assert after < before  # what is cut is made up for by columns that come later


def _cut(codes: torch.Tensor, limit: int) -> torch.Tensor:
    found = codes.clone()
    for j in range(1, codes.shape[1], 2):
        left = found[:, j - 1]
        found[:, j] = found[:, j].minimum(limit - left.clamp_min(0)).maximum(-limit - left.clamp_max(0))
    return found
