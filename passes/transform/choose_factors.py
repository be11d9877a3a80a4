"""Choice of per-channel factors for one site, scored by cross-validation over calibration samples.

Candidates are SmoothQuant's t_j = max|X_j|^a / max|W_j|^(1-a) over a grid of a (Xiao et al. 2023, eq. 4) and
Outlier Suppression+'s scale max(1, |X_j - z_j| / threshold) over a grid of thresholds, after the shift
z_j = (max_j + min_j) / 2 where the site takes one (Wei et al. 2023, section 4.2). A candidate is computed on all
samples but one fold and scored on that fold, with ranges widened by a headroom for what was not seen: factors scored
on the data they were chosen from overfit outliers. The score is the error of the readers' outputs with activation and
weights rounded, relative to the power of each row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .fold import Factors
from .groups import Site, tied_max, weights
from .site_rows import SampleRows

MIN_FACTOR = 1e-5


@dataclass(frozen=True)
class Candidate:
    """How factors are computed from statistics: method ("identity", "smooth" or "threshold") and its strength."""

    method: str
    strength: float = 0.0


@dataclass(frozen=True)
class Choice:
    """The winner of one site with its cross-validated error and that of doing nothing (relative power)."""

    candidate: Candidate
    factors: Factors
    error: float
    error_before: float


def candidates(alphas: Sequence[float], thresholds: Sequence[float]) -> list[Candidate]:
    """The grid, "identity" first."""
    smooth = [Candidate("smooth", a) for a in alphas]
    return [Candidate("identity"), *smooth, *(Candidate("threshold", t) for t in thresholds)]


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
        return Factors(tied_max(site, t), np.zeros(width))
    centre = (low + high) / 2 if site.shift else np.zeros(width)
    reach = np.maximum(high - centre, centre - low)
    threshold = max(float(candidate.strength * reach.max()), MIN_FACTOR)
    return Factors(tied_max(site, np.maximum(1.0, reach / threshold)), centre)


def choose_factors(
    site: Site,
    samples: Sequence[SampleRows],
    grid: Sequence[Candidate],
    bits: int = 8,
    headroom: float = 1.15,
    folds: int = 2,
) -> Choice:
    """The candidate with the least cross-validated error.

    Args:
        site: the tensor and its readers.
        samples: rows of x by calibration sample, as `site_rows.collect_rows` gives them.
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
        low, high = _extrema([s for i, p in enumerate(parts) for s in p if i != held])
        test = torch.from_numpy(np.concatenate([sample.rows for sample in part]))
        exact = test @ rows.T
        power = _row_power(exact, splits)
        for index, candidate in enumerate(grid):
            f = compute_factors(site, candidate, low, high)
            t, z = torch.from_numpy(f.t.astype(np.float32)), torch.from_numpy(f.z.astype(np.float32))
            bounds = ((low - f.z) / f.t).min() * headroom, ((high - f.z) / f.t).max() * headroom
            x = _round_tensor((test - z) / t, *bounds, bits)
            offset = torch.from_numpy((matrix @ f.z).astype(np.float32))
            wrong = x @ _round_rows(rows * t, bits).T + offset - exact
            errors[index] += float((_row_power(wrong, splits) / power.clamp_min(1e-12)).mean()) / len(parts)
    best = int(errors.argmin())
    factors = compute_factors(site, grid[best], *_extrema(samples))
    return Choice(grid[best], factors, float(errors[best]), float(errors[0]))


def _row_power(y: torch.Tensor, splits: list[int]) -> torch.Tensor:
    """Power [readers, n] of each row at each reader.

    Errors count relative to their own row: a few massive tokens would otherwise decide alone, and the next norm
    divides every token by its own size.
    """
    return torch.stack([(part**2).sum(1) for part in y.split(splits, 1)])


def _extrema(samples: Sequence[SampleRows]) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.min([s.low for s in samples], 0), np.max([s.high for s in samples], 0)
    return low.astype(np.float64), high.astype(np.float64)


def _split(samples: Sequence[SampleRows], folds: int) -> list[list[SampleRows]]:
    if not samples:
        raise ValueError("no calibration rows")
    if len(samples) < folds:
        rows = np.concatenate([s.rows for s in samples])
        halves = [rows[i::folds] for i in range(folds)] if len(rows) >= folds else [rows] * folds
        return [[SampleRows.of(half)] for half in halves]
    return [list(samples[i::folds]) for i in range(folds)]


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
