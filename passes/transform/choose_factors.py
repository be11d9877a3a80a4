"""Choice of per-channel factors for one site, scored by cross-validation over calibration samples.

Candidates are SmoothQuant's t_j = max|X_j|^a / max|W_j|^(1-a) over a grid of a (Xiao et al. 2023, eq. 4) and
Outlier Suppression+'s shift z_j = (max_j + min_j) / 2 with scale max(1, |X_j - z_j| / threshold) over a grid of
thresholds (Wei et al. 2023, section 4.2), each without and with range headroom. A candidate is computed on all
samples but one fold and scored on that fold, with ranges widened by a headroom for what was not seen: factors scored on the data they were chosen from overfit outliers.
The score is the error of the readers' outputs with activation and weights rounded, relative to their power.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .fold import Factors
from .groups import VALUE, Site, tied_max, weights

MIN_FACTOR = 1e-5


@dataclass(frozen=True)
class Candidate:
    """How factors are computed from statistics: method ("identity", "smooth" or "shift") and its strength."""

    method: str
    strength: float = 0.0


@dataclass(frozen=True)
class Choice:
    """The winner of one site with its cross-validated error and that of doing nothing (relative power)."""

    candidate: Candidate
    factors: Factors
    error: float
    error_before: float


def candidates(site: Site, alphas: Sequence[float], thresholds: Sequence[float]) -> list[Candidate]:
    """The grid for a site, "identity" first; shifts only where the site takes them."""
    grid = [Candidate("identity"), *(Candidate("smooth", a) for a in alphas)]
    return grid + [Candidate("shift", t) for t in thresholds] if site.shift else grid


def compute_factors(site: Site, candidate: Candidate, low: np.ndarray, high: np.ndarray) -> Factors:
    """Factors of a candidate from per-channel extrema low, high [K] of x."""
    width = site.width
    if candidate.method == "identity":
        return Factors.none(width)
    if candidate.method == "smooth":
        peak = np.maximum(np.maximum(-low, high), MIN_FACTOR)
        w = np.max([np.abs(m).max(0) for m in weights(site)], 0)
        t = peak**candidate.strength / np.maximum(w, MIN_FACTOR) ** (1 - candidate.strength)
        t = np.maximum(t, MIN_FACTOR)
        # The common factor is free: the activation's own scale absorbs it.
        t /= np.exp(np.mean(np.log(t)))
        return Factors(tied_max(site, t) if site.fold == VALUE else t, np.zeros(width))
    centre = (low + high) / 2
    reach = (high - low) / 2
    threshold = max(float(candidate.strength * reach.max()), MIN_FACTOR)
    return Factors(np.maximum(1.0, reach / threshold), centre)


def choose_factors(
    site: Site,
    samples: Sequence[np.ndarray],
    grid: Sequence[Candidate],
    bits: int = 8,
    headroom: float = 1.15,
    folds: int = 2,
) -> Choice:
    """The candidate with the least cross-validated error.

    Args:
        site: the tensor and its readers.
        samples: rows [n_i, K] of x, one array per calibration sample.
        grid: candidates, "identity" first: its error is `error_before`.
        bits: of activation and weights.
        headroom: factor on the range of the activation, as calibration may leave it.
        folds: of the cross-validation; with fewer samples than folds, rows are split instead.

    Raises:
        ValueError: no rows at all.
    """
    parts = _split(samples, folds)
    matrix = np.concatenate(list(weights(site)))
    rows = torch.from_numpy(matrix.astype(np.float32))
    splits = [len(w) for w in weights(site)]
    errors = np.zeros(len(grid))
    for held, part in enumerate(parts):
        low, high = _extrema([p for i, p in enumerate(parts) if i != held])
        test = torch.from_numpy(part)
        exact = test @ rows.T
        power = torch.stack([(y**2).sum() for y in exact.split(splits, 1)]).clamp_min(1e-12)
        for index, candidate in enumerate(grid):
            f = compute_factors(site, candidate, low, high)
            t, z = torch.from_numpy(f.t.astype(np.float32)), torch.from_numpy(f.z.astype(np.float32))
            bounds = ((low - f.z) / f.t).min() * headroom, ((high - f.z) / f.t).max() * headroom
            x = _round_tensor((test - z) / t, *bounds, bits)
            offset = torch.from_numpy((matrix @ f.z).astype(np.float32))
            wrong = x @ _round_rows(rows * t, bits).T + offset - exact
            noise = torch.stack([(e**2).sum() for e in wrong.split(splits, 1)])
            errors[index] += float((noise / power).mean()) / len(parts)
    best = int(errors.argmin())
    factors = compute_factors(site, grid[best], *_extrema(parts))
    return Choice(grid[best], factors, float(errors[best]), float(errors[0]))


def _extrema(parts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.min([p.min(0) for p in parts], 0), np.max([p.max(0) for p in parts], 0)
    return low.astype(np.float64), high.astype(np.float64)


def _split(samples: Sequence[np.ndarray], folds: int) -> list[np.ndarray]:
    kept = [s for s in samples if len(s)]
    if not kept:
        raise ValueError("no calibration rows")
    if len(kept) < folds:
        rows = np.concatenate(kept)
        kept = [rows[i::folds] for i in range(folds)] if len(rows) >= folds else [rows] * folds
    return [np.concatenate(kept[i::folds]) for i in range(folds)]


def _round_tensor(x: torch.Tensor, low: float, high: float, bits: int) -> torch.Tensor:
    """Per-tensor asymmetric fake quantization over [min(low, 0), max(high, 0)]."""
    low, high = min(low, 0.0), max(high, 0.0)
    levels = (1 << bits) - 1
    scale = max((high - low) / levels, 1e-12)
    zero = round(-low / scale)
    return (torch.clamp(torch.round(x / scale) + zero, 0, levels) - zero) * scale


def _round_rows(w: torch.Tensor, bits: int) -> torch.Tensor:
    """Per-row symmetric fake quantization."""
    top = (1 << (bits - 1)) - 1
    scale = (w.abs().amax(1, keepdim=True) / top).clamp_min(1e-12)
    return torch.round(w / scale) * scale
