"""Every script in examples/ runs as a reader would run it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
RUN_HERE = {"01_compile_efficientnet.py"}


def test_every_example_is_run() -> None:
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == RUN_HERE


def test_compile_efficientnet(tmp_path: Path) -> None:
    out = tmp_path / "efficientnet"
    result = subprocess.run(
        [sys.executable, ROOT / "examples/01_compile_efficientnet.py", "--out", out],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    # The first evaluation crop shows the astronaut; the network, float or not, sees some ImageNet class in it.
    assert "agreement" in result.stdout and "SQNR" in result.stdout and "report.html" in result.stdout
    assert {path.name for path in out.iterdir()} >= {
        "model.onnx", "graph.txt", "weights.safetensors", "recipe.lock.yaml", "report.html", "report.json",
    }  # fmt: skip
    assert (out / "model.onnx").stat().st_size < 6e6  # float: 18.6 MB
    report = json.loads((out / "report.json").read_text())
    assert report["accuracy"]["agreement"] > 0.85
