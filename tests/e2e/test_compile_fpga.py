"""A float network to an HLS project through the command line and the public interface; exact in C simulation."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import qcompiler as qc
from qcompiler.cli import app
from qcompiler.recipe import load_recipe
from qcompiler.targets.fpga_hls.parts import PARTS
from support.tools import requires_tool


def run(*args: object):
    return CliRunner().invoke(app, [str(arg) for arg in args])


def images(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [rng.normal(size=(1, 3, 32, 32)).astype(np.float32) for _ in range(count)]


@pytest.fixture(scope="module")
def saved(here: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """A project that `compile` wrote, and what it printed."""
    requires_tool("g++")
    out = tmp_path_factory.mktemp("fpga") / "out"
    source = f"{here}/net.py:net"
    result = run("compile", source, "-t", "fpga-hls:xc7a100t@125", "-r", "w8a8-int", "-c", here / "calibration.npz", "-o", out, "--json")
    assert result.exit_code == 0, result.stderr
    return out, json.loads(result.stdout)


def test_a_saved_project_runs_and_is_exact(saved: tuple[Path, dict]) -> None:
    out, printed = saved
    assert printed["target"] == "fpga-hls:xc7a100t@125" and printed["accuracy"]["sqnr_db"] > 20
    compiled = qc.load(out)
    for x in images(4):
        (got,), (want,) = compiled.run(x, raw=True), compiled.reference(x, raw=True)
        assert got.dtype == np.int8 and np.array_equal(got, want)
    assert (out / "top.cpp").is_file() and (out / "vitis_hls.tcl").is_file()


def test_multipliers_have_the_targets_bits_and_layers_one_shift(saved: tuple[Path, dict]) -> None:
    program = qc.load(saved[0]).graph
    rescales = [n for n in program.nodes if n.op == "requantize"]
    assert len(rescales) >= 5
    assert max(int(n.inputs[1].data.max()) for n in rescales) < 1 << 17
    assert all(len(set(n.inputs[2].data.ravel().tolist())) == 1 for n in rescales)


def test_verify(saved: tuple[Path, dict]) -> None:
    result = run("verify", saved[0], "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["differing"] == 0


@pytest.mark.parametrize("on", ["verilator", "csim"])
def test_bench_on_a_simulator(on: str, saved: tuple[Path, dict]) -> None:
    requires_tool("verilator" if on == "verilator" else "g++")
    result = run("bench", saved[0], "--on", on, "--samples", 2, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert (found["kind"], found["on"], found["samples"], found["differing"]) == ("simulated", on, 2, 0)
    assert found["resources"]["dsp"] > 0
    if on == "verilator":
        assert found["first_cycles"] == found["predicted"]["first_cycles"]
        # the second frame still fills queues behind the first; the model's have no end
        assert found["cycles"] == pytest.approx(found["predicted"]["cycles"], rel=0.05)


def test_bench_refuses_what_it_cannot_run_on(saved: tuple[Path, dict]) -> None:
    other = run("bench", saved[0], "--on", "qemu")
    assert other.exit_code == 4 and "it runs on verilator, icarus, csim" in other.stderr
    timed = run("bench", saved[0])
    assert timed.exit_code == 4 and "--on verilator" in timed.stderr


@pytest.mark.parametrize("recipe", ["w8a8-pow2", "narrow", "digits"])
def test_powers_of_two_and_narrow_codes(recipe: str, user_module) -> None:
    requires_tool("g++")
    given: object = recipe
    if recipe == "narrow":  # 4-bit layers between 8-bit ones
        rules = [{"match": "blocks.*", "weight_bits": 4, "activation_bits": 4}]
        given = load_recipe("w8a8-int").with_changes({"rules": rules, "rounding": "nearest"})
    if recipe == "digits":  # no multiplier anywhere: shifts and additions only
        given = load_recipe("w8a8-pow2").with_changes({"weight_digits": 2})
    model, example = user_module.net()
    data = [(x,) for x in images(8)]
    compiled = qc.compile(model, example, target="fpga-hls", recipe=given, calibration=data, evaluation=data[:2])
    if recipe == "narrow":
        assert {n.inputs[1].dtype.bits for n in compiled.graph.nodes if n.op == "conv"} == {4, 8}
    if recipe == "digits":
        assert compiled.target.footprint(compiled.graph)["dsp"] == 0
    for (x,) in data[:3]:
        assert np.array_equal(compiled.run(x, raw=True)[0], compiled.reference(x, raw=True)[0])


def test_a_part_that_is_too_small_is_named_before_anything_is_written(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PARTS, "tiny", replace(PARTS["xc7a35t"], name="tiny", dsp=2))
    out = tmp_path / "out"
    result = run("compile", f"{here}/net.py:net", "-t", "fpga-hls:tiny", "-r", "w8a8-int", "-c", here / "calibration.npz", "-o", out)
    assert result.exit_code == 3, result.stderr
    assert "does not fit tiny:" in result.stderr and "needed, 2 usable of 2" in result.stderr and "Remedy" in result.stderr
    assert not out.exists()


@pytest.mark.parametrize("tool", ["g++", "verilator", "iverilog", "yosys"])
def test_doctor_names_what_is_missing(tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    result = run("doctor", "--require", tool)
    assert result.exit_code == 6 and f"apt-get install {tool}" in result.stderr


def test_bad_input(here: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    common = ("-c", here / "calibration.npz", "-o", out)
    unknown = run("compile", f"{here}/net.py:net", "-t", "fpga-hls:xc7z02", *common)
    assert unknown.exit_code == 2 and "Did you mean 'xc7z020'" in unknown.stderr
    slow = run("compile", f"{here}/net.py:net", "-t", "fpga-hls", "-r", "w8a8-dynamic", *common)
    assert slow.exit_code == 4, slow.stderr
    assert not out.exists()
