"""Sensitivity providers, and how well each one's sums agree with what is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from qcompiler.errors import UsageError, did_you_mean
from qcompiler.search.sensitivity.base import Provider, Sensitivity
from qcompiler.search.sensitivity.from_weights import BlockSimilarity, LayerOutput, WeightError
from qcompiler.search.sensitivity.hessian import HutchinsonTrace
from qcompiler.search.sensitivity.one_at_a_time import MaskedDivergence, MeasuredLoss, OutputDivergence

if TYPE_CHECKING:
    from qcompiler.search.space import Config, Space

__all__ = ["LEAST_CONFIGURATIONS", "Correlation", "Provider", "Sensitivity", "correlate", "get_provider", "provider_names"]

LEAST_CONFIGURATIONS = 30
"""Random configurations below which a rank correlation says nothing."""

_PROVIDERS: dict[str, type[Provider]] = {
    p.name: p
    for p in (WeightError, BlockSimilarity, LayerOutput, OutputDivergence, MeasuredLoss, HutchinsonTrace, MaskedDivergence)
}


def provider_names() -> dict[str, str]:
    """Name -> what it needs."""
    return {name: p.needs for name, p in _PROVIDERS.items()}


def get_provider(name: str) -> Provider:
    """A provider with its usual settings.

    Raises:
        UsageError: unknown name.
    """
    if name not in _PROVIDERS:
        known = ", ".join(_PROVIDERS)
        raise UsageError(f"unknown sensitivity {name!r}; known: {known}.{did_you_mean(name, _PROVIDERS)}")
    return _PROVIDERS[name]()


@dataclass(frozen=True)
class Correlation:
    """Rank correlation between summed sensitivities and measured losses.

    Attributes:
        provider: name.
        spearman, kendall: over the configurations; NaN where one side is constant.
        configurations: how many.
    """

    provider: str
    spearman: float
    kendall: float
    configurations: int


def correlate(
    found: Sensitivity, space: Space, configs: Sequence[Config], losses: Sequence[float]
) -> Correlation:
    """How well the sums rank configurations.

    Raises:
        UsageError: fewer than `LEAST_CONFIGURATIONS`.
    """
    from scipy import stats

    if len(configs) < LEAST_CONFIGURATIONS:
        raise UsageError(f"a rank correlation needs {LEAST_CONFIGURATIONS} configurations, got {len(configs)}")
    sums = np.array([found.of(space, c) for c in configs])
    constant = np.ptp(sums) == 0 or np.ptp(losses) == 0
    spearman = float("nan") if constant else float(stats.spearmanr(sums, losses).statistic)
    kendall = float("nan") if constant else float(stats.kendalltau(sums, losses).statistic)
    return Correlation(found.provider, spearman, kendall, len(configs))
