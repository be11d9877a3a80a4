"""`evaluate` end to end: labels, several metrics, who computed the artefact's side, and bad data."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import qcompiler as qc
from qcompiler.cli import app
from qcompiler.comparison import ARTEFACT, REFERENCE
from qcompiler.errors import CalibrationError, UnsupportedError, UsageError

VOCABULARY, TOKENS = 13, 6


class LanguageModel(torch.nn.Module):
    """Token ids [batch, tokens] to logits [batch, tokens, vocabulary]."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = torch.nn.Embedding(VOCABULARY, 16)
        self.hidden = torch.nn.Linear(16, 16)
        self.head = torch.nn.Linear(16, VOCABULARY)

    def forward(self, input_ids):
        return self.head(torch.relu(self.hidden(self.embed(input_ids))))


@pytest.fixture(scope="module")
def compiled():
    ids = np.random.default_rng(0).integers(0, VOCABULARY, (8, 1, TOKENS))
    data = [{"input_ids": row} for row in ids]
    model = LanguageModel().eval()
    return qc.compile(model, (torch.from_numpy(ids[0]),), target="onnx", recipe="w8a8", calibration=data, metric="kl")


@pytest.fixture(scope="module")
def data():
    return np.random.default_rng(1).integers(0, VOCABULARY, (4, 1, TOKENS))


def test_named_metrics_through_the_artefact(compiled, data):
    found = compiled.evaluate({"input_ids": data, "labels": data}, ["perplexity", "kl", "top1"])
    perplexity, kl, top1 = found.asked
    assert found.executor == ARTEFACT and found.samples == 4
    assert perplexity.value == pytest.approx(perplexity.float_value, rel=0.05) and perplexity.value != perplexity.float_value
    assert 0 < kl.value < 0.01
    logits = np.concatenate([compiled.run(row)[0] for row in data])
    assert top1.value == (logits.argmax(-1) == data[:, 0]).mean()


def test_metric_of_compile_is_in_the_report(compiled):
    row = compiled.report.accuracy.metrics[0]
    assert (row.name, row.higher_is_better, row.float_value) == ("kl", False, 0)
    assert row.drop == row.quantized_value > 0


def test_a_runtime_without_the_kernel_leaves_it_to_the_reference(compiled, data, monkeypatch, caplog):
    through_artefact = compiled.evaluate(data, "kl")

    def refuse(self, folder, threads=1, optimize=True):
        raise UnsupportedError("no kernel for an op")

    loaded = qc.api.Compiled(
        compiled.graph, compiled.float_graph, compiled.target, compiled.lock, compiled.report, compiled.folder
    )
    monkeypatch.setattr(type(compiled.target), "open", refuse)
    found = loaded.evaluate(data, "kl")
    assert found.executor == REFERENCE
    assert "no kernel for an op" in caplog.text
    assert found.value == pytest.approx(through_artefact.value, rel=0.05)


def test_bad_data(compiled, data, tmp_path):
    with pytest.raises(UsageError, match="add an array `labels`"):
        compiled.evaluate(data, "top1")
    with pytest.raises(UsageError, match="has 30 labels for 24 rows"):
        compiled.evaluate({"input_ids": data, "labels": np.zeros(30, int)}, "top1")
    with pytest.raises(UsageError, match="a sample has 6 rows and 0 labels"):
        compiled.evaluate({"input_ids": data, "labels": np.zeros(6, int)}, "top1")
    with pytest.raises(CalibrationError, match="whole numbers; got float64"):
        compiled.evaluate({"input_ids": data, "labels": np.zeros(24)}, "top1")
    with pytest.raises(UsageError, match="unknown metric 'perplexty'.*Did you mean 'perplexity'"):
        compiled.evaluate(data, "perplexty")
    without = qc.api.Compiled(
        compiled.graph, None, compiled.target, compiled.lock, compiled.report, compiled.folder
    )
    with pytest.raises(UsageError, match="without its float model"):
        without.evaluate(data)


def test_command_names_executor_and_worst_layers(compiled, data, tmp_path):
    out = compiled.save(tmp_path / "out")
    np.savez(tmp_path / "data.npz", input_ids=data, labels=data.ravel())
    command = ["evaluate", str(out), "-e", str(tmp_path / "data.npz"), "--metric", "perplexity", "--metric", "top1"]
    printed = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert [m["name"] for m in printed["asked"]] == ["perplexity", "top1"]
    assert printed["executor"] == ARTEFACT and printed["metric"] == "perplexity"
    assert {"hidden", "head"} <= {row["module"] for row in printed["worst_layers"]}
    table = CliRunner().invoke(app, command).stdout
    assert "artefact computed by" in table and "worst layers" in table and "hidden" in table
    (tmp_path / "labelled.py").write_text(
        "import numpy as np\ndef data():\n    ids = np.zeros((2, 1, 6), int)\n    return {'input_ids': ids, 'labels': ids}\n"
    )
    command[3] = f"{tmp_path / 'labelled.py'}:data"
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0 and "top1" in result.stdout, result.stderr
    (tmp_path / "labelled.py").write_text("def data():\n    raise OSError('gone')\n")
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2 and "OSError: gone" in result.stderr
