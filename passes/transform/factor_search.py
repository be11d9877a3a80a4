"""Passes that choose factors per site from a grid and fold them: what smoothing and weight scaling share.

Each site is scored with the rounding that the recipe and the target mean for its readers (`choose_factors`), the choice
is recorded as a decision, and a lock replays it without data.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from pydantic import Field

from qcompiler.ir import Graph
from qcompiler.passes.base import Context, Note, Pass, PassConfig, Result
from qcompiler.recipe import Recipe

from .choose_factors import Candidate, Choice, choose_factors
from .fold import Factors, apply_factors
from .groups import MULTIPLY, Site, find_sites, residual_sums, scored_values
from .site_rounding import SiteRounding, readers_rounding
from .site_rows import rows_of


class SearchConfig(PassConfig):
    """What all of them take.

    Attributes:
        headroom: factor on the calibrated range in the score, for what calibration has not seen.
        multiply: also look at tensors that need an explicit multiply at run time.
        min_gain_db: gain of the cross-validated error that a site must reach to be taken.
        rows: most rows of a tensor that are scored.
    """

    headroom: float = Field(1.15, ge=1)
    multiply: bool = True
    min_gain_db: float = Field(0.5, ge=0, json_schema_extra={"search": [0.2, 0.5, 1.0]})
    rows: int = Field(256, ge=16)


class FactorSearch(Pass):
    """Base of the passes; they say which candidates there are and which sites they look at."""

    config: Any

    def __init__(self, config: SearchConfig, recipe: Recipe | None) -> None:
        self.config = config
        self.recipe = recipe or Recipe()

    @abstractmethod
    def grid(self) -> list[Candidate]:
        """Candidates, "identity" first."""

    @abstractmethod
    def why_not_rounding(self, rounding: SiteRounding) -> str:
        """Why sites that round so are left alone, "" if they are not."""

    def run(self, graph: Graph, context: Context) -> Result:
        """Needs `context.samples`, or the decisions of a lock file."""
        sites, notes = find_sites(graph)
        if context.locked is not None:
            chosen = _from_lock(sites, context.locked.get(self.name, {}))
        else:
            choices = self._measure(graph, sites, context, notes)
            chosen = {s: c.factors for s, c in choices.items()}
            context.decisions[self.name] = {s.name: _to_lock(c) for s, c in choices.items()}
        result = apply_factors(graph, chosen, self.name)
        return Result(result, result is not graph, tuple(notes))

    def _measure(
        self, graph: Graph, sites: list[Site], context: Context, notes: list[Note]
    ) -> dict[Site, Choice]:
        wanted: dict[Site, SiteRounding] = {}
        for site in sites:
            rounding = readers_rounding(site, self.recipe, context)
            reason = self._why_not(site, rounding)
            if reason:
                notes.append(Note(site.name, False, reason))
            elif rounding is not None:
                wanted[site] = rounding
        if not wanted:
            return {}
        sums = {s: residual_sums(graph, s) for s in wanted}
        rows = rows_of(graph, scored_values(sums), context, self.config.rows)
        grid = self.grid()
        chosen: dict[Site, Choice] = {}
        for done, (site, rounding) in enumerate(wanted.items()):
            context.progress(self.name, done, len(wanted))
            references = [None if v is None else rows[v] for v in sums[site]]
            choice = choose_factors(site, rows[site.value], grid, rounding, self.config.headroom, sums=references)
            how = f"{choice.candidate.method} {choice.candidate.strength}"
            data = {"method": choice.candidate.method, "gain_db": round(choice.gain_db, 2)}
            if choice.candidate.method == "identity" or choice.gain_db < self.config.min_gain_db:
                reason = f"{how} gains {choice.gain_db:.2f} dB, needs {self.config.min_gain_db}"
                notes.append(Note(site.name, False, reason, data))
                continue
            notes.append(Note(site.name, True, f"{site.fold}: {how}", data))
            chosen[site] = choice
        return chosen

    def _why_not(self, site: Site, rounding: SiteRounding | None) -> str:
        if rounding is None:
            return "its readers stay in float"
        if site.fold == MULTIPLY and not self.config.multiply:
            return "needs a multiply at run time, and multiply is off"
        return self.why_not_rounding(rounding)


def _to_lock(choice: Choice) -> dict[str, Any]:
    f = choice.factors
    return {
        "method": choice.candidate.method,
        "t": [float(v) for v in f.t],
        "z": [float(v) for v in f.z] if f.z.any() else [],
    }


def _from_lock(sites: list[Site], entries: dict[str, Any]) -> dict[Site, Factors]:
    result = {}
    for site in sites:
        entry = entries.get(site.name)
        if entry is not None:
            t = np.array(entry["t"], np.float64)
            result[site] = Factors(t, np.array(entry["z"] or np.zeros(t.size), np.float64))
    return result
