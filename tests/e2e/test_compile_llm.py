"""A small decoder end to end: groups of 4 and 3 bits, dynamic length, tied embeddings, the same numbers as the plan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import qcompiler
from support.tiny_llama import VOCABULARY, calibration, logits_model, sequence

RECIPES = {
    "w4a16-nearest": {"base": "w4a16", "group_size": 32, "rounding": "nearest"},
    "w4a16": {"base": "w4a16", "group_size": 32},
    "w4a8": {"base": "w4a8", "group_size": 32},
    "w3a16": {"base": "w3a16", "group_size": 32},
}


@pytest.mark.parametrize(("target", "name"), [("onnxruntime-cpu", "w4a16"), ("onnxruntime-cpu", "w4a8"), ("onnx", "w3a16"), ("onnx", "w4a8")])
def test_artefact_computes_the_reference_at_any_length(target: str, name: str, tmp_path: Path) -> None:
    model = qcompiler.compile(
        logits_model(), (torch.zeros(1, 16, dtype=torch.long),), target=target, recipe=RECIPES[name],
        calibration=calibration(), dynamic_shapes={"input_ids": {1: sequence()}}, checkpoint=tmp_path / "checkpoint",
    )  # fmt: skip
    kernel = "MatMulNBits" if target == "onnxruntime-cpu" else "DequantizeLinear + MatMul"
    rows = [row for row in model.report.coverage if row.kernel == kernel]
    assert len(rows) == 14
    for length in (2, 9, 40):
        ids = np.random.default_rng(length).integers(0, VOCABULARY, (1, length))
        got, expected = model.run(ids)[0], model.reference(ids)[0]
        assert got.shape == (1, length, VOCABULARY)
        noise = np.square(got - expected).mean() / np.square(expected).mean()
        assert noise < (1e-3 if name == "w4a8" else 1e-8)  # an activation code next to a tie may fall either way
    # embedding and vocabulary layer are one matrix, in float, stored once
    size = (model.folder / "model.onnx").stat().st_size
    assert size < VOCABULARY * 64 * 4 * 1.5 + 2 * (4 * 64 * 64 + 3 * 64 * 128)


def test_gptq_is_better_than_nearest() -> None:
    found = {}
    for name in ("w4a16", "w4a16-nearest"):
        model = qcompiler.compile(
            logits_model(), (torch.zeros(1, 32, dtype=torch.long),), recipe=RECIPES[name], calibration=calibration(32),
            evaluation=calibration(8, seed=5),
        )  # fmt: skip
        found[name] = model.report.accuracy.sqnr_db
    assert found["w4a16"] > found["w4a16-nearest"] + 1
