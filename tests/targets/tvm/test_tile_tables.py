"""Searches replayed over tables of tiles, and the tile of the rule beside the best one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tvm", reason="needs TVM: pip install 'qcompiler[tvm]'")

from benchmarks.cpu_kernels import tiles  # noqa: E402
from qcompiler.kernels.cpu.isa import isa_named  # noqa: E402
from qcompiler.targets.tvm.machine import host_machine  # noqa: E402
from qcompiler.targets.tvm.tune import tasks_of  # noqa: E402

NAME = "attention values"


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[Any, float]:
    """Times of every tile, longer the further it is from 3 rows of 2 vectors; written and read back."""
    monkeypatch.setattr(tiles, "TABLES", tmp_path)
    _, (task,) = tasks_of(tiles.PRODUCTS[NAME](), host_machine().isa)
    rows = [[t.rows, t.vectors, t.panel, t.whole, 1 + abs(t.rows - 3) + 2 * abs(t.vectors - 2)] for t in task.tiles]
    tiles.write_table({"device": {}, "product": NAME, "key": task.key, "columns": [], "tiles": rows})
    assert tiles.tables() == [NAME]
    return tiles.read_table(NAME)


def test_a_replay_finds_the_best_tile_once_it_tried_all(table: dict[Any, float]) -> None:
    assert tiles.replay(NAME, 0, model=False, trials=len(table)) == min(table.values()) == 1e-6
    few = [tiles.replay(NAME, seed, model=False, trials=3) for seed in range(4)]
    assert all(1e-6 <= seconds <= max(table.values()) for seconds in few) and len(set(few)) > 1
    assert tiles.replay(NAME, 1, model=True, trials=16) == tiles.replay(NAME, 1, model=True, trials=16)


def test_rows_of_the_tables(table: dict[Any, float], monkeypatch: pytest.MonkeyPatch) -> None:
    found = tiles.default_row(NAME)
    assert found["held_out"] and found["best_us"] == 1 and found["ratio"] == pytest.approx(found["us"])
    monkeypatch.setattr(tiles, "TRIALS", 12)
    monkeypatch.setattr(tiles, "SEEDS", 3)
    row = tiles.tuning_row(NAME)
    assert row["tiles"] == len(table) and row["low"] <= row["ratio"] <= row["high"]
    assert min(row["xgboost"], row["random"]) >= 1


def test_small_weights_are_of_forms_of_their_own() -> None:
    isa = isa_named("avx2")
    marks = {"ResNet-8, 16 channels": "vpmaddwd-8", "ResNet-8, 16 channels, sums of 2": "vpmaddubsw-8"}
    marks |= {"MiniLM down, sums of 4": "vpmaddubsw-x2-8", "MiniLM down, sums of 8": "vpmaddubsw-x4-8"}
    for name, form in marks.items():
        _, (task,) = tasks_of(tiles.PRODUCTS[name](), isa)
        assert task.key.startswith(form)
