"""Progressive groups: 4-bit codes whose group scales are integers times a scale of the row, so that they expand to int8.

    weight = s * w8,   w8 = k (q - z),   k integer, |w8| <= 127        s per row, k and z per group

Hardware that multiplies int8 computes with w8 and one scale per row; the groups cost an integer product and a
subtraction when weights are read (Lin et al., "QServe", arXiv:2405.04532, section 4.1; Zhang et al., "DGQ",
arXiv:2310.04836). A row's largest group reaches ROOM steps of s, not 127: rounding of k must not leave int8.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from qcompiler.ir import DType, QuantParams
from qcompiler.passes.quantize.plan import WeightCodes
from qcompiler.passes.rounding.gptq import Grid, refit_scales

LIMIT, ROOM = 127, 119


def reach(grid: Grid) -> Tensor:
    """The largest |q - z| of every group [N, G]."""
    return torch.maximum(grid.high - grid.zero, grid.zero - grid.low)


def row_steps(grid: Grid) -> Tensor:
    """S [N, 1] for which the group that reaches farthest reaches ROOM; 1 for rows of zeros."""
    step = (grid.scale.abs() * reach(grid)).amax(1, keepdim=True) / ROOM
    return torch.where(step > 0, step, torch.ones_like(step))


def snapped(grid: Grid, step: Tensor) -> Grid:
    """The grid with every scale the nearest admissible k s; k keeps the sign of the scale and is never 0."""
    most = torch.floor(LIMIT / reach(grid))
    size = torch.minimum((grid.scale.abs() / step).round().clamp_(min=1), most)
    sign = torch.where(grid.scale < 0, -torch.ones_like(size), torch.ones_like(size))
    return replace(grid, scale=sign * size * step)


def refitted_rows(weight: Tensor, codes: Tensor, hessian: Tensor, grid: Grid, step: Tensor, product: Tensor) -> Grid:
    """The grid with the s of each row that is best by least squares under H, for these codes and k."""
    factors = (grid.scale / step).round()
    columns = torch.arange(codes.shape[1]) // grid.group_size
    wide = (codes - grid.zero[:, columns]) * factors[:, columns]
    rows = Grid(step, torch.zeros_like(step), -LIMIT, LIMIT, codes.shape[1])
    return replace(grid, scale=factors * refit_scales(weight, wide, hessian, rows, product).to(grid.scale.dtype))


def expand(codes: WeightCodes) -> WeightCodes:
    """W8 [N, K] as int8 with a scale per row, of codes in progressive groups.

    Raises:
        ValueError: the scales of a row are no multiples of one number that keep all codes in int8.
    """
    quant = codes.quant
    assert quant.group_size is not None
    scale = quant.scale.astype(np.float64)
    columns = np.arange(codes.codes.shape[1]) // quant.group_size
    zero = np.broadcast_to(quant.zero_point, scale.shape).astype(np.int64)
    centred = codes.codes.astype(np.int64) - zero[:, columns]
    step, factors = _common_step(scale)
    wide = centred * factors[:, columns]
    if np.abs(wide).max(initial=0) > LIMIT:
        raise ValueError(f"codes expand to {int(np.abs(wide).max())}, which is no int8")
    return WeightCodes(wide.astype(np.int8), QuantParams(DType.int8, step.astype(np.float32), axis=0))


def _common_step(scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """S [N] and integers k [N, G] with scale = k s: the smallest |k| of a row tells s, as all are small."""
    least = np.abs(scale).min(1, keepdims=True)
    best = np.full(len(scale), np.inf)
    step, factors = np.ones(len(scale)), np.ones(scale.shape, np.int64)
    for k in range(1, LIMIT + 1):
        ratio = scale / (least / k)
        off = np.abs(ratio - np.rint(ratio)).max(1)
        better = (off < 1e-3) & np.isinf(best)
        best = np.where(better, off, best)
        step = np.where(better, least[:, 0] / k, step)
        factors = np.where(better[:, None], np.rint(ratio).astype(np.int64), factors)
    if np.isinf(best).any():
        raise ValueError("group scales are no multiples of one scale per row")
    return step, factors
