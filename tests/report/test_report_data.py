"""Report data: JSON round trip, the contract of its keys, and what it refuses."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from pydantic import ValidationError
from report_sample import sample_report

from qcompiler.report import (
    SCHEMA_VERSION,
    CoverageRow,
    Latency,
    MetricRow,
    PassNote,
    ReportData,
    SiteNote,
    Sizes,
    VerificationRun,
)


def test_json_round_trip_keeps_everything():
    data = sample_report(40)
    assert ReportData.from_json(data.to_json()) == data


def test_minimal_report_round_trips():
    data = ReportData(target="onnx", recipe="w8a8")
    assert ReportData.from_json(data.to_json()) == data
    assert not data.verified


def test_keys_are_a_contract(golden):
    """A key that goes or changes its type needs a new schema_version."""
    schema = ReportData.model_json_schema(mode="serialization")
    lines = [f"schema_version {SCHEMA_VERSION}"]
    for name, model in sorted({**schema["$defs"], "ReportData": schema}.items()):
        for key, kind in sorted(model.get("properties", {}).items()):
            lines.append(f"{name}.{key}: {_type(kind)}")
    golden("\n".join(lines))


def _type(kind):
    if "$ref" in kind:
        return kind["$ref"].rsplit("/")[-1]
    if "anyOf" in kind:
        return " | ".join(_type(one) for one in kind["anyOf"])
    if "enum" in kind:
        return " | ".join(kind["enum"])
    if kind.get("type") == "array":
        return f"[{_type(kind['items'])}]"
    if isinstance(kind.get("additionalProperties"), dict):
        return f"{{name: {_type(kind['additionalProperties'])}}}"
    return kind.get("type", "any")


def test_json_is_strict_with_infinite_and_undefined_numbers():
    run = VerificationRun(
        name="run",
        level="QUANTIZED",
        samples=1,
        values=1,
        differing=0,
        max_lsb=0,
        sqnr_db=math.inf,
        passed=True,
    )
    row = MetricRow(name="ppl", float_value=math.nan, quantized_value=-math.inf)
    accuracy = sample_report(10).accuracy.model_copy(update={"metrics": (row,)})
    data = sample_report(10, verification=(run,), accuracy=accuracy)
    strict = json.loads(data.to_json(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert strict["verification"][0]["sqnr_db"] == "Infinity"
    back = ReportData.from_json(data.to_json())
    assert back.verification[0].sqnr_db == math.inf
    assert math.isnan(back.accuracy.metrics[0].float_value)
    assert back.accuracy.metrics[0].quantized_value == -math.inf


def test_numpy_scalars_become_python_numbers():
    sizes = Sizes(artefact_bytes=np.int64(10), float_bytes=np.uint32(40), weight_bytes={"int8": np.int32(9)})
    latency = Latency(quantized_ms=np.float32(1.5), float_ms=np.float64(3))
    assert type(sizes.artefact_bytes) is int and type(latency.quantized_ms) is float
    assert (sizes.ratio, latency.ratio) == (0.25, 0.5)


def test_keys_of_a_later_release_are_skipped():
    data = sample_report(10)
    later = json.loads(data.to_json())
    later["energy"] = 1
    later["coverage"][0]["tiles"] = [1, 2]
    assert ReportData.from_json(json.dumps(later)) == data


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema_version": 2}', '{"schema_version": 1}', "\x00"])
def test_other_text_is_refused(text):
    with pytest.raises(ValueError):
        ReportData.from_json(text)


def test_a_misspelt_keyword_is_an_error():
    with pytest.raises(ValidationError, match="quantised_ms"):
        Latency(quantized_ms=1.0, quantised_ms=1.0)


def test_rows_are_frozen():
    data = sample_report(10)
    with pytest.raises(ValidationError, match="frozen"):
        data.target = "other"


@pytest.mark.parametrize("why", ["", "  "])
def test_a_float_op_must_say_why(why):
    with pytest.raises(ValidationError, match="encoder.softmax is not quantized"):
        CoverageRow(module="encoder.softmax", op="softmax", dtype="float32", quantized=False, why_not=why)


def test_a_refusal_must_say_why():
    with pytest.raises(ValidationError, match="refused blocks.1"):
        PassNote(name="equalize", kind="EXACT", refused=(SiteNote(site="blocks.1"),))


@pytest.mark.parametrize(("higher_is_better", "drop"), [(True, 0.25), (False, -0.25)])
def test_drop_is_a_loss_of_quality_in_either_direction(higher_is_better, drop):
    row = MetricRow(name="m", float_value=0.75, quantized_value=0.5, higher_is_better=higher_is_better)
    assert row.drop == drop


def test_coverage_summary_counts_ops_and_macs():
    rows = (
        CoverageRow(module="a", op="conv2d", dtype="int8", quantized=True, macs=300),
        CoverageRow(
            module="b",
            op="conv2d",
            dtype="float32",
            quantized=False,
            why_not="ignored by the recipe",
            macs=100,
        ),
        CoverageRow(module="c", op="add", dtype="int8", quantized=True),
    )
    total = ReportData(target="t", recipe="r", coverage=rows).coverage_summary
    assert (total.ops, total.quantized_ops, total.op_share, total.mac_share) == (3, 2, 2 / 3, 0.75)
    assert ReportData(target="t", recipe="r", coverage=rows[2:]).coverage_summary.mac_share is None


def test_one_failed_run_is_not_verified():
    good = sample_report(10).verification
    bad = good[0].model_copy(update={"passed": False})
    assert sample_report(10).verified
    assert not sample_report(10, verification=(*good, bad)).verified
