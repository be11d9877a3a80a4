import json
import os
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from qcompiler.cli import app
from qcompiler.cli_tune import parse_budget
from qcompiler.errors import UsageError
from qcompiler.recipe import load_recipe
from qcompiler.search import backends

SOURCE = '''
import numpy as np, torch

def network():
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(8, 16, 3, stride=2, padding=1),
        torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(16, 10))
    return net.eval(), (torch.zeros(1, 3, 12, 12),)

def data():
    rng = np.random.default_rng(0)
    return [rng.standard_normal((1, 3, 12, 12)).astype(np.float32) for _ in range(24)]

def sick(outputs, expected):
    raise ValueError("sick metric")
'''


@pytest.fixture
def place(tmp_path, monkeypatch):
    (tmp_path / "net.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(backends, "SECONDS", 0.05)
    return tmp_path


def arguments(*more, limit=("--max-drop", "0.3", "--metric", "agreement")):
    fixed = ["tune", "net.py:network", "-t", "onnxruntime-cpu", "-c", "net.py:data", "-o", "out"]
    return [*fixed, "--trials", "6", "--generation", "3", *limit, *more]


def run(*more, **options):
    return CliRunner().invoke(app, arguments(*more, **options))


def test_tune_writes_an_artefact_a_recipe_and_its_figures_and_resumes(place):
    first = run("--json")
    assert first.exit_code == 0, first.output
    printed = json.loads(first.stdout)
    saved = json.loads((place / "out" / "tune.json").read_text())
    assert {"best", "front", "trials", "resumed", "stopped_by"} <= saved.keys() <= printed.keys()
    assert {"config", "drop", "objective"} <= saved["best"].keys()
    assert saved["resumed"] == 0 and saved["stopped_by"] == "trials"
    kinds = {f["kind"] for t in saved["trials"] for f in t["figures"].values()}
    assert kinds == {"measured", "simulated", "analytic"}
    page = (place / "out" / "report.html").read_text()
    assert "<h2 id=\"search-h\">Search</h2>" in page and "Precision of every group" in page and "search-title" in page
    recipe = load_recipe(place / "out" / "recipe.yaml")
    assert recipe.name == "auto"
    compiled = CliRunner().invoke(
        app, ["compile", "net.py:network", "-r", "out/recipe.yaml", "-c", "net.py:data", "-o", "again"]
    )
    assert compiled.exit_code == 0, compiled.output

    second = run("--json")  # the same command again: nothing is evaluated anew
    again = json.loads(second.stdout)
    assert second.exit_code == 0 and again["resumed"] == len(again["trials"]) == len(saved["trials"])
    assert again["best"] == printed["best"] and again["front"] == printed["front"]

    other = run("--seed", "1", "--force")
    assert other.exit_code == 2 and "seed: 0 then, 1 now" in other.output


def test_a_limit_that_nothing_keeps_exits_with_3(place):
    result = run("--trials", "2", limit=("--max-size", "100"))
    assert result.exit_code == 3
    assert "no configuration keeps size_bytes at most 100" in result.output and "What limits it" in result.output
    assert not (place / "out").exists() and (place / "out.trials.sqlite").exists()


@pytest.mark.parametrize(
    ("more", "limit", "message"),
    [
        ((), (), "exactly one of"),
        ((), ("--max-drop", "0.1", "--max-size", "1MB"), "exactly one of"),
        ((), ("--max-latency", "5MB"), "is no limit"),
        (("--budget", "soon"), ("--max-drop", "0.1"), "is no time"),
        (("--workers", "many"), ("--max-drop", "0.1"), "give local:N"),
        (("--solver", "ilq"), ("--max-drop", "0.1"), "Did you mean 'ilp'"),
        (("--solver", "evolution"), ("--max-drop", "0.1"), "with this limit use one of guided"),
        (("--sensitivity", "hesian"), ("--max-drop", "0.1"), "Did you mean 'hessian'"),
        (("--objective", "speed"), ("--max-drop", "0.1"), "known: latency, size"),
        ((), ("--max-ram", "64kB"), "has no memory plan"),
        (("-r", "w8a9"), ("--max-drop", "0.1"), "Did you mean 'w8a8'"),
        (("--store", "net.py"), ("--max-drop", "0.1"), "name another --store"),
    ],
)
def test_bad_usage_exits_with_2(place, more, limit, message):
    result = run(*more, limit=limit)
    assert result.exit_code == 2, result.output
    assert message in result.output and not (place / "out").exists()


def test_a_metric_that_fails_fails_every_trial_and_says_so(place):
    result = run(limit=("--max-drop", "0.1", "--metric", "net.py:sick"))
    assert result.exit_code == 4 and "sick metric" in result.output


def test_an_existing_folder_of_another_kind_is_not_replaced(place):
    (place / "out").mkdir()
    (place / "out" / "mine.txt").write_text("")
    result = run("--force")
    assert result.exit_code == 2 and "is not replaced" in result.output


def test_interrupt_keeps_what_was_done(place):
    """Ctrl-C in a running process: exit code 130, and the next run goes on."""
    command = [sys.executable, "-m", "qcompiler.cli", *arguments("--trials", "5000")]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=os.environ, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # workers of pytest-xdist hand on SIG_IGN
    )  # fmt: skip
    saved = place / "out.trials.recipe.yaml"
    for _ in range(600):
        if saved.exists() or process.poll() is not None:
            break
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "interrupted" in errors and "trials are kept" in errors
    assert load_recipe(saved).name == "auto" and not (place / "out").exists()
    resumed = json.loads(run("--json").stdout)
    assert resumed["resumed"] >= 1


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90.0), ("20m", 1200.0), ("2h", 7200.0), ("0", 0.0), (None, None)])
def test_budgets_are_read(text, seconds):
    assert parse_budget(text) == seconds


def test_a_budget_without_a_number_is_refused():
    with pytest.raises(UsageError, match="is no time"):
        parse_budget("20 minutes")
