"""Rotate each value head: V -> V R_h, folded into the value projection and the output projection.

Spreads the outliers of what the output projection reads at no run-time cost (QuaRot stage 1b, SpinQuant's R2 without
the operation across heads). Query heads that share a value head share its rotation. EXACT: folded in float64. Off
unless a recipe asks for it.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from qcompiler.ir import Graph
from qcompiler.passes.base import Context, Kind, Note, Pass, PassConfig, Result

from .fold_rotation import rotate_heads
from .groups import VALUE, Site, find_sites, free_factors
from .orthogonal import RotationKind, rotation


class RotateValuesConfig(PassConfig):
    """rotation: as in `rotate_residual`."""

    rotation: RotationKind = Field("hadamard", json_schema_extra={"search": ["hadamard", "random"]})


class RotateValues(Pass):
    """See the module docstring."""

    name = "rotate_values"
    kind = Kind.EXACT

    def __init__(self, config: RotateValuesConfig | None = None) -> None:
        self.config = config or RotateValuesConfig()

    def run(self, graph: Graph, context: Context) -> Result:
        """Rotate every value projection whose attention is read by output projections only."""
        sites, notes = find_sites(graph)
        rng = context.rng(self.name)
        rotations: dict[Site, np.ndarray] = {}
        for site in (s for s in sites if s.fold == VALUE):
            width = free_factors(site) // site.heads
            found = [rotation(width, self.config.rotation, rng) for _ in range(site.heads)]
            rotations[site] = np.stack([f.matrix for f in found])
            notes.append(Note(site.name, True, found[0].note, {"heads": site.heads, "width": width}))
        result = rotate_heads(graph, rotations, self.name)
        return Result(result, result is not graph, tuple(notes))

