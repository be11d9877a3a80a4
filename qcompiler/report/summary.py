"""What a report says first: the verdict, five headline figures, the artefact beside float.

Plain text only; the page and the console lay it out. Everything is derived from `ReportData`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from qcompiler.report import formats as fmt
from qcompiler.report.data import CoverageRow, LayerErrorRow, ReportData

Tone = Literal["plain", "good", "warn", "bad"]


@dataclass(frozen=True)
class Card:
    """One headline figure: `value` large, `detail` small."""

    title: str
    value: str
    detail: str
    tone: Tone = "plain"


@dataclass(frozen=True)
class Beside:
    """One line of the comparison with float."""

    name: str
    float_value: str
    quantized_value: str
    change: str
    tone: Tone = "plain"


@dataclass(frozen=True)
class CoverageGroup:
    """Ops that share op type, dtype, kernel, state and reason, with their share of multiply-accumulates."""

    op: str
    dtype: str
    kernel: str
    quantized: bool
    why_not: str
    count: int
    mac_share: float | None


@dataclass(frozen=True)
class Reason:
    """Ops left in float for the same reason."""

    why: str
    rows: tuple[CoverageRow, ...]


_DATA_NAMES = {
    "evaluation": "evaluation data",
    "held_back": "held-back calibration data",
    "calibration": "the calibration data itself",
    "example": "example inputs",
}


def cards(data: ReportData) -> tuple[Card, ...]:
    """The five headline figures: accuracy, speed, size, coverage, verification."""
    return _accuracy(data), _speed(data), _size(data), _coverage(data), _verification(data)


def data_name(data: ReportData) -> str:
    """Which samples the accuracy was taken on."""
    if data.accuracy is None:
        return "no data"
    return _DATA_NAMES[data.accuracy.data]


def beside(data: ReportData) -> tuple[Beside, ...]:
    """The artefact beside the float model, line by line. Lines without a figure are left out."""
    rows: list[Beside] = []
    if data.accuracy is not None:
        for metric in data.accuracy.metrics:
            values = fmt.number(metric.float_value, 4), fmt.number(metric.quantized_value, 4)
            rows.append(Beside(metric.name, *values, _drop_words(metric.drop)))
        closeness = (
            ("agreement with float", fmt.percent, 1.0, data.accuracy.agreement),
            ("cosine similarity", lambda value: fmt.number(value, 5), 1.0, data.accuracy.cosine),
            ("SQNR", fmt.decibels, None, data.accuracy.sqnr_db),
        )
        for name, show, best, value in closeness:
            if value is not None:
                rows.append(Beside(name, fmt.MISSING if best is None else show(best), show(value), ""))
    if data.latency is not None:
        latency = data.latency
        rows.append(
            Beside(
                f"latency ({latency.kind}, {_count(latency.threads, 'thread')})",
                fmt.milliseconds(latency.float_ms),
                fmt.milliseconds(latency.quantized_ms),
                _with_ratio(fmt.faster(latency.ratio), latency.ratio),
                _ratio_tone(latency.ratio),
            )
        )
    if data.sizes is not None:
        sizes = data.sizes
        words = _with_ratio(fmt.smaller(sizes.ratio), sizes.ratio)
        tone = _ratio_tone(sizes.ratio)
        values = fmt.size(sizes.float_bytes), fmt.size(sizes.artefact_bytes)
        rows.append(Beside("size", *values, words, tone))
    if data.memory is not None:
        memory = data.memory
        bound = f"{fmt.times(memory.arena_ratio)} of the lower bound"
        rows.append(Beside("arena", fmt.MISSING, fmt.size(memory.arena_bytes), bound))
        if memory.ram_bytes is not None and memory.stack_bytes is not None:
            words = f"{fmt.size(memory.stack_bytes)} of it stack"
            rows.append(Beside("RAM", fmt.MISSING, fmt.size(memory.ram_bytes), words))
    return tuple(rows)


def warnings(data: ReportData) -> tuple[str, ...]:
    """What the reader must not miss, most serious first."""
    found: list[str] = []
    failed = [run.name for run in data.verification if not run.passed]
    if failed:
        found.append(f"Verification failed: {', '.join(failed)}. Do not use this artefact.")
    if not data.verification:
        found.append("This artefact was not verified against the reference.")
    if data.random_calibration:
        found.append("Calibrated with random data: accuracy figures say nothing about real inputs.")
    if data.accuracy is not None and data.accuracy.data == "example":
        found.append("No data was given: accuracy is that of the example inputs only.")
    ratio = None if data.latency is None else data.latency.ratio
    if ratio is not None and _ratio_tone(ratio) == "bad":
        found.append(f"The artefact is slower than float: {fmt.times(ratio)} its latency.")
    if data.latency is not None and data.latency.noisy:
        spread = "" if data.latency.noise is None else f" (spread {fmt.percent(data.latency.noise)})"
        found.append(f"The latency measurement was noisy{spread}: measure again on a quiet machine.")
    return (*found, *data.warnings)


def coverage_groups(rows: Iterable[CoverageRow]) -> tuple[CoverageGroup, ...]:
    """Coverage rows grouped, most multiply-accumulates first, then most ops."""
    groups: dict[tuple[str, str, str, bool, str], list[CoverageRow]] = {}
    for row in rows:
        groups.setdefault((row.op, row.dtype, row.kernel, row.quantized, row.why_not), []).append(row)
    total = sum(row.macs or 0 for members in groups.values() for row in members)
    result = []
    for key, members in groups.items():
        known = any(row.macs is not None for row in members)
        share = sum(row.macs or 0 for row in members) / total if total and known else None
        result.append(CoverageGroup(*key, count=len(members), mac_share=share))
    return tuple(
        sorted(result, key=lambda g: (-(g.mac_share or 0), -g.count, g.op, g.dtype, g.kernel, g.why_not))
    )


def reasons(rows: Iterable[CoverageRow]) -> tuple[Reason, ...]:
    """Ops that are not quantized, grouped by reason, most ops first."""
    groups: dict[str, list[CoverageRow]] = {}
    for row in rows:
        if not row.quantized:
            groups.setdefault(row.why_not, []).append(row)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return tuple(Reason(why, tuple(members)) for why, members in ordered)


def layer_score(row: LayerErrorRow) -> float:
    """The SQNR that ranks a layer: its own error where known, else the error at this point."""
    return row.sqnr_cumulative_db if row.sqnr_local_db is None else row.sqnr_local_db


def worst_layers(rows: Iterable[LayerErrorRow], count: int = 5) -> tuple[int, ...]:
    """Indices of the layers with the lowest SQNR, worst first. Exact layers are never among them."""
    scored = [(layer_score(row), index) for index, row in enumerate(rows)]
    return tuple(index for score, index in sorted(s for s in scored if s[0] < math.inf)[:count])


def _accuracy(data: ReportData) -> Card:
    accuracy = data.accuracy
    if accuracy is None:
        return Card("Accuracy", "not measured", "", "warn")
    where = f"{_count(accuracy.samples, 'sample')}, {data_name(data)}"
    sqnr = "" if accuracy.sqnr_db is None else f"SQNR {fmt.decibels(accuracy.sqnr_db)}; "
    if accuracy.metrics:
        first = accuracy.metrics[0]
        change = f"float {fmt.number(first.float_value, 4)}, {_drop_words(first.drop)}"
        return Card(
            "Accuracy", fmt.number(first.quantized_value, 4), f"{first.name}; {change}; {sqnr}{where}"
        )
    if accuracy.agreement is not None:
        return Card("Accuracy", fmt.percent(accuracy.agreement), f"agreement with float; {sqnr}{where}")
    if accuracy.sqnr_db is not None:
        cosine = "" if accuracy.cosine is None else f"cosine {fmt.number(accuracy.cosine, 5)}; "
        return Card("Accuracy", fmt.decibels(accuracy.sqnr_db), f"SQNR against float; {cosine}{where}")
    return Card("Accuracy", "not measured", where, "warn")


def _speed(data: ReportData) -> Card:
    latency = data.latency
    if latency is None:
        return Card("Speed", "not measured", "", "warn")
    how = f"{latency.kind}, {_count(latency.threads, 'thread')}"
    if latency.ratio is None:
        return Card("Speed", fmt.milliseconds(latency.quantized_ms), f"no float baseline; {how}")
    values = f"{fmt.milliseconds(latency.float_ms)} → {fmt.milliseconds(latency.quantized_ms)}"
    detail = f"{values}, {fmt.times(latency.ratio)} of float; {how}"
    tone: Tone = "warn" if latency.noisy else _ratio_tone(latency.ratio)
    return Card("Speed", fmt.faster(latency.ratio), detail + ("; noisy" if latency.noisy else ""), tone)


def _size(data: ReportData) -> Card:
    sizes = data.sizes
    if sizes is None:
        return Card("Size", "not measured", "", "warn")
    if sizes.ratio is None:
        return Card("Size", fmt.size(sizes.artefact_bytes), "no float baseline")
    values = f"{fmt.size(sizes.float_bytes)} → {fmt.size(sizes.artefact_bytes)}"
    detail = f"{values}, {fmt.times(sizes.ratio)} of float"
    return Card("Size", fmt.smaller(sizes.ratio), detail, _ratio_tone(sizes.ratio))


def _coverage(data: ReportData) -> Card:
    total = data.coverage_summary
    if not total.ops:
        return Card("Coverage", "unknown", "no coverage table", "warn")
    ops = f"{total.quantized_ops} of {_count(total.ops, 'op')} quantized"
    tone: Tone = "plain" if total.quantized_ops else "bad"
    if total.mac_share is None:
        return Card("Coverage", fmt.percent(total.op_share), ops, tone)
    return Card("Coverage", fmt.percent(total.mac_share), f"of multiply-accumulates; {ops}", tone)


def _verification(data: ReportData) -> Card:
    runs = data.verification
    if not runs:
        return Card("Verification", "not verified", "the artefact was not compared with the reference", "bad")
    failed = [run for run in runs if not run.passed]
    if failed:
        return Card("Verification", "FAILED", f"{len(failed)} of {_count(len(runs), 'run')} failed", "bad")
    worst = max(run.max_lsb for run in runs)
    differing = sum(run.differing for run in runs)
    same = "every raw output equal to the reference" if not differing else f"within {worst} LSB end to end"
    return Card("Verification", "verified", f"{same}; {_count(len(runs), 'run')}", "good")


def _drop_words(drop: float) -> str:
    if drop == 0:
        return "no drop"
    return f"drop {fmt.number(drop, 2)}" if drop > 0 else f"gain {fmt.number(-drop, 2)}"


def _with_ratio(words: str, ratio: float | None) -> str:
    return "" if ratio is None else f"{words} ({fmt.times(ratio)})"


def _ratio_tone(ratio: float | None) -> Tone:
    if ratio is None:
        return "plain"
    return "good" if ratio < 0.99 else "bad" if ratio > 1.01 else "plain"


def _count(count: int, noun: str) -> str:
    return f"{fmt.whole(count)} {noun}{'' if count == 1 else 's'}"
