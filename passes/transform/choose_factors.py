"""Choice of per-channel factors for one site, scored by cross-validation over calibration samples.

Candidates are SmoothQuant's t_j = max|X_j|^a / max|W_j|^(1-a) over a grid of a (Xiao et al. 2023, eq. 4) and
Outlier Suppression+'s shift z_j = (max_j + min_j) / 2 with scale max(1, |X_j - z_j| / threshold) over a grid of
thresholds (Wei et al. 2023, section 4.2), each without and with range headroom. A candidate is computed on all
samples but one fold and scored on that fold: factors scored on the data they were chosen from overfit outliers.
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
    """How factors are computed from statistics: method ("identity", "smooth", "shift"), strength, headroom."""

    method: str
    strength: float = 0.0
    headroom: float = 1.0


@dataclass(frozen=True)
class Choice:
    """The winner of one site with its cross-validated error and that of doing nothing (relative power)."""

    candidate: Candidate
    factors: Factors
    error: float
    error_before: float


def candidates(
    site: Site, alphas: Sequence[float], thresholds: Sequence[float], headrooms: Sequence[float]
) -> list[Candidate]:
    """The grid for a site; shifts only where the site takes them."""
    grid = [Candidate("identity", 0.0, h) for h in headrooms]
    grid += [Candidate("smooth", a, h) for a in alphas for h in headrooms]
    if site.shift:
        grid += [Candidate("shift", t, h) for t in thresholds for h in headrooms]
    return grid


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
    site: Site, samples: Sequence[np.ndarray], grid: Sequence[Candidate], bits: int = 8, folds: int = 2
) -> Choice:
    """The candidate with the least cross-validated error.

    Args:
        site: the tensor and its readers.
        samples: rows [n_i, K] of x, one array per calibration sample.
        grid: candidates; those with method "identity" give `error_before`.
        bits: of activation and weights.
        folds: of the cross-validation; with fewer samples than folds, rows are split instead.

    Raises:
        ValueError: no rows at all.
    """
    parts = _split(samples, folds)
    matrices = [torch.from_numpy(m.astype(np.float32)) for m in weights(site)]
    errors = np.zeros(len(grid))
    for held, rows in enumerate(parts):
        rest = np.concatenate([p for i, p in enumerate(parts) if i != held])
        low, high = rest.min(0).astype(np.float64), rest.max(0).astype(np.float64)
        test = torch.from_numpy(rows)
        exact = [test @ m.T for m in matrices]
        cache: dict[tuple[str, float], tuple[Factors, torch.Tensor, list[torch.Tensor]]] = {}
        for index, candidate in enumerate(grid):
            key = (candidate.method, candidate.strength)
            if key not in cache:
                f = compute_factors(site, candidate, low, high)
                t, z = torch.from_numpy(f.t.astype(np.float32)), torch.from_numpy(f.z.astype(np.float32))
                cache = {key: (f, (test - z) / t, [_round_rows(m * t, bits) for m in matrices])}
            f, x, rounded = cache[key]
            scaled_low, scaled_high = float(((low - f.z) / f.t).min()), float(((high - f.z) / f.t).max())
            codes = _round_tensor(x, scaled_low * candidate.headroom, scaled_high * candidate.headroom, bits)
            for m, w, y in zip(matrices, rounded, exact, strict=True):
                offset = torch.from_numpy((m.numpy().astype(np.float64) @ f.z).astype(np.float32))
                errors[index] += float(
                    ((codes @ w.T + offset - y) ** 2).sum() / (y**2).sum().clamp_min(1e-12)
                )
    errors /= len(parts) * len(matrices)
    best = int(errors.argmin())
    everything = np.concatenate(parts)
    low, high = everything.min(0).astype(np.float64), everything.max(0).astype(np.float64)
    before = min(e for e, c in zip(errors, grid, strict=True) if c.method == "identity")
    return Choice(
        grid[best], compute_factors(site, grid[best], low, high), float(errors[best]), float(before)
    )


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
