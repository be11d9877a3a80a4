"""Decisions of a compile that was killed are replayed, not measured again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qcompiler.errors import UsageError
from qcompiler.ir import DType, Graph
from qcompiler.passes.base import Context, Kind, Pass, Result, run_passes
from qcompiler.passes.kept_decisions import KeptDecisions
from support.toy_networks import Layers


class Measuring(Pass):
    """Decides a number, and counts how often it has measured it."""

    name = "measuring"
    kind = Kind.EXACT
    measured = 0

    def run(self, graph: Graph, context: Context) -> Result:
        locked = (context.locked or {}).get(self.name)
        if locked is None:
            type(self).measured += 1
            locked = {"t": np.array([0.1, 1 / 3], np.float64)}
        context.decisions[self.name] = {"t": list(locked["t"])}
        return Result(graph, False)


class Silent(Measuring):
    """Decides nothing."""

    name = "silent"

    def run(self, graph: Graph, context: Context) -> Result:
        assert context.locked is None
        return Result(graph, False)


class Killed(Measuring):
    name = "killed"

    def run(self, graph: Graph, context: Context) -> Result:
        raise KeyboardInterrupt


@pytest.fixture
def graph() -> Graph:
    b = Layers("net")
    return b.build([b.linear(b.input("x", DType.float32, (1, 4)), 4, at="only")])


def opened(folder: Path | None, model: str = "a") -> Context:
    context = Context(checkpoint=folder, fingerprint={"model": model})
    context.kept = KeptDecisions(context)
    return context


def test_what_was_decided_is_replayed(graph: Graph, tmp_path: Path) -> None:
    Measuring.measured = 0
    with pytest.raises(KeyboardInterrupt):
        run_passes(graph, [Measuring(), Silent(), Killed()], opened(tmp_path))
    again = opened(tmp_path)
    run_passes(graph, [Measuring(), Silent()], again)
    assert Measuring.measured == 1 and again.locked is None
    assert again.decisions == {"measuring": {"t": [0.1, 1 / 3]}}


def test_without_a_folder_everything_is_measured(graph: Graph) -> None:
    Measuring.measured = 0
    for _ in range(2):
        run_passes(graph, [Measuring()], opened(None))
    assert Measuring.measured == 2


def test_decisions_of_another_model_are_refused(graph: Graph, tmp_path: Path) -> None:
    run_passes(graph, [Measuring()], opened(tmp_path))
    with pytest.raises(UsageError, match="another run: model differs"):
        opened(tmp_path, "b")


def test_a_damaged_file_is_named(graph: Graph, tmp_path: Path) -> None:
    run_passes(graph, [Measuring()], opened(tmp_path))
    (tmp_path / "decisions" / "measuring.json").write_text("{")
    with pytest.raises(UsageError, match=r"measuring\.json is damaged"):
        run_passes(graph, [Measuring()], opened(tmp_path))
