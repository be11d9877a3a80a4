"""Choice of per-channel factors for one site, scored by cross-validation over calibration samples.

Candidates, from statistics of x and of the readers' weights:

    smooth     t_j = max|X_j|^a / max|W_j|^(1-a)                  SmoothQuant (Xiao et al. 2023, eq. 4)
    threshold  t_j = max(1, |X_j - z_j| / threshold) after the shift z_j = (max_j + min_j) / 2 where the site takes
               one                                                Outlier Suppression+ (Wei et al. 2023, section 4.2)
    average    t_j = mean|X_j|^r / sqrt(max t min t)              AWQ (Lin et al. 2024, section 3.2)

A candidate is computed on all samples but one fold and scored on that fold, with ranges widened by a headroom for what
was not seen: factors scored on the data they were chosen from overfit outliers. The score is the error of the readers'
outputs with activation and weights rounded, relative to the power of each row: of the reader's own output, or of the
residual sum that the output is added to. What follows a residual sum is a norm, which divides every token by its size
there; a token whose sum is massive does not care about an error that would drown another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .fold import Factors
from .groups import Site, tied_max, tied_mean, weights
from .site_rounding import SiteRounding
from .site_rows import SampleRows

MIN_FACTOR = 1e-5
HEADROOM = 1.15


@dataclass(frozen=True)
class Candidate:
    """How factors are computed: method ("identity", "smooth", "threshold" or "average") and its strength."""

    method: str
    strength: float = 0.0


@dataclass(frozen=True)
class Choice:
    """The winner of one site with its cross-validated error and that of doing nothing (relative power)."""

    candidate: Candidate
    factors: Factors
    error: float
    error_before: float

    @property
    def gain_db(self) -> float:
        """Error of doing nothing over that of the winner."""
        return float(10 * np.log10(max(self.error_before, 1e-30) / max(self.error, 1e-30)))


def candidates(
    alphas: Sequence[float], thresholds: Sequence[float] = (), ratios: Sequence[float] = ()
) -> list[Candidate]:
    """The grid, "identity" first."""
    return [
        Candidate("identity"),
        *(Candidate("smooth", a) for a in alphas),
        *(Candidate("threshold", t) for t in thresholds),
        *(Candidate("average", r) for r in ratios),
    ]


@dataclass(frozen=True)
class ChannelStatistics:
    """Per-channel extrema and mean magnitude of x, float64 [K]."""

    low: np.ndarray
    high: np.ndarray
    size: np.ndarray

    @staticmethod
    def of(samples: Sequence[SampleRows]) -> ChannelStatistics:
        """Of some samples; the mean is taken over their kept rows."""
        size = np.mean([np.abs(s.rows).mean(0) for s in samples], 0)
        low, high = np.min([s.low for s in samples], 0), np.max([s.high for s in samples], 0)
        return ChannelStatistics(low.astype(np.float64), high.astype(np.float64), size.astype(np.float64))


def compute_factors(site: Site, candidate: Candidate, seen: ChannelStatistics) -> Factors:
    """Factors of a candidate from statistics of x."""
    width = site.width
    if candidate.method == "identity":
        return Factors.none(width)
    if candidate.method == "smooth":
        peak = np.maximum(np.maximum(-seen.low, seen.high), MIN_FACTOR)
        w = np.max([np.abs(m).max(0) for m in weights(site)], 0)
        t = peak**candidate.strength / np.maximum(w, MIN_FACTOR) ** (1 - candidate.strength)
        t = np.maximum(t, MIN_FACTOR)
        # The common factor is free: the activation's own scale absorbs it.
        t /= np.exp(np.mean(np.log(t)))
        return Factors(tied_max(site, t), np.zeros(width))
    if candidate.method == "average":
        t = np.maximum(tied_mean(site, seen.size) ** candidate.strength, 1e-4)
        return Factors(t / np.sqrt(t.max() * t.min()), np.zeros(width))
    centre = (seen.low + seen.high) / 2 if site.shift else np.zeros(width)
    reach = np.maximum(seen.high - centre, centre - seen.low)
    threshold = max(float(candidate.strength * reach.max()), MIN_FACTOR)
    return Factors(tied_max(site, np.maximum(1.0, reach / threshold)), centre)


def choose_factors(
    site: Site,
    samples: Sequence[SampleRows],
    grid: Sequence[Candidate],
    rounding: SiteRounding | None = None,
    headroom: float = HEADROOM,
    folds: int = 2,
    sums: Sequence[Sequence[SampleRows] | None] = (),
) -> Choice:
    """The candidate with the least cross-validated error; arguments are those of `score_candidates`."""
    errors = score_candidates(site, samples, grid, rounding, headroom, folds, sums)
    best = int(errors.argmin())
    factors = compute_factors(site, grid[best], ChannelStatistics.of(samples))
    return Choice(grid[best], factors, float(errors[best]), float(errors[0]))


def score_candidates(
    site: Site,
    samples: Sequence[SampleRows],
    grid: Sequence[Candidate],
    rounding: SiteRounding | None = None,
    headroom: float = HEADROOM,
    folds: int = 2,
    sums: Sequence[Sequence[SampleRows] | None] = (),
) -> np.ndarray:
    """Cross-validated error of each candidate, as a share of each row's power; float64 [candidates].

    Args:
        site: the tensor and its readers.
        samples: rows of x by calibration sample, as `site_rows.collect_rows` gives them.
        grid: candidates, "identity" first.
        rounding: of activation and weights; 8 bits each, static, if not given.
        headroom: factor on the range of the activation, as calibration may leave it.
        folds: of the cross-validation; with fewer samples than folds, rows are split instead.
        sums: per reader, the same rows of the residual sum that its output enters, None where there is none.

    Raises:
        ValueError: no rows at all.
    """
    rounding = rounding or SiteRounding()
    parts = _split(samples, folds)
    references = [None if s is None else _split(s, folds) for s in sums] or [None] * len(site.readers)
    matrix = np.concatenate(list(weights(site)))
    rows = torch.from_numpy(matrix.astype(np.float32))
    splits = [len(w) for w in weights(site)]
    errors = np.zeros(len(grid))
    for held, part in enumerate(parts):
        seen = ChannelStatistics.of([s for i, p in enumerate(parts) for s in p if i != held])
        test = torch.from_numpy(np.concatenate([sample.rows for sample in part]))
        exact = test @ rows.T
        power = _row_power(exact, splits)
        for reader, reference in enumerate(references):
            if reference is not None:
                added = torch.from_numpy(np.concatenate([sample.rows for sample in reference[held]]))
                power[reader] = (added**2).sum(1)
        for index, candidate in enumerate(grid):
            f = compute_factors(site, candidate, seen)
            t, z = torch.from_numpy(f.t.astype(np.float32)), torch.from_numpy(f.z.astype(np.float32))
            low, high = ((seen.low - f.z) / f.t).min() * headroom, ((seen.high - f.z) / f.t).max() * headroom
            x = rounding.activations((test - z) / t, float(low), float(high))
            offset = torch.from_numpy((matrix @ f.z).astype(np.float32)) if f.z.any() else 0.0
            wrong = x @ rounding.weights(rows * t).T + offset - exact
            errors[index] += float((_row_power(wrong, splits) / power.clamp_min(1e-12)).mean()) / len(parts)
    return errors


def _row_power(y: torch.Tensor, splits: list[int]) -> torch.Tensor:
    """Power [readers, n] of each row at each reader."""
    return torch.stack([(part**2).sum(1) for part in y.split(splits, 1)])


def _split(samples: Sequence[SampleRows], folds: int) -> list[list[SampleRows]]:
    if not samples:
        raise ValueError("no calibration rows")
    if len(samples) < folds:
        rows = np.concatenate([s.rows for s in samples])
        halves = [rows[i::folds] for i in range(folds)] if len(rows) >= folds else [rows] * folds
        return [[SampleRows.of(half)] for half in halves]
    return [list(samples[i::folds]) for i in range(folds)]
