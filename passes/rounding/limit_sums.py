"""Weights whose products with codes of 0 to 255 add up within 16 bits, four or eight neighbours at a time.

    codes q minimise sum (w / s - q)^2 with, in each set of neighbours, sum of positive q <= 128, of negative ones >= -128

For a given scale s this is exact: both signs of a set are a projection on a simplex (Duchi et al., ICML 2008, figure 1),
rounded down, with the largest remainders rounded up while the limit allows it. The scale per output channel is of a grid,
that with the least sum (w - s q)^2: the larger it is the fewer sets reach the limit, and the coarser all codes are. The
last of the grid is that at which none does.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from qcompiler.targets.saturation import SUM_LIMIT, neighbours

SCALES = np.geomspace(1.0, 2.4, 13)
"""Tried, times the least admissible scale."""


def limited_codes(x: Tensor, sets: Tensor, limit: int = SUM_LIMIT) -> Tensor:
    """Nearest integers to x [N, K] whose sums in each set, of either sign, are within the limit.

    Args:
        x: real codes.
        sets: [G, count] columns that are neighbours; K for none.
        limit: of the sum of codes of one sign.
    """
    members = torch.nn.functional.pad(x, (0, 1))[:, sets]
    codes = members.round()
    for sign in (1, -1):
        over = (codes * sign).clamp_min(0).sum(-1) > limit
        if bool(over.any()):
            chosen = members[over]
            held = _on_simplex((chosen * sign).clamp_min(0), limit) * sign
            codes[over] = torch.where(chosen * sign > 0, held, codes[over])
    found = x.new_zeros(len(x), x.shape[1] + 1)
    found[:, sets.flatten()] = codes.flatten(1)
    return found[:, :-1]


def _on_simplex(p: Tensor, limit: int) -> Tensor:
    """Integers nearest to p [M, count] >= 0 among those that are >= 0 and sum to the limit; rows of p round to more."""
    falling = p.sort(1, descending=True).values
    excess = (falling.cumsum(1) - limit) / torch.arange(1, p.shape[1] + 1, dtype=p.dtype)
    kept = (falling > excess).sum(1, keepdim=True)
    real = (p - excess.gather(1, kept - 1)).clamp_min(0)
    codes = real.floor()
    left = limit - codes.sum(1, keepdim=True)
    place = (real - codes).argsort(dim=1, descending=True, stable=True).argsort(dim=1, stable=True)
    return codes + (place < left)


def limited_weights(weight: np.ndarray, least: np.ndarray, count: int, qmax: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes in the weight's shape and the scales [O] (or [1], for all of it) that fit best.

    Args:
        weight: [O, I/groups, kernel...] or [N, K], real.
        least: smallest admissible scales, [O] or [1].
        count: neighbours whose products add up.
        qmax: largest code.
    """
    rows = torch.from_numpy(np.ascontiguousarray(weight.reshape(len(weight), -1), np.float32))
    sets = torch.from_numpy(neighbours(weight.shape, count))
    best = torch.zeros_like(rows)
    error = torch.full((len(least),), torch.inf, dtype=torch.float64)
    scale = torch.from_numpy(least.astype(np.float32))
    members = torch.nn.functional.pad(rows, (0, 1))[:, sets]
    peak = torch.maximum(members.clamp_min(0).sum(-1), -members.clamp_max(0).sum(-1)).amax(1).double().numpy()
    peak = peak if len(least) == len(rows) else peak.max(keepdims=True)
    # each of so many codes is rounded by less than 1
    for grid in (*(least * factor for factor in SCALES), np.maximum(peak / (SUM_LIMIT + 1 - count), least)):
        tried = torch.from_numpy(grid.astype(np.float32))
        codes = limited_codes((rows / tried[:, None]).clamp_(-qmax, qmax), sets)
        lost = (codes * tried[:, None] - rows).square_().sum(1).double()
        lost = lost if len(least) == len(rows) else lost.sum(0, keepdim=True)
        better = lost < error
        error, scale = torch.where(better, lost, error), torch.where(better, tried, scale)
        best = torch.where(better[:, None], codes, best)
    return best.numpy().reshape(weight.shape), scale.double().numpy()
