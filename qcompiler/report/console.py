"""The report on a terminal: the artefact beside float, the coverage table, warnings.

Cells are `Text`, so nothing a user named is read as markup.
"""

from __future__ import annotations

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from qcompiler.report import formats as fmt
from qcompiler.report import summary
from qcompiler.report.data import ReportData

_STYLES: dict[summary.Tone, str] = {"plain": "", "good": "green", "warn": "yellow", "bad": "bold red"}


_PIPE_WIDTH = 120


def print_report(data: ReportData, console: Console | None = None) -> None:
    """Print summary, coverage, worst layers and warnings, by default to stdout."""
    print_view(report_view(data), console)


def print_view(view: RenderableType, console: Console | None = None) -> None:
    """Print one of the tables, by default to stdout; into a pipe at a fixed width."""
    if console is None:
        console = Console()
        console = console if console.is_terminal else Console(width=_PIPE_WIDTH)
    console.print(view)


def report_view(data: ReportData) -> RenderableType:
    """All of `print_report` as one renderable."""
    parts: list[RenderableType] = [summary_table(data)]
    if data.coverage:
        parts += ["", coverage_table(data)]
    if worst := worst_layers_line(data):
        parts += ["", worst]
    serious = "bold red" if not data.verified else "yellow"
    for warning in summary.warnings(data):
        parts += [Text.assemble(("warning: ", serious), warning)]
    return Group(*parts)


def summary_table(data: ReportData) -> Table:
    """Figures as lines, float beside quantized; then coverage and verification."""
    name = f"{data.model or 'model'} on {data.target}, {data.recipe}"
    table = _table(name)
    table.add_column("", overflow="fold")
    table.add_column("float", justify="right", overflow="fold")
    table.add_column("quantized", justify="right", overflow="fold")
    table.add_column("change", overflow="fold")
    for row in summary.beside(data):
        table.add_row(
            Text(row.name), row.float_value, row.quantized_value, Text(row.change, _STYLES[row.tone])
        )
    if table.row_count:
        table.add_section()
    for card in summary.cards(data)[3:]:
        table.add_row(card.title.lower(), "", Text(card.value, _STYLES[card.tone]), Text(card.detail))
    if data.accuracy is not None:
        samples = f"{fmt.whole(data.accuracy.samples)} sample{'' if data.accuracy.samples == 1 else 's'}"
        table.caption = Text(f"accuracy on {samples} of {summary.data_name(data)}", "dim")
    return table


def coverage_table(data: ReportData) -> Table:
    """Ops grouped by type, dtype, kernel and reason: how many, and their share of the work."""
    table = _table("coverage")
    table.add_column("op", overflow="fold")
    table.add_column("dtype", overflow="fold")
    table.add_column("kernel", overflow="fold")
    table.add_column("ops", justify="right", overflow="fold")
    table.add_column("MACs", justify="right", overflow="fold")
    table.add_column("why not quantized", overflow="fold")
    for group in summary.coverage_groups(data.coverage):
        style = "" if group.quantized else "yellow"
        cells = (group.op, group.dtype, group.kernel or fmt.MISSING, fmt.whole(group.count))
        row = (*cells, fmt.percent(group.mac_share), group.why_not)
        table.add_row(*(Text(cell) for cell in row), style=style)
    return table


def worst_layers_line(data: ReportData, count: int = 3) -> Text | None:
    """`worst layers: blocks.1.conv_dw 21.3 dB, ...`; None if no layer has an error."""
    worst = [data.layers[index] for index in summary.worst_layers(data.layers, count)]
    if not worst:
        return None
    named = [f"{row.module or row.op} {fmt.decibels(summary.layer_score(row))}" for row in worst]
    return Text("worst layers: " + ", ".join(named))


def _table(title: str) -> Table:
    return Table(
        title=Text(title, "bold", overflow="fold"),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        header_style="dim",
    )
