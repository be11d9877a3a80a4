"""Scales and zero points of weights in groups along the input channels, and codes from them.

Symmetric grids have a *signed* scale: the element of largest magnitude maps to the most negative code, of which there
is one more than of positive ones, so a scale may be negative. Asymmetric grids span the group's minimum and maximum,
0 included. Either is shrunk by the factor of a grid that has the least squared error, weighted by the importance of
the input channels where that is known (the diagonal of the second moment of the input).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from qcompiler.ir import DType, QuantParams
from qcompiler.passes.rounding.gptq import Grid
from qcompiler.passes.rounding.progressive import row_steps, snapped

from ..quantize.plan import WeightCodes

STEPS = 20
SMALLEST_FACTOR = 0.6
ROWS = 256  # searched at once: what fits a cache


def group_grid(
    weight: Tensor, dtype: DType, group_size: int | None, search: bool = True, importance: Tensor | None = None
) -> Grid:
    """The grid of a weight [N, K].

    Args:
        weight: real.
        dtype: signed for a symmetric grid, unsigned for one with zero points.
        group_size: divides K; None for one group per row.
        search: choose the factor on the range by least squares; without, the range is taken as it is.
        importance: [K], >= 0; None counts all channels alike.
    """
    n, k = weight.shape
    size = group_size or k
    weights = None if importance is None else importance.to(torch.float32).reshape(1, k // size, size)
    parts = [_search(w, dtype, search, weights) for w in weight.to(torch.float32).reshape(n, k // size, size).split(ROWS)]
    return Grid(torch.cat([b.scale for b in parts]), torch.cat([b.zero for b in parts]), dtype.min, dtype.max, size)


def _search(w: Tensor, dtype: DType, search: bool, importance: Tensor | None) -> _Best:
    """The best factors of groups w [N, G, size]."""
    factors = torch.linspace(1.0, SMALLEST_FACTOR, STEPS + 1).tolist() if search else [1.0]
    best = _Best(w, dtype, importance)
    if dtype.is_signed:
        peak = w.gather(2, w.abs().argmax(2, keepdim=True))[..., 0]
        for factor in factors:
            best.offer(peak * (factor / dtype.min), torch.zeros_like(peak))
            if search:
                best.offer(peak * (factor / dtype.max), torch.zeros_like(peak))
    else:
        low, high = w.amin(2).clamp(max=0), w.amax(2).clamp(min=0)
        for factor in factors:
            scale = (high - low) * (factor / dtype.max)
            safe = torch.where(scale > 0, scale, torch.ones_like(scale))
            best.offer(scale, torch.round(-low * factor / safe).clamp(0, dtype.max))
    return best


class _Best:
    """The candidate of least error so far, per group."""

    def __init__(self, w: Tensor, dtype: DType, importance: Tensor | None) -> None:
        self.w, self.dtype, self.importance = w, dtype, importance
        self.error = torch.full(w.shape[:2], torch.inf)
        self.scale = torch.ones(w.shape[:2])
        self.zero = torch.zeros(w.shape[:2])

    def offer(self, scale: Tensor, zero: Tensor) -> None:
        usable = scale.abs() >= torch.finfo(torch.float32).tiny
        step, shift = torch.where(usable, scale, torch.ones_like(scale))[..., None], zero[..., None]
        error = (self.w / step).round_()
        if self.dtype.is_signed:
            error.clamp_(self.dtype.min, self.dtype.max)
        else:
            error.add_(shift).clamp_(self.dtype.min, self.dtype.max).sub_(shift)
        error.mul_(step).sub_(self.w).square_()
        if self.importance is not None:
            error *= self.importance
        total = error.sum(2)
        better = total < self.error
        self.error = torch.where(better, total, self.error)
        self.scale = torch.where(better, step[..., 0], self.scale)
        self.zero = torch.where(better, zero, self.zero)


def nearest_codes(weight: Tensor, grid: Grid) -> Tensor:
    """Nearest codes [N, K] on a grid."""
    columns = torch.arange(weight.shape[1]) // grid.group_size
    steps = (weight / grid.scale[:, columns]).round_() + grid.zero[:, columns]
    return steps.clamp_(grid.low, grid.high)


def weight_codes(codes: Tensor, grid: Grid, dtype: DType, grouped: bool) -> WeightCodes:
    """Codes [N, K] on a grid as the plan holds them: per channel where there is one group per row."""
    array = codes.to(torch.int16).numpy().astype(dtype.numpy)
    scale, zero = grid.scale.to(torch.float32).numpy(), grid.zero.to(torch.int32).numpy()
    if grouped:
        return WeightCodes(array, QuantParams(dtype, scale, zero, axis=1, group_size=grid.group_size))
    return WeightCodes(array, QuantParams(dtype, scale[:, 0], zero[:, 0], axis=0))


def round_groups(
    weight: np.ndarray, dtype: DType, group_size: int | None, search: bool, progressive: bool = False
) -> WeightCodes:
    """Nearest codes of a weight [N, K]; progressive as `NodePlan` has it."""
    tensor = torch.tensor(weight, dtype=torch.float32)
    grid = group_grid(tensor, dtype, group_size, search)
    if progressive:
        grid = snapped(grid, row_steps(grid))
    return weight_codes(nearest_codes(tensor, grid), grid, dtype, group_size is not None)
