"""`qcompiler tune-kernels` and what `compile` makes of its records; sizes outside the declared limits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import qcompiler as qc
from qcompiler.cli import app
from qcompiler.errors import UsageError

pytest.importorskip("tvm", reason="needs TVM: pip install 'qcompiler[tvm]'")

SOURCE = """
import torch

def net():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(32, 48), torch.nn.ReLU(), torch.nn.Linear(48, 16)).eval(), (torch.zeros(4, 32),)
"""


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A factory in a file, and calibration data."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "two_layers.py").write_text(SOURCE)
    np.savez(folder / "data.npz", input=np.random.default_rng(0).normal(size=(12, 4, 32)).astype(np.float32))
    return f"{folder}/two_layers.py:net", folder / "data.npz"


def compile_to(out: Path, model: tuple[str, Path]) -> Path:
    result = run("compile", model[0], "-t", "tvm-cpu", "-r", "w8a8-int", "-c", model[1], "--allow-slow", "-o", out)
    assert result.exit_code == 0, result.stderr
    return out


def tiles_in(out: Path) -> Any:
    return qc.load(out).lock.decisions.get("tiles")


def test_records_are_taken_by_compile_and_kept_by_the_lock(
    model: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = tmp_path / "records"
    monkeypatch.setenv("QC_KERNEL_DATABASE", str(records))
    out = compile_to(tmp_path / "untuned", model)
    assert not records.exists() and tiles_in(out) is None

    first = run("tune-kernels", out, "--trials", 2, "--json")
    assert first.exit_code == 0, first.stderr
    found = json.loads(first.stdout)
    assert found["schema_version"] == 1 and Path(found["database"]).parent == records
    assert [k["trials"] for k in found["kernels"]] == [2, 2] and "GOPS of 2 trials" in first.stderr
    assert all(0 < k["best_seconds"] <= k["default_seconds"] for k in found["kernels"])
    again = run("tune-kernels", out, "--trials", 3)
    assert again.exit_code == 0 and "best us" in again.stdout
    assert again.stderr.count("GOPS of 3 trials") == 2  # one more each: what was measured is not measured again

    tuned = compile_to(tmp_path / "tuned", model)
    held = tiles_in(tuned)
    assert set(held) == {k["key"] for k in found["kernels"]}
    notes = [k["note"] for k in json.loads((tuned / "program.json").read_text())["kernels"]]
    assert sum(note.endswith(", tuned") for note in notes) == 2

    (database,) = records.iterdir()
    changed = json.loads(database.read_text())
    for trials in changed["trials"].values():  # other tiles are best from now on
        trials.append([{"rows": 1, "vectors": 1, "panel": 0, "whole": True}, 1e-12])
    database.write_text(json.dumps(changed))
    locked = qc.compile(model[0], calibration=str(model[1]), lock=tuned).save(tmp_path / "locked")
    for name in ("lib.so", "constants.safetensors", "program.json", "recipe.lock.yaml"):
        assert (locked / name).read_bytes() == (tuned / name).read_bytes(), name
    plain = qc.compile(model[0], calibration=str(model[1]), lock=out).save(tmp_path / "plain")
    assert (plain / "lib.so").read_bytes() == (out / "lib.so").read_bytes()

    for text, message in (("{", "is damaged"), (json.dumps({**changed, "device": {"processor": "x"}}), "of another device")):
        database.write_text(text)
        for command in (
            ("tune-kernels", out, "--trials", 1),
            ("compile", model[0], "-t", "tvm-cpu", "-r", "w8a8-int", "-c", model[1], "-o", tmp_path / "refused"),
        ):
            refused = run(*command)
            assert refused.exit_code == 2 and message in " ".join(refused.stderr.split()), refused.stderr
    assert not (tmp_path / "refused").exists()


def test_options_of_tune_kernels(model: tuple[str, Path], tmp_path: Path) -> None:
    refused = run("tune-kernels", model[0], "--rpc", "127.0.0.1:9190")
    assert refused.exit_code == 2 and "belong together" in refused.stderr
    out = tmp_path / "portable"
    assert run("compile", model[0], "-t", "onnx", "-r", "w8a8-int", "-c", model[1], "-o", out).exit_code == 0
    refused = run("tune-kernels", out)
    assert refused.exit_code == 4 and "are not tuned" in refused.stderr
    for address, message in (("nowhere", "--rpc takes HOST:PORT"), ("127.0.0.1:1", "no RPC tracker at 127.0.0.1:1")):
        refused = run("tune-kernels", out, "-t", "tvm-cpu", "--rpc", address, "--key", "k")
        assert refused.exit_code == 2 and message in " ".join(refused.stderr.split())


def test_sizes_outside_the_declared_limits(tmp_path: Path) -> None:
    batch = torch.export.Dim("batch", min=1, max=8)
    torch.manual_seed(0)
    data = [(np.random.default_rng(i).normal(size=(4, 16)).astype(np.float32),) for i in range(6)]
    made = qc.compile(
        torch.nn.Linear(16, 8).eval(), (torch.zeros(4, 16),), target="tvm-cpu", recipe="w8a8-int", calibration=data,
        dynamic_shapes={"input": {0: batch}}, allow_slow=True,
    )  # fmt: skip
    made.save(tmp_path / "out")
    for compiled in (made, qc.load(tmp_path / "out")):
        assert compiled.run(np.zeros((8, 16), np.float32))[0].shape == (8, 8)
        for call in (compiled.run, compiled.reference):
            with pytest.raises(UsageError, match="'batch' is 9, the program was compiled for 1 to 8.*wider dynamic_shapes"):
                call(np.zeros((9, 16), np.float32))
    np.savez(tmp_path / "large.npz", input=np.zeros((2, 9, 16), np.float32))
    refused = run("verify", tmp_path / "out", "--data", tmp_path / "large.npz")
    assert refused.exit_code == 2 and "'batch' is 9" in " ".join(refused.stderr.split())
