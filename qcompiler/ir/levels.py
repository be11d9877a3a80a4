"""Levels of a graph, from what was captured to what a target runs."""

from __future__ import annotations

from enum import Enum


class Level(Enum):
    """FLOAT: as captured. QUANTIZED: integer programs with float32 rescale and float islands.

    INTEGER: no float anywhere. LEGAL: a target's packing and layouts.
    """

    FLOAT = "float"
    QUANTIZED = "quantized"
    INTEGER = "integer"
    LEGAL = "legal"
