"""Search for the clipping range of a histogram: least squares and Kullback-Leibler divergence.

Both look at ranges [lo * a, hi * b], a and b in (0, 1], around the full range [lo, hi] widened to contain 0:
first a == b, then one end at a time, first on a geometric grid and then near its best point. What is scored
is the quantizer that `quant_params_from_range` gives, its rounded zero point included.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from .ranges import code_limits, quant_params_from_range

if TYPE_CHECKING:
    from qcompiler.ir import DType

Score: TypeAlias = Callable[[np.ndarray, np.ndarray], np.ndarray]

COARSE = np.geomspace(0.02, 1.0, 25)[::-1]
FINE = np.linspace(-1.0, 1.0, 9)
RATIO = COARSE[0] / COARSE[1] - 1


def mse_range(edges: np.ndarray, counts: np.ndarray, dtype: DType, symmetric: bool) -> tuple[float, float]:
    """(lo, hi) with the least mean squared error of quantizing to `dtype`.

    edges: float64 [n + 1], counts: int [n]. Elements are taken as uniform within their bin, and the squared
    error is integrated over the bin in closed form, so that bins may be wider than quantization steps.
    """
    widths = np.diff(edges)
    density = np.divide(counts, widths, out=np.zeros(len(counts)), where=widths > 0)
    # Summation by parts: sum of density * (F(right) - F(left)) is a sum over edges of F * change of density.
    change = -np.diff(density, prepend=0.0, append=0.0)
    points = (widths == 0) & (counts > 0)  # a bin from the minimum or to the maximum may have no width
    at, mass = edges[:-1][points], counts[points].astype(np.float64)
    q_min, q_max = code_limits(dtype)

    def score(lo: np.ndarray, hi: np.ndarray) -> np.ndarray:
        scale, zero_point = quant_params_from_range(lo, hi, dtype, symmetric)
        step = scale.astype(np.float64)
        low, high = (q_min - zero_point)[:, None], (q_max - zero_point)[:, None]
        total = step**3 * (_integral(edges / step[:, None], low, high) @ change)
        if len(at):
            codes = at / step[:, None]
            total += step**2 * ((codes - np.clip(np.rint(codes), low, high)) ** 2 @ mass)
        return total

    return _search(float(edges[0]), float(edges[-1]), symmetric, score)


def _integral(u: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """An antiderivative of (u - clip(round(u), low, high))**2, [candidates, edges]; overwrites `u`."""
    code = np.rint(u)
    np.clip(code, low, high, out=code)
    u -= code
    cube = u * u
    cube *= u
    cube /= 3
    code /= 12
    cube += code
    return cube


def entropy_range(
    edges: np.ndarray, counts: np.ndarray, dtype: DType, symmetric: bool
) -> tuple[float, float]:
    """(lo, hi) with the least KL(P || Q), after Migacz, "8-bit inference with TensorRT" (GTC 2017).

    P: the histogram with what lies outside [lo, hi] added to its outermost bins. Q: the histogram inside
    [lo, hi], where the mass of each quantization step is spread evenly over its non-empty bins. The peak of
    exact zeros (after ReLU) is levelled first, because zero is represented without error. A range of fewer
    bins than codes would have no error at all and is not considered.
    """
    counts = counts.astype(np.float64)
    zero = int(np.clip(np.searchsorted(edges, 0.0, side="right") - 1, 0, len(counts) - 1))
    if edges[0] <= 0 <= edges[-1] and len(counts) > 2:
        around = [counts[i] for i in (zero - 1, zero + 1) if 0 <= i < len(counts)]
        counts[zero] = min(counts[zero], max(around))
    centres = (edges[:-1] + edges[1:]) / 2
    q_min, q_max = code_limits(dtype)
    codes = q_max - q_min + 1

    def score(lo: np.ndarray, hi: np.ndarray) -> np.ndarray:
        return np.array([_divergence(centres, counts, a, b, codes) for a, b in zip(lo, hi, strict=True)])

    return _search(float(edges[0]), float(edges[-1]), symmetric, score)


def _divergence(centres: np.ndarray, counts: np.ndarray, lo: float, hi: float, codes: int) -> float:
    first, last = np.searchsorted(centres, [lo, hi])
    inside = counts[first:last]
    if len(inside) < codes or not inside.any():
        return np.inf if len(counts) >= codes else -float(hi - lo)
    p = inside.copy()
    p[0] += counts[:first].sum()
    p[-1] += counts[last:].sum()
    step = np.clip(((centres[first:last] - lo) * (codes / (hi - lo))).astype(np.int64), 0, codes - 1)
    filled = inside > 0
    mass = np.bincount(step, inside, codes)
    members = np.bincount(step, filled, codes)
    q = np.where(filled, (mass / np.maximum(members, 1))[step], 0.0)
    # An outer bin that only holds what was clipped has q == 0; a tiny floor makes that dear, not infinite.
    p /= p.sum()
    q = np.maximum(q / q.sum(), 1e-12)
    seen = p > 0
    return float((p[seen] * np.log(p[seen] / q[seen])).sum())


def _search(lo: float, hi: float, symmetric: bool, score: Score) -> tuple[float, float]:
    lo, hi = min(lo, 0.0), max(hi, 0.0)
    if lo == hi:
        return lo, hi
    if symmetric:
        top = max(-lo, hi)
        lo, hi = -top, top
    ends = np.array([lo, hi])
    best = np.ones(2)
    moves = [np.ones(2)]
    if not symmetric and lo < 0 < hi:
        moves += [np.array([0.0, 1.0]), np.array([1.0, 0.0])] * 2
    for move in moves:
        for factors in (lambda b: COARSE, lambda b: np.clip(b * (1 + RATIO * FINE), 0, 1)):
            now = best[move > 0][0]
            tried = np.where(move > 0, factors(now)[:, None], best)
            tried = np.concatenate([best[None], tried])
            scores = score(tried[:, 0] * ends[0], tried[:, 1] * ends[1])
            best = tried[int(np.argmin(scores))]  # the first of equals: no change without a gain
    return float(best[0] * ends[0]), float(best[1] * ends[1])
