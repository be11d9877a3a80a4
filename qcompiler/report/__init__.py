"""The compile report: its data, the HTML page, the console tables, and the per-layer error."""

from __future__ import annotations

from qcompiler.report.console import print_report, report_view
from qcompiler.report.data import (
    SCHEMA_VERSION,
    Accuracy,
    CoverageRow,
    CoverageSummary,
    Decision,
    Latency,
    LayerErrorRow,
    Memory,
    MetricRow,
    Option,
    PassNote,
    ReportData,
    SiteNote,
    Sizes,
    Stage,
    Unfused,
    VerificationRun,
)
from qcompiler.report.html import render_report, write_report

__all__ = [
    "SCHEMA_VERSION",
    "Accuracy",
    "CoverageRow",
    "CoverageSummary",
    "Decision",
    "Latency",
    "LayerErrorRow",
    "Memory",
    "MetricRow",
    "Option",
    "PassNote",
    "ReportData",
    "SiteNote",
    "Sizes",
    "Stage",
    "Unfused",
    "VerificationRun",
    "print_report",
    "render_report",
    "report_view",
    "write_report",
]
