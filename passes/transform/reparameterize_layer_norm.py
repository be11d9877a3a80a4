"""Turn per-channel ranges behind a layer norm into one range per tensor (RepQ-ViT; Li et al. 2023, section 3.2).

With asymmetric parameters (s_j, z_j) per channel and common ones s = mean s_j, z = round(mean z_j):

    x'_j = (x_j + s_j (z_j - z)) s / s_j        so that x'_j / s + z = x_j / s_j + z_j

Codes under (s, z) are those that per-channel quantization would give. Scale and shift go into the norm's weight and
bias, the inverse into the readers; z is rounded first, so that the codes agree exactly. An rms_norm takes no shift: there
the ranges are symmetric and only the scale moves. The common scale may be the median instead, which single outlier
channels do not move (DopQ-ViT's optimal scaling factor; Yang et al. 2024, section 3.3). EXACT: folded in float64.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from qcompiler.ir import Graph
from qcompiler.passes.base import Context, Kind, Note, Pass, PassConfig, Result
from qcompiler.recipe import Recipe

from .fold import Factors, apply_factors
from .groups import FORK, NORM, Site, find_sites
from .site_rounding import REAL, readers_rounding
from .site_rows import SampleRows, rows_of

SHRINK = np.linspace(1.0, 0.5, 11)
"""Factors on a channel's range that `clip: mse` tries."""


class ReparameterizeConfig(PassConfig):
    """How ranges per channel are taken and combined.

    Attributes:
        common: scale of the tensor from those of the channels.
        clip: "minmax", or per channel the shrunken range with the least squared error.
        rows: most rows of a tensor that ranges are taken from.
    """

    common: Literal["mean", "median"] = Field("mean", json_schema_extra={"search": ["mean", "median"]})
    clip: Literal["minmax", "mse"] = Field("minmax", json_schema_extra={"search": ["minmax", "mse"]})
    rows: int = Field(512, ge=16)


class ReparameterizeLayerNorm(Pass):
    """See the module docstring."""

    name = "reparameterize_layer_norm"
    kind = Kind.EXACT

    def __init__(self, config: ReparameterizeConfig | None = None, recipe: Recipe | None = None) -> None:
        self.config = config or ReparameterizeConfig()
        self.recipe = recipe or Recipe()

    def run(self, graph: Graph, context: Context) -> Result:
        """Needs `context.samples`, or the decisions of a lock file."""
        sites, notes = find_sites(graph)
        norms = [s for s in sites if s.fold in (NORM, FORK)]
        notes += [Note(s.name, False, f"{s.fold}: no norm computes its input") for s in sites if s not in norms]
        locked = (context.locked or {}).get(self.name)
        chosen: dict[Site, Factors] = {}
        wanted = []
        for site in norms:
            rounding = readers_rounding(site, self.recipe, context)
            if rounding is None or rounding.activation == REAL:
                notes.append(Note(site.name, False, "its readers do not round their operand"))
            elif locked is not None:
                if site.name in locked:
                    chosen[site] = Factors(*(np.array(locked[site.name][k], np.float64) for k in "tz"))
            else:
                wanted.append((site, rounding.activation_bits))
        if wanted:
            rows = rows_of(graph, [s.value for s, _ in wanted], context, self.config.rows)
            for site, bits in wanted:
                chosen[site] = reparameterization(rows[site.value], bits, site.shift, self.config)
        for site, f in chosen.items():
            notes.append(Note(site.name, True, self.config.common, {"largest": float(f.t.max()), "smallest": float(f.t.min())}))
        context.decisions[self.name] = {s.name: {"t": f.t.tolist(), "z": f.z.tolist()} for s, f in chosen.items()}
        result = apply_factors(graph, chosen, self.name)
        return Result(result, result is not graph, tuple(notes))


def reparameterization(
    samples: list[SampleRows], bits: int, shift: bool, config: ReparameterizeConfig
) -> Factors:
    """t_j = s_j / s and the shift -s_j (z_j - z); channels that are always zero keep t = 1."""
    low = np.minimum(np.min([s.low for s in samples], 0).astype(np.float64), 0)
    high = np.maximum(np.max([s.high for s in samples], 0).astype(np.float64), 0)
    if not shift:
        high = np.maximum(high, -low)
        low = -high
    levels = (1 << bits) - 1
    if config.clip == "mse":
        share = _least_squares(np.concatenate([s.rows for s in samples]).astype(np.float64), low, high, levels)
        low, high = low * share, high * share
    scale = (high - low) / levels
    alive = scale > 1e-6 * scale.max(initial=0)
    if not alive.any():
        return Factors.none(len(scale))
    zero = np.round(-low / np.where(alive, scale, 1))
    combine = np.mean if config.common == "mean" else np.median
    common, centre = float(combine(scale[alive])), np.round(zero[alive].mean())
    t = np.where(alive, scale / common, 1.0)
    z = np.where(alive, -scale * (zero - centre), 0.0) if shift else np.zeros(len(scale))
    return Factors(t, z)


def _least_squares(rows: np.ndarray, low: np.ndarray, high: np.ndarray, levels: int) -> np.ndarray:
    """Share [K] of each channel's range with the least squared error of rounding rows [n, K]."""
    best, least = np.ones(len(low)), np.full(len(low), np.inf)
    for share in SHRINK:
        scale = np.maximum((high - low) * share / levels, 1e-30)
        zero = np.round(-low * share / scale)
        codes = np.clip(np.round(rows / scale) + zero, 0, levels)
        error = np.square((codes - zero) * scale - rows).sum(0)
        best, least = np.where(error < least, share, best), np.minimum(error, least)
    return best
