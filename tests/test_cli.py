"""The command line: exit codes, JSON contracts, spellings, and what bad input says."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import yaml
from typer.testing import CliRunner

from qcompiler.cli import app
from qcompiler.recipe import load_recipe


def run(*args: str):
    return CliRunner().invoke(app, list(args))


def test_version():
    result = run("--version")
    assert result.exit_code == 0
    assert result.stdout.startswith("qcompiler ")


def test_the_package_runs_as_the_command():
    done = subprocess.run([sys.executable, "-m", "qcompiler", "nope"], check=False, capture_output=True, text=True)
    assert done.returncode == 2 and "nope" in done.stderr


def test_import_and_help_stay_cheap():
    """Nobody waits for torch to read a help text; what is imported decides, not a clock."""
    code = (
        "import sys, qcompiler, qcompiler.cli\n"
        "try:\n    qcompiler.cli.app(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'scipy', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", ["compile", "evaluate", "verify", "bench", "inspect", "report", "targets",
                                     "recipes", "doctor", "bisect"])  # fmt: skip
def test_every_command_has_help(command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert command in result.stdout


@pytest.mark.parametrize("args", [[], ["nope"], ["compile"], ["compile", "m.pt2"], ["targets", "--colour"]])
def test_wrong_usage_gives_2(args):
    assert run(*args).exit_code == 2


def test_recipes_are_listed_and_shown_resolved():
    listed = json.loads(run("recipes", "--json").stdout)
    assert listed["schema_version"] == 1
    assert {"w4a4", "w8a8", "w8a8-dynamic", "w8a8-int"} <= {r["name"] for r in listed["recipes"]}
    shown = yaml.safe_load(run("recipes", "show", "w8a8").stdout)
    assert load_recipe(shown) == load_recipe("w8a8")
    assert "w8a8-dynamic" in run("recipes").stdout


def test_set_changes_the_resolved_recipe():
    result = run(
        "recipes",
        "show",
        "w8a8",
        "--set",
        "rounding=adaround",
        "--set",
        "calibration.max_samples=8",
        "--json",
    )
    shown = json.loads(result.stdout)
    assert shown["rounding"] == "adaround"
    assert shown["calibration"] == {**load_recipe("w8a8").calibration.model_dump(), "max_samples": 8}


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("rounding=adarond", "Did you mean 'adaround'?"),
        ("roundng=adaround", "Did you mean 'rounding'?"),
        ("rounding", "not of the form FIELD=VALUE"),
        ("rounding=[", "not YAML"),
    ],
)
def test_bad_settings_give_2(setting, expected):
    result = run("recipes", "show", "w8a8", "--set", setting)
    assert result.exit_code == 2
    assert expected in result.stderr


def test_unknown_recipe_gives_2_and_the_nearest():
    result = run("recipes", "show", "w8a9")
    assert result.exit_code == 2
    assert "Did you mean 'w8a8'?" in result.stderr
    assert result.stdout == ""


def test_targets_are_listed():
    names = [t["name"] for t in json.loads(run("targets", "--json").stdout)["targets"]]
    assert {"onnx", "onnxruntime-cpu"} <= set(names)


def test_doctor_names_versions_and_the_package_of_a_missing_tool():
    found = json.loads(run("doctor", "--json").stdout)
    assert found["packages"]["numpy"]
    assert found["isa"]
    assert all(tool["install"] for tool in found["tools"])


def test_doctor_requires_only_when_asked(monkeypatch):
    from qcompiler import doctor

    missing = doctor.Tool("unicorn", "testing", "apt-get install unicorn", programs=("no-such-unicorn",))
    monkeypatch.setattr(doctor, "TOOLS", (*doctor.TOOLS, missing))
    assert run("doctor").exit_code == 0
    result = run("doctor", "--require", "unicorn")
    assert result.exit_code == 6
    assert "apt-get install unicorn" in result.stderr
    assert run("doctor", "--require", "numpy").exit_code == 0
    result = run("doctor", "--require", "unicron")
    assert result.exit_code == 2
    assert "Did you mean 'unicorn'?" in result.stderr


def test_a_missing_onnx_file_gives_2(tmp_path):
    result = run("compile", str(tmp_path / "model.onnx"), "-o", str(tmp_path / "out"))
    assert result.exit_code == 2
    assert "no such model" in result.stderr


def test_shape_of_another_form_gives_2(tmp_path):
    result = run("compile", "model.onnx", "-o", str(tmp_path / "out"), "--shape", "x:1,3")
    assert result.exit_code == 2
    assert "INPUT=SIZExSIZE" in result.stderr


@pytest.mark.parametrize("command", ["inspect", "report", "verify", "bench"])
def test_a_folder_that_is_no_artefact_gives_2(tmp_path, command):
    for folder in (tmp_path, tmp_path / "absent"):
        result = run(command, str(folder))
        assert result.exit_code == 2
        assert str(folder) in result.stderr


def test_both_spellings_of_options_are_understood(tmp_path):
    kebab = run(
        "compile", "model.onnx", "-o", str(tmp_path / "o"), "--allow-slow", "--allow-random-calibration"
    )
    snake = run(
        "compile", "model.onnx", "-o", str(tmp_path / "o"), "--allow_slow", "--allow_random_calibration"
    )
    assert kebab.exit_code == snake.exit_code == 2
    assert "no such model" in kebab.stderr and kebab.stderr == snake.stderr
