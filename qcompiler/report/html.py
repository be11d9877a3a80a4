"""`report.html`: one self-contained offline page, and `report.json` beside it.

The page refers to nothing outside itself, and its content security policy forbids it to. Everything
that comes from the user (module paths, reasons, names) is escaped by the template engine.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TypeVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from qcompiler.report import formats, plot, search_plot, summary
from qcompiler.report.data import CoverageRow, LayerErrorRow, ReportData

PAGE_LIMIT = 1_500_000
"""Bytes. Beyond it the page shows fewer rows and says so; `report.json` always has all of them."""
_ROW_CAPS = (2000, 1000, 500, 200, 50)

_T = TypeVar("_T")


def write_report(data: ReportData, folder: str | Path) -> Path:
    """Write `report.json` and `report.html` into `folder` (made if missing); return the page's path."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    (target / "report.json").write_text(data.to_json(), encoding="utf-8", newline="\n")
    page = target / "report.html"
    page.write_text(render_report(data), encoding="utf-8", newline="\n")
    return page


def render_report(data: ReportData) -> str:
    """The page as text. The same data gives the same bytes. At most `PAGE_LIMIT` bytes."""
    figure = plot.layer_error_svg(data.layers)
    searched = "" if data.search is None else search_plot.search_svg(data.search)
    for cap in _ROW_CAPS:
        page = _render(data, figure, searched, cap)
        if len(page.encode()) <= PAGE_LIMIT:
            return page
    raise ValueError(
        f"the report page does not fit {PAGE_LIMIT} bytes even with {_ROW_CAPS[-1]} rows a table"
    )


def _render(data: ReportData, figure: str, searched: str, cap: int) -> str:
    environment = _environment()
    script, style = _asset("report.js"), _asset("report.css")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("template.html.j2").render(
        data=data,
        cards=summary.cards(data),
        beside=summary.beside(data),
        warnings=summary.warnings(data),
        data_name=summary.data_name(data),
        groups=summary.coverage_groups(data.coverage),
        reasons=summary.reasons(data.coverage),
        coverage=_floats_first(data.coverage, cap),
        layers=_worst_in_order(data.layers, cap),
        worst=[(index, data.layers[index]) for index in summary.worst_layers(data.layers)],
        peak=max((stage.peak_bytes for stage in data.stages if stage.peak_bytes), default=None),
        cap=cap,
        search_figure=Markup(searched),  # made by search_plot.py of numbers
        figure=Markup(figure),  # made by plot.py, which escapes what it takes from the rows
        style=Markup(style),
        script=Markup(script),
        script_digest=digest,
    )


def _floats_first(rows: Sequence[CoverageRow], cap: int) -> list[CoverageRow]:
    """At most `cap` rows, in the given order, those that are not quantized being dropped last."""
    return [row for _, row in _keep(rows, cap, lambda row: row.quantized)]


def _worst_in_order(rows: Sequence[LayerErrorRow], cap: int) -> list[tuple[int, LayerErrorRow]]:
    """At most `cap` rows with their index, in execution order, those with the highest SQNR dropped first."""
    return _keep(rows, cap, summary.layer_score)


def _keep(rows: Sequence[_T], cap: int, rank: Callable[[_T], float]) -> list[tuple[int, _T]]:
    kept = sorted(sorted(range(len(rows)), key=lambda index: rank(rows[index]))[:cap])
    return [(index, rows[index]) for index in kept]


def _sortable(value: float | None) -> str:
    """A number as JavaScript's `Number()` reads it; empty if there is none."""
    if value is None or math.isnan(value):
        return ""
    return repr(value) if math.isfinite(value) else f"{'-' if value < 0 else ''}Infinity"


def _bare_decibels(value: float | None) -> str:
    """Decibels for a column whose heading names the unit."""
    return formats.decibels(value).removesuffix("\N{NO-BREAK SPACE}dB")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("qcompiler.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = ("number", "whole", "decibels", "milliseconds", "seconds", "size", "percent", "times")
    environment.filters |= {name: getattr(formats, name) for name in filters}
    environment.filters |= {"figure": formats.figure, "bare_decibels": _bare_decibels, "sortable": _sortable}
    return environment


@cache
def _asset(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8").strip()
