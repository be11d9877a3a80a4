"""The benches' data, clock and table. What they measure is not tested: tests are never timed."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from benchmarks import ablation, data
from benchmarks.bench_onnx import ROWS, markdown
from benchmarks.build import BUILDERS, peak_memory
from benchmarks.runtimes import OPEN, time_interleaved
from benchmarks.workloads import LENGTH, WORKLOADS


def test_calibration_and_evaluation_share_no_photograph_and_no_sentence() -> None:
    photographs = [set(data.PHOTOGRAPHS[split]) for split in get_args(data.Split)]
    assert all(photographs) and not photographs[0] & photographs[1]
    texts = [set(data.sentences(split, 256)) for split in get_args(data.Split)]
    assert len(texts[0]) == len(texts[1]) == 256 and not texts[0] & texts[1]


def test_crops_depend_on_the_seed_alone() -> None:
    first = data.crops("evaluation", 9, seed=3)
    assert first.shape == (9, 3, 224, 224) and first.dtype == np.float32
    assert -127 / 128 <= first.min() < -0.5 < 0.5 < first.max() <= 1
    assert np.array_equal(first, data.crops("evaluation", 9, seed=3))
    assert not np.array_equal(first, data.crops("evaluation", 9, seed=4))
    other = data.varied(first, seed=1)
    assert other.shape == first.shape and other.dtype == first.dtype and np.array_equal(other, data.varied(first, seed=1))
    pixels = other * 128 + 127
    assert np.array_equal(pixels, np.rint(pixels)) and 0 <= pixels.min() < pixels.max() <= 255
    assert all((a != b).mean() > 0.5 for a, b in zip(first, other, strict=True))


def test_too_many_sentences_are_refused() -> None:
    with pytest.raises(ValueError, match="sentences, not 1000000"):
        data.sentences("calibration", 1_000_000)


@pytest.mark.parametrize("name", WORKLOADS)
def test_samples_fit_the_model(name: str) -> None:
    workload = WORKLOADS[name]
    for sample in (workload.calibration()[0], workload.evaluation()[0]):
        assert tuple(sample) == workload.inputs
        assert all(array.shape[0] == 1 for array in sample.values())
    if name == "minilm-l6":
        assert all(s["input_ids"].shape == (1, LENGTH) for s in workload.evaluation())
        assert all(s["attention_mask"].all() for s in workload.calibration())


@pytest.mark.parametrize("name", WORKLOADS)
def test_equal_outputs_score_perfectly(name: str) -> None:
    workload = WORKLOADS[name]
    samples = workload.evaluation()[:5]
    random = np.random.default_rng(0)
    shape = (1, LENGTH, 8) if workload.transformer else (1, 10)
    outputs = [random.normal(size=shape).astype(np.float32) for _ in samples]
    noisy = [output + np.float32(0.5) * random.normal(size=shape).astype(np.float32) for output in outputs]
    perfect, worse = workload.score(outputs, outputs, samples), workload.score(outputs, noisy, samples)
    assert perfect.pop("sqnr_db") == np.inf > worse.pop("sqnr_db") > 0
    assert all(value == pytest.approx(1) for value in perfect.values())
    assert all(worse[key] <= perfect[key] for key in perfect) and worse != perfect


def test_ratios_are_to_the_first_session() -> None:
    def work(rounds: int):
        return lambda sample: sum(float(sample["x"].sum()) for _ in range(rounds))

    sample = {"x": np.ones(20_000, np.float32)}
    found = time_interleaved({"once": work(1), "ten times": work(10)}, sample, seconds=0.05)
    assert found["once"][1] == 1
    assert found["ten times"][1] > 2 and found["ten times"][0] > found["once"][0] > 0


def test_rows_name_builders_and_runtimes() -> None:
    assert {row.builder for row in ROWS.values()} <= set(BUILDERS)
    assert {row.runtime for row in ROWS.values()} <= set(OPEN)
    assert peak_memory() > 10e6


def test_table_shows_figures_and_failures() -> None:
    table = {
        "float": {"title": "float", "sqnr_db": float("inf"), "latency_ratio": 1.0, "bytes": 4_000_000},
        "nncf": {"title": "NNCF", "error": "no memory"},
    }
    assert markdown("Model", table).splitlines() == [
        "**Model**", "", "| | SQNR dB | latency / float | size MB |", "|---|---|---|---|",
        "| float | inf | 1.00 | 4.0 |", "| NNCF | failed: no memory | | |",
    ]  # fmt: skip


@pytest.mark.parametrize("model", ablation.MODELS)
def test_every_row_of_the_ablation_is_a_recipe_of_the_target(model: str) -> None:
    from qcompiler.compilation import build_passes
    from qcompiler.recipe import load_recipe
    from qcompiler.targets import get_target

    rows = ablation.recipes(ablation.MODELS[model].rows)
    names = {row: {p.name for p in build_passes(load_recipe(r), get_target("onnxruntime-cpu"))} for row, r in rows.items()}
    assert "smooth_activations" not in names["min-max, nearest"]
    assert any("smooth_activations" in found for found in names.values())
    alone = [row for row in rows if row.endswith("instead of smoothing")]
    assert len(alone) == 1 and "smooth_activations" not in names[alone[0]]
    assert names[alone[0]] & {"rotate_residual", "reparameterize_layer_norm"}


def test_rows_of_the_ablation_add_up() -> None:
    rows = ablation.recipes(ablation.SMOLLM2)
    smoothing, splitting = rows["+ smoothing"], rows["+ splitting of massive channels"]
    assert smoothing["smooth"] == splitting["smooth"] == "auto"
    assert smoothing["weight_range"] == "mse" and smoothing["passes"] and not splitting["passes"]
    assert "| + smoothing | 3.14 |" in ablation.table("smollm2", "perplexity", {"+ smoothing": 3.14159})
