"""The Pareto plot of a search as inline SVG: every trial by cost and loss, the fronts, and what was chosen."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from qcompiler.report.data import SearchPoint, SearchSection
from qcompiler.report.plot import COLOURS, as_svg, dress

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK, _MUTED, _, _, _LINE, _DOT, _PAPER = COLOURS
UNITS = {"latency_ms": ("latency, ms", 1.0), "latency_ratio": ("latency / float", 1.0)}


def search_svg(section: SearchSection) -> str:
    """Loss (noise over signal, logarithmic) over cost. Empty string without two points."""
    points = [p for p in section.points if math.isfinite(p.cost) and p.loss > 0]
    return as_svg((10.4, 3.6), lambda axes: _draw(axes, points, section.cost), "search-title") if len(points) > 1 else ""


def _draw(axes: Axes, points: list[SearchPoint], cost: str) -> None:
    label, unit = UNITS.get(cost, (cost.replace("_", " "), 1.0))
    if cost.endswith("_bytes"):
        large = max((p.cost for p in points), default=0.0) >= 1e6
        label, unit = f"{cost.removesuffix('_bytes')}, {'MB' if large else 'kB'}", 1e-6 if large else 1e-3
    axes.set_yscale("log")
    for kind, marker, colour in (("simulated or analytic", "o", _MUTED), ("measured", "s", _DOT)):
        chosen = [p for p in points if (p.kind == "measured") == (kind == "measured")]
        if not chosen:
            continue
        style: dict[str, Any] = {"s": 16, "linewidths": 0, "zorder": 3}
        axes.scatter([p.cost * unit for p in chosen], [p.loss for p in chosen], marker=marker, color=colour, label=kind, **style)
        front = sorted((p.cost * unit, p.loss) for p in chosen if p.front)
        if len(front) > 1:
            axes.plot(*zip(*front, strict=True), color=_LINE, linewidth=1.2, drawstyle="steps-post", zorder=2)
    for p in points:
        if p.chosen:
            axes.scatter([p.cost * unit], [p.loss], s=130, color=_PAPER, edgecolors=_DOT, linewidths=1.6, zorder=4, label="chosen")
    dress(axes, label, "noise / signal (lower is better)")
