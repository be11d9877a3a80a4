"""The per-layer error plot as inline SVG.

Text stays text and colours are CSS variables, so the plot follows the page's light and dark schemes.
The same rows always give the same bytes: fixed hash salt, no dates, no metadata.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from qcompiler.report import formats as fmt
from qcompiler.report.data import LayerErrorRow
from qcompiler.report.summary import worst_layers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {
    "#010203": "var(--ink)",
    "#010204": "var(--muted)",
    "#010205": "var(--rule)",
    "#010206": "var(--band)",
    "#010207": "var(--series-a)",
    "#010208": "var(--series-b)",
    "#010209": "var(--paper)",
}
"""Placeholder colours given to matplotlib, and the CSS variables put in their place."""
_INK, _MUTED, _RULE, _BAND, _LINE, _DOT, _PAPER = COLOURS
_MAX_LINKED = 600
_MAX_BANDS = 16
_FLOOR, _CEILING = -20.0, 80.0


def layer_error_svg(rows: Sequence[LayerErrorRow], worst: int = 5) -> str:
    """SVG of SQNR along the layers: a line for the whole run, a dot for each layer's own error.

    Each dot links to `#layer-<index>` and names its module on hover. The `worst` layers carry their
    rank. Exact layers (infinite SQNR) have no point; heights are cut to -20 and 80 dB. Empty string if there is nothing to draw.
    """
    if not any(math.isfinite(row.sqnr_cumulative_db) for row in rows):
        return ""
    drawn = as_svg((10.4, 3.6), lambda axes: _draw(axes, rows, worst), "plot-title")
    point = r'<a href="#layer-(\d+)"[^>]*>'  # matplotlib asks for a new tab; these stay on the page
    return re.sub(point, lambda match: _link(int(match[1]), rows), drawn)


def as_svg(size: tuple[float, float], draw: Callable[[Axes], None], title: str) -> str:
    """What `draw` puts on one pair of axes, as an `<svg>` element for the page; `title` is the id of its label."""
    import matplotlib  # here, because it takes a second and most imports of the package draw nothing
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    settings: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "qcompiler",
        "font.size": 10,
        "axes.unicode_minus": True,
    }
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure.add_subplot())
        stream = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    return _inline(stream.getvalue(), title)


def module_bands(rows: Sequence[LayerErrorRow]) -> list[tuple[int, int, str]]:
    """Runs of layers that share a module prefix: `(first, last, prefix)`, at most 16 of them.

    The prefix is as deep as that allows; no bands if even the top level has more runs.
    """
    best: list[tuple[int, int, str]] = []
    depth = max((row.module.count(".") + 1 for row in rows), default=0)
    for length in range(1, depth + 1):
        runs: list[tuple[int, int, str]] = []
        for index, row in enumerate(rows):
            prefix = ".".join(row.module.split(".")[:length])
            if runs and runs[-1][2] == prefix:
                runs[-1] = (runs[-1][0], index, prefix)
            else:
                runs.append((index, index, prefix))
        if len(runs) > _MAX_BANDS:
            break
        best = runs
    return best if len(best) > 1 else []


def _draw(axes: Axes, rows: Sequence[LayerErrorRow], worst: int) -> None:
    cumulative = [_within(row.sqnr_cumulative_db) for row in rows]
    local = [math.nan if row.sqnr_local_db is None else _within(row.sqnr_local_db) for row in rows]
    shown = [value for value in (*cumulative, *local) if math.isfinite(value)]
    low, high = min(shown), max(shown)
    pad = max(1.0, 0.08 * (high - low))
    axes.set_ylim(low - pad, high + 2.2 * pad)
    axes.set_xlim(-1, len(rows))

    _draw_bands(axes, rows)
    index = range(len(rows))
    line = [value if math.isfinite(value) else math.nan for value in cumulative]
    axes.plot(index, line, color=_LINE, linewidth=1.8, zorder=3, label="whole quantized run")
    local_points = [i for i in index if math.isfinite(local[i])]
    points = local_points or [i for i in index if math.isfinite(cumulative[i])]
    heights = [local[i] if local_points else cumulative[i] for i in points]
    label = "this layer alone" if local_points else None
    dots = axes.scatter(points, heights, s=16, color=_DOT, linewidths=0, zorder=4, label=label)
    if len(points) <= _MAX_LINKED:
        dots.set_urls([f"#layer-{i}" for i in points])
    for rank, i in enumerate(worst_layers(rows, worst), 1):
        height = local[i] if math.isfinite(local[i]) else cumulative[i]
        if math.isfinite(height):
            axes.scatter([i], [height], s=120, color=_PAPER, edgecolors=_DOT, linewidths=1.4, zorder=5)
            style: dict[str, Any] = {"fontsize": 8, "fontweight": "bold", "color": _INK}
            axes.text(i, height, str(rank), ha="center", va="center_baseline", zorder=6, **style)

    axes.locator_params(axis="x", integer=True)
    dress(axes, "layer, in execution order", "SQNR, dB (higher is better)")


def dress(axes: Axes, across: str, up: str) -> None:
    """Labels, rules and legend in the page's colours."""
    axes.set_xlabel(across, color=_MUTED)
    axes.set_ylabel(up, color=_MUTED)
    axes.tick_params(which="both", colors=_MUTED, length=0)
    axes.grid(axis="y", color=_RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    for name, spine in axes.spines.items():
        spine.set_visible(name == "bottom")
        spine.set_color(_RULE)
    legend = axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, frameon=False, borderaxespad=0.2)
    for entry in legend.get_texts():
        entry.set_color(_INK)


def _within(value: float) -> float:
    """A finite SQNR cut to what is worth its height: beyond the bounds a layer is as good or as bad as any."""
    return min(max(value, _FLOOR), _CEILING) if math.isfinite(value) else value


def _draw_bands(axes: Axes, rows: Sequence[LayerErrorRow]) -> None:
    """Shade every other module run and name the runs wide enough to carry their name."""
    for position, (first, last, prefix) in enumerate(module_bands(rows)):
        if position % 2:
            axes.axvspan(first - 0.5, last + 0.5, color=_BAND, linewidth=0, zorder=0)
        room = (last - first + 1) / (len(rows) + 1) * 130  # characters that fit, at this size and width
        name = ".".join(prefix.split(".")[-2:])
        if len(name) <= room:
            where: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "ha": "center", "va": "top"}
            axes.text(
                (first + last) / 2, 0.985, name, fontsize=8, color=_MUTED, zorder=2, parse_math=False, **where
            )


def _inline(svg: str, title: str) -> str:
    """The `<svg>` element alone, for an HTML page: no prolog, no namespaces, no fixed size."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\s+xmlns(:xlink)?="[^"]*"', "", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = svg.replace("<svg", f'<svg role="img" aria-labelledby="{title}"', 1)
    svg = svg.replace("xlink:href", "href")
    for placeholder, variable in COLOURS.items():
        svg = svg.replace(placeholder, variable)
    return svg


def _link(index: int, rows: Sequence[LayerErrorRow]) -> str:
    """The start of a dot's link. Out of the tab order: the table has the same rows for the keyboard."""
    return f'<a href="#layer-{index}" tabindex="-1">{_tooltip(rows[index])}'


def _tooltip(row: LayerErrorRow) -> str:
    local = "" if row.sqnr_local_db is None else f"alone {fmt.decibels(row.sqnr_local_db)}, "
    text = f"{row.module} ({row.op}): {local}whole run {fmt.decibels(row.sqnr_cumulative_db)}"
    return f"<title>{escape(text)}</title>"
