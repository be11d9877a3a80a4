"""`tune` for targets whose artefacts are not ONNX: a TVM library timed here, a dataflow project in C simulation."""

import numpy as np
import pytest
import torch

from qcompiler.compilation import Request
from qcompiler.errors import UsageError
from qcompiler.search import backends
from qcompiler.search.limits import Limits
from qcompiler.search.result import Settings
from qcompiler.search.tune import tune
from support.tools import requires_tool

SHORT = Settings(trials=4, generation=2, verified=2)


def request(target, recipe):
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 3, stride=2, padding=1), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(), torch.nn.Linear(8, 4),
    ).eval()  # fmt: skip
    rng = np.random.default_rng(0)
    data = [(rng.standard_normal((1, 1, 12, 12)).astype(np.float32),) for _ in range(24)]
    return Request(net, (torch.zeros(1, 1, 12, 12),), target=target, recipe=recipe, calibration=data, metric="sqnr")


def test_a_library_of_tvm_is_timed_beside_float(tmp_path, monkeypatch):
    pytest.importorskip("tvm", reason="needs TVM: pip install 'qcompiler[tvm]'")
    monkeypatch.setattr(backends, "SECONDS", 0.05)
    tuned = tune(request("tvm-cpu", "w8a8"), Limits(drop=-15.0), SHORT, tmp_path / "t.sqlite")
    assert tuned.goal.objective == "latency_ratio" and tuned.result.best.value("drop") <= -15.0
    exact = [t for t in tuned.result.trials if t.stage == "exact"]
    assert len(exact) >= 2 and all(t.ok for t in exact)
    for trial in exact:
        ratio, mine = trial.figures["latency_ratio"], trial.figures["latency_ms"]
        assert ratio.kind == mine.kind == "measured" and mine.environment.startswith("tvm-cpu:")
        assert mine.value > 0 and trial.value("float_ms") > 0
    assert {t.figures["latency_ratio"].kind for t in tuned.result.trials if t.stage == "fast"} == {"analytic"}
    assert tuned.data["cost_model"]["figure"] == "latency_ratio" and tuned.data["cost_model"]["points"] >= 1
    assert (tuned.compiled.folder / "lib.so").exists()


def test_a_dataflow_project_is_judged_by_its_own_c_simulation(tmp_path):
    requires_tool("g++", "clang++")
    asked = request("fpga-hls", "w8a8-int")
    tuned = tune(asked, Limits(drop=-15.0), SHORT, tmp_path / "t.sqlite")
    assert tuned.goal.objective == "size_bytes" and tuned.result.best.value("drop") <= -15.0
    exact = [t for t in tuned.result.trials if t.stage == "exact"]
    assert len(exact) >= 2 and all(t.ok and t.figures["drop"].kind == "measured" for t in exact)
    assert {w for g in tuned.result.best.config["groups"].values() for w in [g.split()[-1]]} != {"w8a8"}
    assert all(v.differing == 0 for v in tuned.compiled.report.verification) and (tuned.compiled.folder / "top.cpp").exists()
    with pytest.raises(UsageError, match="cannot be timed on this machine"):
        tune(asked, Limits(latency="1ms"), SHORT, tmp_path / "other.sqlite")
