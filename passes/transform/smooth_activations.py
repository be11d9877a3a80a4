"""Smooth activations: x -> (x - z) / t and W -> W t at every site where that lowers the rounding error.

EXACT: only the representation changes. Which factors a site gets (SmoothQuant, Outlier Suppression+, or none) is
measured by cross-validation over calibration samples (`choose_factors`) and recorded as a decision.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field

from qcompiler.ir import Graph, Level
from qcompiler.passes.base import Context, Kind, Note, Pass, PassConfig, Result

from .choose_factors import Choice, candidates, choose_factors
from .fold import Factors, apply_factors
from .groups import MULTIPLY, Site, find_sites
from .site_rows import collect_rows


class SmoothConfig(PassConfig):
    """Grid of `smooth_activations`.

    Attributes:
        alphas: SmoothQuant strengths.
        thresholds: Outlier Suppression+ thresholds as shares of the widest channel.
        headroom: factor on the calibrated range in the score, for what calibration has not seen.
        multiply: also smooth tensors that need an explicit multiply at run time.
        min_gain_db: gain of the cross-validated error that a site must reach to be taken.
        rows: most rows of a tensor that are scored.
        bits: of activation and weights in the score.
    """

    alphas: tuple[float, ...] = (0.4, 0.55, 0.7, 0.85)
    thresholds: tuple[float, ...] = (0.6, 0.4, 0.25, 0.15, 0.1, 0.06)
    headroom: float = Field(1.15, ge=1)
    multiply: bool = True
    min_gain_db: float = Field(0.5, ge=0, json_schema_extra={"search": [0.2, 0.5, 1.0]})
    rows: int = Field(256, ge=16)
    bits: int = Field(8, ge=2, le=8)


class SmoothActivations(Pass):
    """See the module docstring."""

    name = "smooth_activations"
    kind = Kind.EXACT
    requires = (Level.FLOAT,)

    def __init__(self, config: SmoothConfig | None = None) -> None:
        self.config = config or SmoothConfig()

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
        wanted = [s for s in sites if self.config.multiply or s.fold != MULTIPLY]
        notes += [
            Note(s.name, False, "needs a multiply at run time, and multiply is off")
            for s in sites
            if s not in wanted
        ]
        rows = collect_rows(graph, [s.value for s in wanted], context.samples, self.config.rows)
        chosen: dict[Site, Choice] = {}
        for done, site in enumerate(wanted):
            context.progress(self.name, done, len(wanted))
            grid = candidates(self.config.alphas, self.config.thresholds)
            choice = choose_factors(site, rows.pop(site.value), grid, self.config.bits, self.config.headroom)
            gain = float(10 * np.log10(max(choice.error_before, 1e-30) / max(choice.error, 1e-30)))
            how = f"{choice.candidate.method} {choice.candidate.strength}"
            data = {"method": choice.candidate.method, "gain_db": round(gain, 2)}
            if choice.candidate.method == "identity" or gain < self.config.min_gain_db:
                reason = f"{how} gains {gain:.2f} dB, needs {self.config.min_gain_db}"
                notes.append(Note(site.name, False, reason, data))
                continue
            notes.append(Note(site.name, True, f"{site.fold}: {how}", data))
            chosen[site] = choice
        return chosen


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
