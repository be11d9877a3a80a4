"""A histogram whose grid adapts to the data and still merges exactly, and the observers built on it.

Grid: bins of width w = 2**e with edges at integer multiples of w. The exponent e is the smallest for which
`bins` bins cover [min, max] of all data so far, so between bins/2 and bins of them are used. Bin k of a
coarser grid is the union of bins of the finer one (k >> 1), and computing floor(x / 2**e) is exact in
float32. The counts are therefore a function of the multiset of observed elements only: order, batching and
merging do not change a single count. Memory: `bins` int64 per observer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from .observation import Observation, grid_exponent
from .observers import RangeObserver
from .range_search import entropy_range, mse_range

if TYPE_CHECKING:
    from typing import Self

    from qcompiler.ir import DType

NO_COUNTS = np.zeros(0, np.int64)


@dataclass
class HistogramObserver(RangeObserver):
    """Counts on the adaptive grid, with the exact minimum and maximum.

    bins: upper bound on the number of bins, at least 2.
    every: count each `every`-th element of a sample only, in memory order; minimum and maximum
        still see all. A prime keeps it from falling in step with channels.
    """

    bins: int = 2048
    every: int = 1
    lo: float = field(default=math.inf, init=False, compare=False, repr=False)
    hi: float = field(default=-math.inf, init=False, compare=False, repr=False)
    exponent: int = field(default=-100, init=False, compare=False, repr=False)
    start: int = field(default=0, init=False, compare=False, repr=False)
    counts: np.ndarray = field(default_factory=lambda: NO_COUNTS, init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.bins < 2 or self.every < 1:
            raise ValueError(f"bins must be >= 2 and every >= 1, got {self.bins} and {self.every}")

    @property
    def edges(self) -> np.ndarray:
        """Edges of the bins, float64 [len(counts) + 1]; the outer two are the exact minimum and maximum."""
        edges = np.ldexp(
            np.arange(self.start, self.start + len(self.counts) + 1, dtype=np.float64), self.exponent
        )
        edges[0], edges[-1] = self.lo, self.hi
        return edges

    def folded(self) -> tuple[np.ndarray, np.ndarray]:
        """(edges, counts) of |x|. Exact: edges are multiples of the width, bin k < 0 falls on -k - 1."""
        index = self.start + np.arange(len(self.counts))
        positive = np.where(index < 0, -index - 1, index)
        first, last = int(positive.min()), int(positive.max())
        counts = np.zeros(last - first + 1, np.int64)
        np.add.at(counts, positive - first, self.counts)
        edges = np.ldexp(np.arange(first, last + 2, dtype=np.float64), self.exponent)
        edges[-1] = max(abs(self.lo), abs(self.hi))
        edges[0] = 0.0 if self.lo <= 0 <= self.hi else min(abs(self.lo), abs(self.hi))
        return edges, counts

    def _update(self, observation: Observation) -> None:
        lo, hi = observation.bounds()
        self._add(lo, hi, *observation.histogram(self.bins, self.every))

    def _merge(self, other: Self) -> None:
        self._add(other.lo, other.hi, other.exponent, other.start, other.counts)

    def _add(self, lo: float, hi: float, exponent: int, start: int, counts: np.ndarray) -> None:
        lo, hi = min(self.lo, lo), max(self.hi, hi)
        target = grid_exponent(lo, hi, self.bins)
        first = math.floor(math.ldexp(lo, -target))
        total = np.zeros(math.floor(math.ldexp(hi, -target)) - first + 1, np.int64)
        for e, s, c in ((self.exponent, self.start, self.counts), (exponent, start, counts)):
            if len(c):
                at, coarse = _coarsen(s, c, target - e)
                total[at - first : at - first + len(coarse)] += coarse
        self.lo, self.hi, self.exponent, self.start, self.counts = lo, hi, target, first, total


def _coarsen(start: int, counts: np.ndarray, levels: int) -> tuple[int, np.ndarray]:
    """(start, counts) on the grid that is 2**levels times as wide, levels >= 0."""
    if levels == 0:
        return start, counts
    # Indices are below 2**23, so a shift by 62 already gives 0 or -1; larger shifts are undefined in C.
    index = (start + np.arange(len(counts), dtype=np.int64)) >> min(levels, 62)
    groups = np.flatnonzero(np.diff(index, prepend=index[0] - 1))
    return int(index[0]), np.add.reduceat(counts, groups)


@dataclass
class Percentile(HistogramObserver):
    """The range that leaves out (100 - percentile) % of the elements, half at each end.

    Symmetric: the percentile of |x|. Interpolates linearly within a bin; the error is below one bin width.
    Never clip activations of transformer residual paths by percentile without looking: a handful of massive
    values carry the result there.
    """

    percentile: float = 99.99

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.percentile <= 100:
            raise ValueError(f"percentile must be in (0, 100], got {self.percentile}")

    def range(self, dtype: DType, symmetric: bool) -> tuple[float, float]:
        self.require_data()
        if symmetric:
            top = _quantile(*self.folded(), self.percentile / 100)
            return -top, top
        tail = (1 - self.percentile / 100) / 2
        return _quantile(self.edges, self.counts, tail), _quantile(self.edges, self.counts, 1 - tail)


@dataclass
class HistogramMSE(HistogramObserver):
    """The range with the least mean squared error (rounding and clipping) on the histogram."""

    def range(self, dtype: DType, symmetric: bool) -> tuple[float, float]:
        self.require_data()
        return mse_range(self.edges, self.counts, dtype, symmetric)


@dataclass
class Entropy(HistogramObserver):
    """The range with the least Kullback-Leibler divergence between the histogram and its quantized form."""

    def range(self, dtype: DType, symmetric: bool) -> tuple[float, float]:
        self.require_data()
        return entropy_range(self.edges, self.counts, dtype, symmetric)


def _quantile(edges: np.ndarray, counts: np.ndarray, q: float) -> float:
    cumulative = np.concatenate(([0], np.cumsum(counts)))
    wanted = q * cumulative[-1]
    bin_ = int(np.clip(np.searchsorted(cumulative, wanted, side="left") - 1, 0, len(counts) - 1))
    if q <= 0:
        bin_ = int(np.flatnonzero(counts)[0])
    part = (wanted - cumulative[bin_]) / max(int(counts[bin_]), 1)
    return float(edges[bin_] + part * (edges[bin_ + 1] - edges[bin_]))
