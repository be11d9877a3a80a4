"""`tune` for a microcontroller: instructions counted in QEMU, flash and RAM of the linked program."""

import numpy as np
import pytest
import torch

from qcompiler.compilation import Request
from qcompiler.errors import ConstraintError
from qcompiler.search.limits import Limits
from qcompiler.search.result import Settings
from qcompiler.search.tune import tune
from support.tools import requires_tool


@pytest.fixture(autouse=True)
def tools():
    for tool in ("arm-none-eabi-gcc", "qemu-system-arm", "make"):
        requires_tool(tool)


def request():
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 3, stride=2, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(8, 16, 3, padding=1),
        torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(16, 4),
    ).eval()  # fmt: skip
    rng = np.random.default_rng(0)
    data = [(rng.standard_normal((1, 1, 12, 12)).astype(np.float32),) for _ in range(12)]
    example = (torch.zeros(1, 1, 12, 12),)
    return Request(net, example, target="cortex-m4", recipe="w8a8-int", calibration=data, metric="sqnr")


def test_instructions_within_a_drop(tmp_path):
    limits = Limits(drop=-15.0, objective="instructions")
    tuned = tune(request(), limits, Settings(trials=8, generation=4), tmp_path / "t.sqlite")
    best, base = tuned.result.best, tuned.result.baseline
    assert best.value("drop") <= -15.0 and best.value("instructions") <= base.value("instructions")
    for trial in (best, base):
        kinds = {name: trial.figures[name].kind for name in ("instructions", "flash_bytes", "ram_bytes", "drop")}
        assert kinds == {"instructions": "simulated", "flash_bytes": "simulated", "ram_bytes": "simulated", "drop": "measured"}
        assert trial.figures["instructions"].environment.endswith("on qemu")
    proposed = [t for t in tuned.result.trials if t.stage == "fast"]
    assert {t.figures["instructions"].kind for t in proposed} == {"analytic"}
    # Unpacking 4-bit weights costs instructions, and the program says so: the counts are those of the program.
    assert len({t.value("instructions") for t in tuned.result.trials if t.stage == "exact"}) > 1
    assert tuned.data["cost_model"]["figure"] == "instructions" and tuned.data["cost_model"]["points"] >= 1


def test_ram_is_a_limit_and_its_least_is_named(tmp_path):
    with pytest.raises(ConstraintError, match="keeps ram_bytes at most 100: the best that was measured has"):
        tune(request(), Limits(ram="100B"), Settings(trials=4, generation=4), tmp_path / "t.sqlite")
