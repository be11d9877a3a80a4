"""Searches replayed over tables of tiles, and the tile of the rule beside the best one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tvm", reason="needs TVM: pip install 'qcompiler[tvm]'")

from benchmarks.bench_tvm import with_part  # noqa: E402
from benchmarks.cpu_kernels import tiles  # noqa: E402
from benchmarks.cpu_kernels.products import SUMS, distinct  # noqa: E402
from qcompiler.kernels.cpu.isa import isa_named  # noqa: E402
from qcompiler.targets.tvm.tune import tasks_of  # noqa: E402

NAME = "attention values"
ISA = isa_named("avx2")


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[Any, float]:
    """Times of every tile, longer the further it is from 3 rows of 2 vectors; written and read back."""
    monkeypatch.setattr(tiles, "TABLES", tmp_path)
    _, (task,) = tasks_of(tiles.PRODUCTS[NAME](), ISA)
    rows = [[t.rows, t.vectors, t.panel, t.whole, 1 + abs(t.rows - 3) + 2 * abs(t.vectors - 2)] for t in task.tiles]
    tiles.write_table({"device": {"isa": ISA.name}, "product": NAME, "key": task.key, "columns": [], "tiles": rows})
    assert tiles.tables(ISA) == [NAME] and not tiles.tables(isa_named("avx512vnni"))
    return tiles.read_table(NAME, ISA)


def test_a_replay_finds_the_best_tile_once_it_tried_all(table: dict[Any, float]) -> None:
    assert tiles.replay(NAME, ISA, 0, model=False, trials=len(table)) == min(table.values()) == 1e-6
    few = [tiles.replay(NAME, ISA, seed, model=False, trials=3) for seed in range(4)]
    assert all(1e-6 <= seconds <= max(table.values()) for seconds in few) and len(set(few)) > 1
    assert tiles.replay(NAME, ISA, 1, model=True, trials=16) == tiles.replay(NAME, ISA, 1, model=True, trials=16)


def test_rows_of_the_tables(table: dict[Any, float], monkeypatch: pytest.MonkeyPatch) -> None:
    found = tiles.default_row(NAME, ISA)
    assert found["held_out"] and found["best_us"] == 1 and found["ratio"] == pytest.approx(found["us"])
    monkeypatch.setattr(tiles, "TRIALS", 12)
    monkeypatch.setattr(tiles, "SEEDS", 3)
    row = tiles.tuning_row(NAME, ISA)
    assert row["tiles"] == len(table) and row["low"] <= row["ratio"] <= row["high"]
    assert min(row["xgboost"], row["random"]) >= 1


def test_small_weights_are_of_forms_of_their_own() -> None:
    isa = isa_named("avx2")
    marks = {"ResNet-8, 16 channels": "vpmaddwd-8", "ResNet-8, 16 channels, sums of 2": "vpmaddubsw-8"}
    marks |= {"MiniLM down, sums of 4": "vpmaddubsw-x2-8", "MiniLM down, sums of 8": "vpmaddubsw-x4-8"}
    for name, form in marks.items():
        _, (task,) = tasks_of(tiles.PRODUCTS[name](), isa)
        assert task.key.startswith(form)


def test_no_row_twice_where_small_weights_have_no_form() -> None:
    plain = distinct(tiles.PRODUCTS, isa_named("avx512vnni"))
    assert plain and not any(SUMS in name for name in plain)
    assert [name for name in tiles.PRODUCTS if SUMS not in name] == plain
    assert distinct(tiles.PRODUCTS, ISA) == list(tiles.PRODUCTS)


@pytest.mark.parametrize(("name", "worst"), [("avx2", 1.11), ("avx512vnni", 1.15)])
def test_kept_tables_hold_every_tile_of_their_instruction_set(name: str, worst: float) -> None:
    """Whatever machine this is: the tuner searches them, the rule's tile is in them, at most so much slower than the best."""
    isa = isa_named(name)
    found = tiles.tables(isa)
    assert len(found) == len(list((tiles.TABLES / name).iterdir()))
    for product in found:
        assert set(tiles.read_table(product, isa)) == set(tiles.task_of(product, isa).tiles)
        assert 1 <= tiles.default_row(product, isa)["ratio"] < worst


def test_a_page_holds_one_part_per_instruction_set() -> None:
    page = "above\n<!-- bench-tvm avx2 -->\nold\n<!-- end -->\nbelow\n"
    both = with_part(page, "avx512vnni", "new")
    assert both == page.replace("\nbelow", "\n\n<!-- bench-tvm avx512vnni -->\nnew\n<!-- end -->\nbelow")
    assert with_part(both, "avx2", "newer") == both.replace("old", "newer")
    assert with_part(both, "avx512vnni", "newest") == both.replace("new", "newest")
    for broken in ("above\n", page.replace("<!-- end -->", "")):
        with pytest.raises(ValueError, match="put both where the figures belong"):
            with_part(broken, "avx2", "newer")
