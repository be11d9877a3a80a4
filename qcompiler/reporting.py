"""From a finished compile to its report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qcompiler.artifact import WEIGHTS_NAME
from qcompiler.report import (
    Accuracy,
    CoverageRow,
    Decision,
    Latency,
    LayerErrorRow,
    MetricRow,
    PassNote,
    ReportData,
    SiteNote,
    Sizes,
    Stage,
    Unfused,
    VerificationRun,
)

if TYPE_CHECKING:
    from qcompiler.compilation import Compilation
    from qcompiler.ir import Graph
    from qcompiler.passes.base import Step


def build_report(done: Compilation) -> ReportData:
    """The report of a compile, every figure with its kind."""
    return ReportData(
        target=done.target.name,
        recipe=done.recipe.name,
        model=done.graph.name,
        model_hash=done.lock.hashes["model"],
        calibration_hash=done.lock.hashes.get("calibration data", ""),
        samples=0 if done.calibration is None else len(done.calibration),
        random_calibration=done.lock.random_calibration,
        versions=done.lock.versions,
        isa=done.target.isa or "",
        seed=done.lock.seed,
        warnings=_warnings(done),
        accuracy=_accuracy(done),
        latency=_latency(done),
        sizes=_sizes(done),
        coverage=coverage_rows(done),
        layers=layer_errors(done),
        passes=tuple(_pass_note(step) for step in done.steps),
        decisions=_decisions(done),
        verification=_verification(done),
        unfused=_unfused(done),
        stages=tuple(Stage(name=t.name, seconds=t.seconds, peak_bytes=t.peak_bytes) for t in done.times),
    )
