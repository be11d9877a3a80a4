"""Smooth activations: x -> (x - z) / t and W -> W t at every site where that lowers the rounding error.

EXACT: only the representation changes. Which factors a site gets (SmoothQuant, Outlier Suppression+, or none) is
measured by cross-validation over calibration samples. What stays real, or has real activations, is left alone:
smoothing costs the weights accuracy and would bring nothing.
"""

from __future__ import annotations

from qcompiler.passes.base import Kind
from qcompiler.recipe import Recipe

from .choose_factors import Candidate, candidates
from .factor_search import FactorSearch, SearchConfig
from .site_rounding import REAL, SiteRounding


class SmoothConfig(SearchConfig):
    """Grid of `smooth_activations`: SmoothQuant strengths, and Outlier Suppression+ thresholds as shares of the widest channel."""

    alphas: tuple[float, ...] = (0.4, 0.55, 0.7, 0.85)
    thresholds: tuple[float, ...] = (0.6, 0.4, 0.25, 0.15, 0.1, 0.06)


class SmoothActivations(FactorSearch):
    """See the module docstring."""

    name = "smooth_activations"
    kind = Kind.EXACT

    def __init__(self, config: SmoothConfig | None = None, recipe: Recipe | None = None) -> None:
        super().__init__(config or SmoothConfig(), recipe)

    def grid(self) -> list[Candidate]:
        """Both methods."""
        return candidates(self.config.alphas, self.config.thresholds)

    def why_not_rounding(self, rounding: SiteRounding) -> str:
        """Real activations are not smoothed."""
        return "its readers take real activations" if rounding.activation == REAL else ""
