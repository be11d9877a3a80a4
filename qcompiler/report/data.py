"""The data of one compile report: what was compiled, how good, how fast, how large, and why.

`ReportData` is what `report.json` holds. Its keys are a contract: a key is never renamed or removed
without a new `schema_version`; keys may be added. Every model here is frozen and validates on
construction (NumPy scalars are accepted and become Python numbers).

Units: seconds, milliseconds and bytes as the key says; SQNR in dB, `10 log10(sum x^2 / sum (x-y)^2)`
with x the float value, so `Infinity` means bitwise equal; shares and ratios are fractions
(0.4 means 40 %). A latency or size ratio is quantized / float: below 1 is faster or smaller.
Infinite and undefined numbers are written as the JSON strings "Infinity", "-Infinity", "NaN".

`null` always means "not measured"; no number is ever made up to fill a column.
"""

from __future__ import annotations

import json
from typing import Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    JsonValue,
    NonNegativeFloat,
    NonNegativeInt,
    computed_field,
    model_validator,
)

from qcompiler.report.memory import Memory

SCHEMA_VERSION = 1

Kind = Literal["measured", "simulated", "analytic"]
"""How a figure was obtained: on the artefact itself, on a simulator, or by a formula."""


class _Row(BaseModel):
    """Base: frozen, unknown keywords are errors (a typo must not lose a figure)."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class MetricRow(_Row):
    """One accuracy metric of the float model beside the artefact, over the same samples."""

    name: str
    float_value: float
    quantized_value: float
    higher_is_better: bool = True

    @computed_field  # type: ignore[prop-decorator]
    @property
    def drop(self) -> float:
        """Absolute loss of quality in the metric's own unit; negative means the artefact is better."""
        change = self.float_value - self.quantized_value
        return change if self.higher_is_better else -change


class Accuracy(_Row):
    """How close the artefact's outputs are to the float model's.

    `data` says which samples: the user's `evaluation` data, a part of the calibration data `held_back` from
    calibration, the `calibration` data itself where there was too little to hold any back, or, where no data was given at all, the `example` inputs of the capture.
    `agreement` is the share of samples with the same arg-max.
    """

    data: Literal["evaluation", "held_back", "calibration", "example"]
    samples: NonNegativeInt
    metrics: tuple[MetricRow, ...] = ()
    sqnr_db: float | None = None
    cosine: float | None = None
    agreement: float | None = None


class Latency(_Row):
    """Time of one inference.

    `noise` is the relative spread of the repetitions; `noisy` says that it is too large to trust the ratio.
    """

    quantized_ms: NonNegativeFloat
    float_ms: NonNegativeFloat | None = None
    kind: Kind = "measured"
    threads: NonNegativeInt = 1
    batch: NonNegativeInt = 1
    runtime: str = ""
    noise: NonNegativeFloat | None = None
    noisy: bool = False

    @computed_field  # type: ignore[prop-decorator]
    @property
    def ratio(self) -> float | None:
        """Quantized / float."""
        return self.quantized_ms / self.float_ms if self.float_ms else None


class Sizes(_Row):
    """Bytes on disk, and the artefact's weights by dtype (`{"int8": 4_600_000, "float32": 20_000}`)."""

    artefact_bytes: NonNegativeInt
    float_bytes: NonNegativeInt | None = None
    weight_bytes: dict[str, NonNegativeInt] = {}

    @computed_field  # type: ignore[prop-decorator]
    @property
    def ratio(self) -> float | None:
        """Artefact / float."""
        return self.artefact_bytes / self.float_bytes if self.float_bytes else None


class CoverageRow(_Row):
    """One op of the artefact: what it computes in, by which kernel, and why it is not quantized.

    An op that is not quantized must say why: a silent float op is an error here.
    `macs` is the number of multiply-accumulates of one inference, where the op has them.
    """

    module: str
    op: str
    dtype: str
    kernel: str = ""
    quantized: bool
    why_not: str = ""
    macs: NonNegativeInt | None = None

    @model_validator(mode="after")
    def _says_why(self) -> CoverageRow:
        if not self.quantized and not self.why_not.strip():
            where = self.module or "the top level"
            raise ValueError(f"{self.op} at {where} is not quantized and gives no `why_not`")
        return self


class LayerErrorRow(_Row):
    """Error of one layer's output against the float model.

    `sqnr_local_db`: only this layer's own error, its inputs being the float model's.
    `sqnr_cumulative_db`: the error at this point of the whole quantized run.
    `max_abs_error`, `mean_shift` (mean of quantized - float) and `rms` (of the float value) are in the
    unit of the value and belong to the cumulative run.
    Rows are in execution order.
    """

    module: str
    op: str
    sqnr_cumulative_db: float
    sqnr_local_db: float | None = None
    max_abs_error: float
    mean_shift: float
    rms: NonNegativeFloat | None = None


class SiteNote(_Row):
    """One place a pass looked at.

    `text` is what was done there, or the reason for the refusal; `figures` are the numbers behind it, by name.
    """

    site: str
    text: str = ""
    figures: dict[str, JsonValue] = {}


class PassNote(_Row):
    """One pass: EXACT (function-preserving) or LOSSY, and every site it took or refused."""

    name: str
    kind: Literal["EXACT", "LOSSY"]
    taken: tuple[SiteNote, ...] = ()
    refused: tuple[SiteNote, ...] = ()
    seconds: NonNegativeFloat | None = None

    @model_validator(mode="after")
    def _refusals_have_reasons(self) -> PassNote:
        for note in self.refused:
            if not note.text.strip():
                raise ValueError(f"pass {self.name} refused {note.site} and gives no reason")
        return self


class Option(_Row):
    """One alternative that was scored. `score` is in the unit of the decision, None if it was not run."""

    name: str
    score: float | None = None


class Decision(_Row):
    """A choice made from figures: a region put back to float, a rounding or an equalization chosen.

    `kind` is a short stable word: `never_slower`, `rounding`, `equalization`, `observer`, `kernel`, ...
    `unit` is what the scores are in (`ms`, `SQNR dB`); `score_kind` how they were obtained.
    """

    kind: str
    site: str
    chosen: str
    options: tuple[Option, ...] = ()
    unit: str = ""
    score_kind: Kind = "measured"
    why: str = ""


class VerificationRun(_Row):
    """The artefact run once over `samples` and compared with the reference interpreter.

    `level`: of the program that was compared (`QUANTIZED`, `INTEGER`, `LEGAL`).
    `differing` of `values` raw output values differ, by at most `max_lsb`; `sqnr_db` is artefact
    against reference, end to end. The `local_*` fields are of the worst op when each op is fed the
    reference's integers: its module path, op, share of differing values, and max LSB.
    """

    name: str
    level: str
    samples: NonNegativeInt
    values: NonNegativeInt
    differing: NonNegativeInt
    max_lsb: NonNegativeInt
    sqnr_db: float | None = None
    passed: bool
    local_module: str = ""
    local_op: str = ""
    local_share: NonNegativeFloat | None = None
    local_max_lsb: NonNegativeInt | None = None


class Unfused(_Row):
    """A quantize or dequantize op that the runtime executes on its own, and why."""

    module: str
    op: str
    why: str


class Stage(_Row):
    """One stage of the compile: seconds, and the peak resident memory of the process by its end."""

    name: str
    seconds: NonNegativeFloat
    peak_bytes: NonNegativeInt | None = None


class CoverageSummary(_Row):
    """Counts over the coverage rows. `mac_share` is None when no row knows its multiply-accumulates."""

    ops: int
    quantized_ops: int
    op_share: float
    mac_share: float | None


class SearchPoint(_Row):
    """One trial of a search: its cost in the unit of `SearchSection.cost`, noise-to-signal loss, and metric drop."""

    cost: float
    loss: float
    drop: float
    kind: Kind
    front: bool
    chosen: bool


class SearchGroup(_Row):
    """What became of a group of layers that are decided together; 32 bits are float."""

    name: str
    layers: NonNegativeInt
    weights: NonNegativeInt
    choice: str
    weight_bits: NonNegativeInt
    activation_bits: NonNegativeInt
    sensitivity: NonNegativeFloat


class SearchSection(_Row):
    """How `tune` came to this artefact.

    `rank_correlation` is Spearman's between summed sensitivities and measured losses of random configurations, None
    with too few of them. `baseline_chosen`: nothing beat the recipe as it was. `proofs`: certificates of the solvers.
    """

    goal: str
    cost: str
    space: str
    knobs: dict[str, str] = {}
    trials: NonNegativeInt
    failed: NonNegativeInt
    provider: str
    rank_correlation: float | None = None
    baseline_chosen: bool
    proofs: tuple[str, ...] = ()
    points: tuple[SearchPoint, ...] = ()
    groups: tuple[SearchGroup, ...] = ()


class ReportData(_Row):
    """Everything a report says. `random_calibration` stamps a compile calibrated with random data."""

    schema_version: int = SCHEMA_VERSION
    target: str
    recipe: str
    model: str = ""
    model_hash: str = ""
    calibration_hash: str = ""
    samples: NonNegativeInt = 0
    random_calibration: bool = False
    versions: dict[str, str] = {}
    isa: str = ""
    seed: int = 0
    warnings: tuple[str, ...] = ()
    accuracy: Accuracy | None = None
    latency: Latency | None = None
    sizes: Sizes | None = None
    memory: Memory | None = None
    coverage: tuple[CoverageRow, ...] = ()
    layers: tuple[LayerErrorRow, ...] = ()
    passes: tuple[PassNote, ...] = ()
    decisions: tuple[Decision, ...] = ()
    verification: tuple[VerificationRun, ...] = ()
    unfused: tuple[Unfused, ...] = ()
    stages: tuple[Stage, ...] = ()
    search: SearchSection | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def coverage_summary(self) -> CoverageSummary:
        """How much of the model is quantized, by ops and by multiply-accumulates."""
        done = [row for row in self.coverage if row.quantized]
        macs = sum(row.macs or 0 for row in self.coverage)
        return CoverageSummary(
            ops=len(self.coverage),
            quantized_ops=len(done),
            op_share=len(done) / len(self.coverage) if self.coverage else 0.0,
            mac_share=sum(row.macs or 0 for row in done) / macs if macs else None,
        )

    @computed_field  # type: ignore[prop-decorator]
    @property
    def verified(self) -> bool:
        """True when the artefact was compared with the reference at least once and every run passed."""
        return bool(self.verification) and all(run.passed for run in self.verification)

    def __str__(self) -> str:
        """What the command line prints: the artefact beside float, coverage, worst layers, warnings."""
        from rich.console import Console

        from qcompiler.report.console import print_report

        console = Console(width=120)
        with console.capture() as text:
            print_report(self, console)
        return text.get()

    def __repr__(self) -> str:
        return f"ReportData(target={self.target!r}, recipe={self.recipe!r}, model={self.model!r}, verified={self.verified})"

    def to_json(self) -> str:
        """The text of `report.json`: strict JSON, two-space indent, a final newline."""
        return self.model_dump_json(indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> ReportData:
        """Read `report.json`. Keys added by a later release are skipped.

        Raises ValueError for text that is not a report or has another `schema_version`.
        """
        try:
            head = json.loads(text)
        except ValueError as error:
            raise ValueError(f"not a report: {error}") from error
        found = head.get("schema_version") if isinstance(head, dict) else None
        if found != SCHEMA_VERSION:
            raise ValueError(
                f"report schema_version is {found!r}, this release reads {SCHEMA_VERSION}: compile again"
            )
        return cls.model_validate_json(text, extra="ignore")
