"""The terminal view, and the words and numbers it shares with the page."""

from __future__ import annotations

import io
import math

import pytest
from report_sample import sample_report
from rich.console import Console

from qcompiler.passes.base import Kind, Note, Step
from qcompiler.progress import StageTime
from qcompiler.report import CoverageRow, Latency, ReportData, formats, print_report, summary
from qcompiler.report.collect import decisions, pass_notes, stages


def printed(data, width=120):
    console = Console(width=width, record=True, file=io.StringIO())
    print_report(data, console)
    return console.export_text().replace("\N{NO-BREAK SPACE}", " ")


def test_print_of_a_report_is_what_the_command_line_shows():
    data = sample_report(60)
    assert str(data).replace("\N{NO-BREAK SPACE}", " ").split() == printed(data).split()
    assert len(repr(data)) < 300


def test_float_stands_beside_quantized():
    lines = [line.split() for line in printed(sample_report(60)).splitlines()]
    assert ["top-1", "0.7512", "0.7478", "drop", "0.0034"] in lines
    assert ["size", "18.6", "MB", "4.92", "MB", "3.8×", "smaller", "(0.264×)"] in lines
    assert ["conv2d", "u8", "x", "s8", "QLinearConv", "30", "52.5", "%"] in lines


def test_coverage_says_why():
    text = printed(sample_report(60))
    assert "the recipe allows softmax in float" in text
    assert "worst layers: blocks.3.0.conv_dw" in text


def test_user_text_is_not_markup():
    row = CoverageRow(module="m", op="[red]x[/red]", dtype="[b]", quantized=False, why_not="[/]")
    text = printed(sample_report(10, model="[bold]m[/bold]", coverage=(row,), warnings=("[/red]",)))
    for literal in ("[bold]m[/bold]", "[red]x[/red]", "[/]", "warning: [/red]"):
        assert literal in text


@pytest.mark.parametrize("width", [50, 80])
def test_a_narrow_terminal_cuts_no_text(width):
    lines = printed(sample_report(30), width).splitlines()
    assert max(len(line.rstrip()) for line in lines) <= width
    assert "…" not in "".join(lines)


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        (formats.percent, 1.0, "100 %"),
        (formats.percent, 0.99999, ">99.9 %"),
        (formats.percent, 0.0004, "0.04 %"),
        (formats.percent, 0.0, "0 %"),
        (formats.percent, None, "–"),
        (formats.size, 999, "999 B"),
        (formats.size, 4_921_004, "4.92 MB"),
        (formats.decibels, math.inf, "exact"),
        (formats.decibels, -math.inf, "−∞ dB"),
        (formats.decibels, 21.04, "21.0 dB"),
        (formats.milliseconds, 0.01234, "0.0123 ms"),
        (formats.seconds, 0.0, "0 ms"),
        (formats.seconds, 200.2, "3 min 20 s"),
        (formats.number, -0.5, "−0.500"),
        (formats.number, 9.999e-5, "1.00e−04"),
        (formats.number, 1234567.0, "1.23e+06"),
        (formats.number, math.nan, "not a number"),
        (formats.faster, 0.4, "2.5× faster"),
        (formats.faster, 0.965, "1.04× faster"),
        (formats.faster, 1.5, "1.50× slower"),
        (formats.faster, 0.995, "same speed"),
        (formats.faster, 0.001, "1,000× faster"),
        (formats.smaller, None, "–"),
        (formats.figure, 1200, "1,200"),
        (formats.figure, True, "True"),
        (formats.figure, [1, 2], "[1, 2]"),
    ],
)
def test_numbers_read_well(function, value, text):
    assert function(value).replace("\N{NO-BREAK SPACE}", " ") == text


def cards(data):
    return {card.title: card for card in summary.cards(data)}


def test_headlines_fall_back_to_what_was_measured():
    accuracy = sample_report(10).accuracy
    shown = []
    for gone in ({"metrics": ()}, {"metrics": (), "agreement": None}):
        card = cards(sample_report(10, accuracy=accuracy.model_copy(update=gone)))["Accuracy"]
        shown.append((card.value.replace("\N{NO-BREAK SPACE}", " "), card.detail.split(";")[0]))
    assert shown == [("95.3 %", "agreement with float"), ("24.1 dB", "SQNR against float")]


def test_tones_follow_the_figures():
    slow = cards(sample_report(10, latency=Latency(quantized_ms=3, float_ms=2)))["Speed"]
    noisy = cards(sample_report(10, latency=Latency(quantized_ms=1, float_ms=2, noisy=True)))["Speed"]
    nothing = CoverageRow(module="m", op="conv2d", dtype="float32", quantized=False, why_not="ignored")
    none = cards(sample_report(10, coverage=(nothing,)))["Coverage"]
    assert (slow.tone, noisy.tone, none.tone, none.value) == ("bad", "warn", "bad", "0\N{NO-BREAK SPACE}%")


def test_what_must_not_be_missed_is_a_warning():
    accuracy = sample_report(10).accuracy.model_copy(update={"data": "example"})
    data = sample_report(10, accuracy=accuracy, latency=Latency(quantized_ms=3, float_ms=2), verification=())
    text = " ".join(summary.warnings(data))
    for phrase in ("not verified", "example inputs only", "slower than float: 1.50×"):
        assert phrase in text
    assert summary.warnings(sample_report(10)) == ()


def test_worst_layers_are_ranked_by_their_own_error_and_never_exact():
    rows = sample_report(10).layers
    values = (30.0, math.inf, 10.0, None)
    four = [
        row.model_copy(update={"sqnr_local_db": v, "sqnr_cumulative_db": 20.0})
        for row, v in zip(rows, values)
    ]
    assert summary.worst_layers(four) == (2, 3, 0)


def test_pass_steps_and_stage_times_become_rows():
    taken = Note("blocks.0", True, "folded", {"scale_max": 4.25, "channels": 96})
    refused = Note("blocks.1", False, "its output has another reader")
    (row,) = pass_notes([Step("fold", Kind.EXACT, True, 0.5, (taken, refused))])
    assert (row.name, row.kind, row.seconds) == ("fold", "EXACT", 0.5)
    assert (row.taken[0].figures, row.refused[0].text) == (taken.data, refused.reason)
    assert stages([StageTime("emit", 1.5, 10)])[0].peak_bytes == 10
    data = sample_report(10, passes=(row,))
    assert ReportData.from_json(data.to_json()) == data


def test_a_step_that_refuses_without_a_reason_is_an_error():
    with pytest.raises(ValueError, match=r"refused blocks\.1"):
        pass_notes([Step("fold", Kind.EXACT, False, 0.0, (Note("blocks.1", False),))])


def test_recorded_choices_become_decisions_without_their_vectors():
    region = {"site": "blocks.5", "chosen": "float", "scores": {"float": 1.1, "quantized": 1.3}, "unit": "ms"}
    rows = decisions(
        {
            "smooth": {"b": {"method": "geometric", "t": [1.0] * 1000}, "a": [1, 2]},
            "never_slower": [region],
            "observer": "mse",
            "order": {"chosen": "sequential", "why": "better on held-back data"},
        }
    )
    assert [(r.kind, r.site, r.chosen) for r in rows] == [
        ("never_slower", "blocks.5", "float"),
        ("observer", "", "mse"),
        ("order", "", "sequential"),
        ("smooth", "a", "in the lock file"),
        ("smooth", "b", "geometric"),
    ]
    assert [(o.name, o.score) for o in rows[0].options] == [("float", 1.1), ("quantized", 1.3)]
    assert (rows[0].unit, rows[2].why) == ("ms", "better on held-back data")
