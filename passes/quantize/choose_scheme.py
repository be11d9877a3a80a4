"""Choose static, dynamic or weight-only for each linear layer that the recipe leaves open (`scheme: auto`).

Every tensor that such layers read is scored under each scheme: the error of the layers' outputs, cross-validated over
calibration samples, relative to the power of each row (`transform.choose_factors`). Static and dynamic count with the
best smoothing of their grid, weight-only with none: what keeps real activations is left unsmoothed.

Static is the cheapest and has the largest error. Layers move up, one step at a time, in the order of the error that
the step takes away per site, until the sum over all sites is within `slack_db` of what the best scheme everywhere would
give. The choice is recorded as a decision; `context.tables["schemes"]` hands it to the passes that follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import Field

from qcompiler.errors import UsageError
from qcompiler.ir import Graph
from qcompiler.passes.base import Context, Kind, Note, Pass, PassConfig, Result
from qcompiler.passes.transform.choose_factors import HEADROOM, candidates, score_candidates
from qcompiler.passes.transform.groups import MULTIPLY, Site, find_sites, residual_sums, scored_values
from qcompiler.passes.transform.site_rounding import REAL, SCHEMES, site_rounding
from qcompiler.passes.transform.site_rows import SITE_ROWS, collect_rows
from qcompiler.recipe import Recipe

ORDER = ("static", "dynamic", "weight_only")
"""From the cheapest to the most exact."""


class SchemeConfig(PassConfig):
    """How to decide.

    Attributes:
        slack_db: how far the sum of errors may stay above that of the most exact scheme everywhere.
        alphas, thresholds: smoothing that a static or dynamic site may expect, as in `smooth_activations`.
        multiply: sites that need a multiply at run time may expect it too.
        rows: most rows of a tensor that are scored.
    """

    slack_db: float = Field(1.0, gt=0, json_schema_extra={"search": [0.5, 1.0, 2.0]})
    alphas: tuple[float, ...] = (0.4, 0.55, 0.7, 0.85)
    thresholds: tuple[float, ...] = (0.25, 0.1)
    multiply: bool = True
    rows: int = Field(256, ge=16)


class ChooseScheme(Pass):
    """Fills `context.tables["schemes"]`: module path -> scheme."""

    name = "choose_scheme"
    kind = Kind.EXACT

    def __init__(self, config: SchemeConfig | None = None, recipe: Recipe | None = None) -> None:
        self.config = config or SchemeConfig()
        self.recipe = recipe or Recipe()

    def run(self, graph: Graph, context: Context) -> Result:
        """Decide, or replay the decision of a lock. Rows are left for the smoothing that follows.

        Raises:
            UsageError: the recipe leaves layers open and there is no calibration data.
        """
        sites, _ = find_sites(graph)
        opened = [s for s in sites if any(self._settings(n).scheme == "auto" for n in s.readers)]
        if not opened:
            return Result(graph, False)
        locked = (context.locked or {}).get(self.name)
        notes: list[Note] = []
        if locked is None:
            errors = self._errors(graph, opened, sites, context)
            chosen = assign_schemes([errors[s] for s in opened], self.config.slack_db)
            schemes = {}
            for site, scheme in zip(opened, chosen):
                figures = {f"{s}_db": round(10 * float(np.log10(max(e, 1e-30))), 2) for s, e in errors[site].items()}
                notes.append(Note(site.name, scheme != "static", scheme, figures))
                schemes |= {n.origin.module: scheme for n in site.readers if self._settings(n).scheme == "auto"}
        else:
            schemes = dict(locked["schemes"])
        context.tables[SCHEMES] = schemes
        context.decisions[self.name] = {"schemes": schemes}
        return Result(graph, False, tuple(notes))

    def _settings(self, node: Any) -> Any:
        return self.recipe.settings_for(node.origin.module, node.op)

    def _errors(
        self, graph: Graph, opened: Sequence[Site], every: Sequence[Site], context: Context
    ) -> dict[Site, dict[str, float]]:
        """Site -> scheme -> cross-validated error."""
        if context.samples is None:
            raise UsageError("`scheme: auto` is decided on calibration data; give some, or name a scheme")
        sums = {s: residual_sums(graph, s) for s in every}
        rows = collect_rows(graph, scored_values(sums), context.samples, self.config.rows)
        smoothing = self.recipe.smooth is not False
        grid = candidates(*((self.config.alphas, self.config.thresholds) if smoothing else ((), ())))
        found: dict[Site, dict[str, float]] = {}
        for done, site in enumerate(opened):
            context.progress(self.name, done, len(opened))
            settings = self._settings(next(n for n in site.readers if self._settings(n).scheme == "auto"))
            found[site] = {}
            for scheme in self._schemes(context):
                rounding = site_rounding(settings, self.recipe, context.target, scheme)
                assert rounding is not None
                free = rounding.activation != REAL and (self.config.multiply or site.fold != MULTIPLY)
                tried = grid if free else grid[:1]
                references = [None if v is None else rows[v] for v in sums[site]]
                scores = score_candidates(site, rows[site.value], tried, rounding, HEADROOM, sums=references)
                found[site][scheme] = float(scores.min())
        context.tables[SITE_ROWS] = rows
        return found

    def _schemes(self, context: Context) -> list[str]:
        target = context.target
        able = {
            "static": bool(target.kernels.get("linear")),
            "dynamic": bool(target.can("dynamic_linear")),
            "weight_only": bool(target.kernels.get("weight_only_linear")),
        }
        return [s for s in ORDER if able[s]]


def assign_schemes(errors: Sequence[dict[str, float]], slack_db: float) -> list[str]:
    """The cheapest schemes whose summed error is within `slack_db` of the least there is.

    Args:
        errors: per site, scheme -> error, cheapest scheme first. A dearer scheme that is no better is never taken.
        slack_db: see the module docstring.
    """
    steps = [_improving(site) for site in errors]
    place = [0] * len(steps)
    total = sum(s[0][1] for s in steps)
    goal = sum(s[-1][1] for s in steps) * 10 ** (slack_db / 10)
    while total > goal:
        gains = [s[p][1] - s[p + 1][1] if p + 1 < len(s) else -1.0 for s, p in zip(steps, place)]
        best = int(np.argmax(gains))
        total -= gains[best]
        place[best] += 1
    return [s[p][0] for s, p in zip(steps, place)]


def _improving(site: dict[str, float]) -> list[tuple[str, float]]:
    kept: list[tuple[str, float]] = []
    for scheme, error in site.items():
        if not kept or error < kept[-1][1]:
            kept.append((scheme, error))
    return kept
