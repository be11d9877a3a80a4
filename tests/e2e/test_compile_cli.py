"""The `qcompiler` command end to end: what it writes, prints and returns, and what bad input leaves behind."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import qcompiler
from qcompiler.cli import app
from qcompiler.frontend import capture


def run(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def saved(here, tmp_path_factory):
    """An artefact folder that `compile` wrote, and what it printed."""
    out = tmp_path_factory.mktemp("saved") / "out"
    result = run("compile", f"{here}/net.py:net", "-c", here / "calibration.npz", "-o", out, "--json")
    assert result.exit_code == 0, result.stderr
    return out, json.loads(result.stdout)


def test_compile_prints_one_object_and_says_that_it_ran_code(saved, here, tmp_path):
    out, printed = saved
    assert printed["schema_version"] == 1
    assert printed["out"] == str(out)
    assert printed["recipe"] == "w8a8"
    assert printed["target"].startswith("onnxruntime-cpu")
    assert printed["accuracy"]["sqnr_db"] > 20
    assert printed["latency_ratio"] > 0
    result = run(
        "compile", f"{here}/net.py:net", "-c", here / "calibration.npz", "-e", f"{here}/net.py:samples", "-o",
        tmp_path / "out", "--metric", f"{here}/net.py:mean_of_first", "-t", "onnx", "-r", "w8a8-dynamic",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert "running code from" in result.stderr
    assert "mean_of_first" in result.stdout


def test_export_qonnx(saved, tmp_path):
    out, _ = saved
    place = tmp_path / "model.qonnx.onnx"
    assert run("export", out, "--qonnx", place).exit_code == 0
    program, again = qcompiler.load(out).graph, capture(str(place))
    weights = sorted(v.data.size for v in program.constants() if v.quant is not None)
    assert weights and weights == sorted(v.data.size for v in again.constants() if v.quant is not None)
    refused = run("export", out, "--qonnx", place)
    assert refused.exit_code == 2 and "exists" in refused.stderr
    assert run("export", out, "--qonnx", place, "--force").exit_code == 0


def test_inspect_report_verify_bench_evaluate(saved, here):
    out, _ = saved
    inspected = json.loads(run("inspect", out, "--json").stdout)
    assert {"target", "recipe", "hashes", "coverage", "refused"} <= inspected.keys()
    assert inspected["hashes"].keys() == {"model", "calibration data"}
    reported = json.loads(run("report", out, "--json").stdout)
    assert reported["accuracy"]["data"] == "held_back"
    verified = json.loads(run("verify", out, "--json").stdout)
    assert {"level", "samples", "differing", "max_lsb", "sqnr"} <= verified.keys()
    given = json.loads(run("verify", out, "--data", here / "evaluation.npz", "--json").stdout)
    assert verified["samples"] == 2 and given["samples"] == len(np.load(here / "evaluation.npz")["image"])
    benched = json.loads(run("bench", out, "--seconds", "0.1", "--json").stdout)
    assert {"target", "recipe", "kind", "samples", "differing", "latency_ms", "latency_ratio", "size_bytes"} <= (
        benched.keys()
    )
    assert (benched["kind"], benched["differing"]) == ("measured", 0)
    evaluated = run("evaluate", out, "-e", here / "evaluation.npz", "--metric", "cosine", "--json")
    assert json.loads(evaluated.stdout)["value"] > 0.99
    for command in (["inspect", out], ["report", out], ["verify", out], ["bench", out, "--seconds", "0.1"]):
        result = run(*command)
        assert result.exit_code == 0, result.stderr
        assert result.stdout.strip()


def test_verify_fails_below_the_bound(saved):
    assert run("verify", saved[0], "--min-sqnr", "10").exit_code == 0
    result = run("verify", saved[0], "--min-sqnr", "9999")
    assert result.exit_code in (0, 5)  # 0 only where the artefact equals the reference bit for bit
    if result.exit_code == 0:
        assert json.loads(run("verify", saved[0], "--json").stdout)["sqnr"] == "Infinity"


def test_verify_finds_an_artefact_that_was_tampered_with(saved, tmp_path):
    import shutil

    import onnx
    from onnx import numpy_helper

    out = tmp_path / "out"
    shutil.copytree(saved[0], out)
    assert run("verify", out).exit_code == 0
    model = onnx.load(out / "model.onnx")
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor).copy()
        if array.dtype in (np.int8, np.uint8) and array.size > 100:
            array.flat[0] ^= 64
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
            break  # one code of one layer: too little to show in the outputs' noise
    onnx.save(model, out / "model.onnx")
    result = run("verify", out)
    assert result.exit_code == 5
    assert "model.onnx was changed after it was compiled" in result.stderr


def test_a_damaged_model_file_is_said_not_traced(saved, tmp_path):
    import shutil

    out = tmp_path / "out"
    shutil.copytree(saved[0], out)
    file = out / "model.onnx"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert run("verify", out).exit_code == 5
    result = run("bench", out, "--seconds", "0.1")
    assert result.exit_code == 2
    assert "is the file damaged?" in result.stderr


def test_a_lock_repeats_the_artefact(saved, here, tmp_path):
    again = tmp_path / "again"
    result = run("compile", f"{here}/net.py:net", "-c", here / "calibration.npz", "-o", again, "--lock", saved[0])
    assert result.exit_code == 0, result.stderr
    for name in ("model.onnx", "graph.txt", "weights.safetensors", "recipe.lock.yaml"):
        assert (again / name).read_bytes() == (saved[0] / name).read_bytes()


def test_why_not_names_reasons(here, tmp_path):
    base = ["compile", f"{here}/net.py:net", "-c", here / "calibration.npz", "--ignore", "head"]
    result = run(*base, "-o", tmp_path / "a", "--why-not", "assign_precision", "head", "--json")
    assert result.exit_code == 0, result.stderr
    assert any("refused" in line for line in json.loads(result.stdout)["why_not"])
    result = run(*base, "-o", tmp_path / "b", "--why-not", "asign_precision", "head")
    assert result.exit_code == 2
    assert "Did you mean 'assign_precision'?" in result.stderr
    result = run(*base, "-o", tmp_path / "c", "--why-not", "assign_precision", "haed")
    assert result.exit_code == 2
    assert "Did you mean 'head'?" in result.stderr


def test_bisect_lists_passes_and_the_first_beyond_its_bound(here):
    args = ["bisect", f"{here}/net.py:net", "-c", here / "calibration.npz", "--json"]
    found = json.loads(run(*args, "--min-sqnr", "10").stdout)
    assert found["first"] is None
    assert [p["name"] for p in found["passes"]].index("assign_precision") < len(found["passes"]) - 1
    strict = json.loads(run(*args, "--min-sqnr", "500").stdout)
    assert strict["first"] == strict["passes"][-1]["name"]
    assert strict["passes"][-1]["exceeds"]


# Bad input: one message, the right exit code, nothing left behind.


def check_refused(result, code, expected, folder):
    assert result.exit_code == code, result.stderr
    assert expected in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(folder.iterdir())


@pytest.fixture
def out(tmp_path):
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty" / "out"


GOOD = np.zeros((4, 3, 32, 32), np.float32)


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"image": GOOD[:, :2]}, "shape"),
        ({"image": GOOD[..., 0]}, "shape"),
        ({"images": GOOD}, "Did you mean 'images'?"),
        ({"image": GOOD.astype(np.complex64)}, "complex"),
        ({"image": (GOOD * 255).astype(np.uint8)}, "dtype"),
        ({"image": GOOD[:0]}, "no sample"),
        ({"image": np.where(GOOD == 0, np.nan, GOOD).astype(np.float32)}, "NaN"),
    ],
)
def test_calibration_data_that_does_not_fit(here, tmp_path, out, arrays, expected):
    np.savez(tmp_path / "bad.npz", **arrays)
    result = run("compile", f"{here}/net.py:net", "-c", tmp_path / "bad.npz", "-o", out)
    check_refused(result, 2, expected, out.parent)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 truncated"])
def test_calibration_files_that_cannot_be_read(here, tmp_path, out, content):
    (tmp_path / "bad.npz").write_bytes(content)
    result = run("compile", f"{here}/net.py:net", "-c", tmp_path / "bad.npz", "-o", out)
    check_refused(result, 2, "bad.npz", out.parent)
    result = run("compile", f"{here}/net.py:net", "-c", tmp_path / "absent.npz", "-o", out)
    check_refused(result, 2, "absent.npz", out.parent)


def test_truncated_and_pickled_pt2(here, user_module, tmp_path, out):
    model, example = user_module.net()
    torch.export.save(torch.export.export(model, example), tmp_path / "net.pt2")
    whole = (tmp_path / "net.pt2").read_bytes()
    (tmp_path / "truncated.pt2").write_bytes(whole[: len(whole) // 2])
    torch.save({"weights": torch.zeros(3)}, tmp_path / "pickle.pt2")
    (tmp_path / "raw.pt2").write_bytes(b"\x80\x04N.")
    for name in ("truncated.pt2", "pickle.pt2", "raw.pt2", "absent.pt2"):
        result = run("compile", tmp_path / name, "-c", here / "calibration.npz", "-o", out)
        check_refused(result, 2, name, out.parent)
    result = run("compile", tmp_path / "net.pt2", "-c", here / "calibration.npz", "-o", out)
    assert result.exit_code == 0, result.stderr


@pytest.mark.parametrize(
    ("extra", "code", "expected"),
    [
        (["-t", "onnxruntime-gpu"], 2, "Did you mean 'onnxruntime-cpu'?"),
        (["-r", "w8a9"], 2, "Did you mean 'w8a8'?"),
        (["--set", "roundin=hessian"], 2, "Did you mean 'rounding'?"),
        (["--set", "passes={asign_precision: {enabled: false}}"], 2, "Did you mean 'assign_precision'?"),
        (["--ignore", "haed"], 2, "Did you mean 'head'?"),
        (["--metric", "cosin"], 2, "Did you mean 'cosine'?"),
        (["--lock", "absent"], 2, "cannot read lock file"),
        (["--dynamic", "image"], 2, "INPUT:AXIS=NAME"),
        (["--set", "weight_bits=3"], 3, "weight_bits"),
    ],
)
def test_wrong_requests(here, out, extra, code, expected):
    result = run("compile", f"{here}/net.py:net", "-c", here / "calibration.npz", "-o", out, *extra)
    check_refused(result, code, expected, out.parent)


def test_no_quantizable_op_gives_4(here, tmp_path, out):
    np.savez(tmp_path / "rows.npz", np.ones((4, 8), np.float32))
    result = run("compile", f"{here}/net.py:nothing_to_quantize", "-c", tmp_path / "rows.npz", "-o", out)
    check_refused(result, 4, "nothing to quantize", out.parent)


def test_no_calibration_data_gives_2(here, out):
    check_refused(run("compile", f"{here}/net.py:net", "-o", out), 2, "calibration data", out.parent)


def test_existing_output_is_refused_before_any_work(saved, here):
    before = {path: path.stat().st_mtime_ns for path in saved[0].rglob("*")}
    result = run("compile", f"{here}/net.py:interrupted", "-c", here / "calibration.npz", "-o", saved[0])
    assert result.exit_code == 2
    assert "--force" in result.stderr
    assert {path: path.stat().st_mtime_ns for path in saved[0].rglob("*")} == before


@pytest.mark.parametrize("metric", ["interrupting_metric", "broken_metric"])
def test_errors_late_in_a_compile_leave_nothing(here, out, metric):
    code = 130 if metric == "interrupting_metric" else 2
    result = run(
        "compile", f"{here}/net.py:net", "-c", here / "calibration.npz", "-o", out, "--metric",
        f"{here}/net.py:{metric}",
    )  # fmt: skip
    check_refused(result, code, "interrupted" if code == 130 else "broken_metric", out.parent)


def test_a_real_interrupt_gives_130_and_leaves_nothing(here, out, tmp_path):
    """The model's factory sends SIGINT to its own process, as a terminal does on Ctrl-C."""
    (tmp_path / "scratch").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "qcompiler.cli", "compile", f"{here}/net.py:interrupted", "-c",
         here / "calibration.npz", "-o", out],
        check=False, capture_output=True, text=True, env={**os.environ, "TMPDIR": str(tmp_path / "scratch")},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert done.returncode == 130, done.stderr
    assert "interrupted" in done.stderr
    assert not list(out.parent.iterdir())
    assert not list((tmp_path / "scratch").glob("*qcompiler*"))  # libraries may leave files of their own


def test_a_full_disk_gives_2_and_leaves_nothing(here, out, tmp_path):
    """The kernel refuses every write past 8 kB, as on a disk without space."""
    (tmp_path / "scratch").mkdir()

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))

    done = subprocess.run(
        [sys.executable, "-B", "-m", "qcompiler.cli", "compile", f"{here}/net.py:net", "-c",
         f"{here}/net.py:samples", "-o", out],
        check=False, capture_output=True, text=True, env={**os.environ, "TMPDIR": str(tmp_path / "scratch")},
        preexec_fn=limit,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "space" in done.stderr
    assert not list(out.parent.iterdir())
    assert not list((tmp_path / "scratch").glob("*qcompiler*"))  # libraries may leave files of their own
