"""Scale salient weight channels up before they are rounded in groups (AWQ; Lin et al. 2024, section 3.2).

x -> x / t and W -> W t with t from the mean magnitude of the activations: channels that matter get a finer share of
their group's scale. The strength is searched per site on the error of the readers' outputs with the weights rounded to
nearest as the recipe says, activations as the recipe rounds them. Query heads that share a value head share the mean of
their factors. EXACT. Off unless a recipe asks for it: with compensated rounding (GPTQ) it gained nothing more on the
models measured.
"""

from __future__ import annotations

from qcompiler.passes.base import Kind
from qcompiler.recipe import Recipe

from .choose_factors import Candidate, candidates
from .factor_search import FactorSearch, SearchConfig
from .site_rounding import STATIC, SiteRounding


class ScaleConfig(SearchConfig):
    """ratios: exponents r of t = mean|x|^r. Multiplies at run time are off: they would cost what the weights save."""

    ratios: tuple[float, ...] = tuple(round(0.1 * k, 1) for k in range(1, 10))
    multiply: bool = False


class ScaleWeights(FactorSearch):
    """See the module docstring."""

    name = "scale_weights"
    kind = Kind.EXACT

    def __init__(self, config: ScaleConfig | None = None, recipe: Recipe | None = None) -> None:
        super().__init__(config or ScaleConfig(), recipe)

    def grid(self) -> list[Candidate]:
        """Strengths of AWQ."""
        return candidates((), (), self.config.ratios)

    def why_not_rounding(self, rounding: SiteRounding) -> str:
        """Static ranges belong to `smooth_activations`."""
        return "its readers have static ranges" if rounding.activation == STATIC else ""
