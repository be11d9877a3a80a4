"""The GPTQ engine against its definition, its golden example and round-to-nearest."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.passes.rounding.gptq import Grid, gptq, inverse_factor, objective, refit_scales


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


def nearest(weight: torch.Tensor, grid: Grid) -> torch.Tensor:
    return torch.stack([grid.round(weight[:, j].double(), j) for j in range(weight.shape[1])], 1)


def test_golden_pair() -> None:
    """w = (.6, .6), H = [[1, .9], [.9, 1]], step 1: codes (1, 0), objective .088 against .608 for nearest."""
    weight = torch.tensor([[0.6, 0.6]], dtype=torch.float64)
    hessian = torch.tensor([[1.0, 0.9], [0.9, 1.0]], dtype=torch.float64)
    grid = Grid(torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64), -8, 7, 2)
    codes, _ = gptq(weight, hessian, grid, damping=0.0)
    assert codes.tolist() == [[1, 0]]
    assert objective(weight, grid.real(codes.double()), hessian) == pytest.approx(0.088)
    assert objective(weight, grid.real(nearest(weight, grid)), hessian) == pytest.approx(0.608)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), rows=st.integers(1, 5), columns=st.integers(1, 40), bits=st.integers(2, 8))
def test_uncorrelated_inputs_round_to_nearest(seed: int, rows: int, columns: int, bits: int) -> None:
    weight, _ = problem(seed, rows, columns)
    grid = grid_for(weight, bits, 16)
    codes, _ = gptq(weight, torch.eye(columns, dtype=torch.float64), grid)
    assert torch.equal(codes.double(), nearest(weight, grid))


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
    plain = objective(weight, grid.real(nearest(weight, grid)), hessian)
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
    assert torch.equal(codes[:, 5].double(), grid.round(weight[:, 5], 5))


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
    codes = nearest(weight, grid)
    assert torch.equal(refit_scales(weight, codes, hessian, grid)[1], grid.scale[1])
