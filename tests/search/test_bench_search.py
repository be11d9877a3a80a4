"""The replay of the search benchmark, on made-up tables and on those that are kept."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import bench_search
from benchmarks.search.replay import (
    METHODS,
    Table,
    boosted_order,
    direction_order,
    oracle_order,
    permuted,
    trials,
)
from benchmarks.search.tables import FOLDER


def table(seed: int, informative: bool = True, kind: str = "options") -> Table:
    rng = np.random.default_rng(seed)
    configs = tuple(tuple(int(i) for i in c) for c in np.ndindex(3, 2, 4, 2))
    weights = rng.random(4) + np.array([1.0, 0.5, 0.8, 0.3])
    loss = np.exp(np.array(configs) @ weights + 0.1 * rng.random(len(configs)))
    rows = tuple({"noise_sum": float(np.log10(v)) if informative else 0.0} for v in loss)
    data = {"feature_seconds": 1.0, "seconds_per_trial": 1.0}
    return Table(f"made{seed}", kind, configs, (3, 2, 4, 2), loss, loss, np.zeros(len(loss)), rows, (), data)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_evaluates_every_configuration_once_until_it_succeeds(method):
    tables = [table(i) for i in range(3)]
    order = list(METHODS[method](tables[0], tables[1:], 1))
    assert len(set(order)) == len(order)
    assert 1 <= trials(tables[0], order) <= len(tables[0].configs)
    assert trials(tables[0], order) == trials(tables[0], METHODS[method](tables[0], tables[1:], 1))


def test_random_is_chance_and_an_oracle_needs_one_trial():
    one = table(0)
    found = [trials(one, METHODS["random"](one, (), s)) for s in range(2000)]
    exact = (len(one.configs) + 1) / (one.acceptable.sum() + 1)
    assert abs(np.mean(found) - exact) < 4 * np.std(found) / np.sqrt(2000)
    assert trials(one, oracle_order(one, (), 0)) == 1


def test_losses_of_other_configurations_teach_nothing_and_true_ones_do():
    tables = [table(i) for i in range(4)]
    chance = (len(tables[0].configs) + 1) / (tables[0].acceptable.sum() + 1)
    learned = [trials(tables[0], boosted_order(tables[0], tables[1:], s)) for s in range(2)]
    assert np.mean(learned) < 0.3 * chance
    blind = [permuted(tables[0], s) for s in range(12)]
    found = np.array([trials(t, boosted_order(t, tables[1:], s)) for s, t in enumerate(blind)]) / chance
    assert abs(found.mean() - 1) < 3 * found.std(ddof=1) / np.sqrt(len(found))


def test_least_along_random_directions_beats_random_where_the_best_lie_in_a_corner():
    corner, middle = table(0), table(0)
    x = np.array([row["noise_sum"] for row in corner.rows])
    middle = replace(middle, search=np.abs(x - np.median(x)) + 1, report=np.abs(x - np.median(x)) + 1)
    for one, sooner in ((corner, True), (middle, False)):
        chance = (len(one.configs) + 1) / (one.acceptable.sum() + 1)
        found = np.mean([trials(one, direction_order(one, (), s)) for s in range(20)])
        assert (found < 0.5 * chance) == sooner


def test_replays_that_are_kept_are_not_run_again(tmp_path, monkeypatch):
    def never(*_):
        raise AssertionError("run again")

    tables, path = [table(i) for i in range(2)], tmp_path / "kept.json"
    monkeypatch.setattr(bench_search, "METHODS", {"random": METHODS["random"]})
    first, _ = bench_search.replay(tables, 5, bench_search.Kept(path))
    monkeypatch.setattr(bench_search, "METHODS", {"random": never})
    again, _ = bench_search.replay(tables, 5, bench_search.Kept(path))
    assert all(np.array_equal(again["random"][n], first["random"][n]) for n in first["random"])
    with pytest.raises(AssertionError, match="run again"):
        bench_search.replay([tables[0], table(7)], 5, bench_search.Kept(path))  # other tables


def test_ratios_of_equal_methods_are_one_and_intervals_hold_them():
    runs = {m: {n: np.array([4.0, 8.0, 12.0]) for n in "ab"} for m in ("random", bench_search.SUBJECT)}
    value, low, high = bench_search.ratio(runs, "random")
    assert value == pytest.approx(1.0) and low <= 1.0 <= high


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda p: p.stem)
def test_tables_that_are_kept_are_whole(path):
    network, _, kind = path.stem.rpartition("-")
    found = Table.load(network, kind)
    assert len(found.configs) == len(set(found.configs)) == len(found.search) == len(found.report) == len(found.rows)
    assert np.isfinite(found.search).all() and (found.report > 0).all() and found.acceptable.any()
    assert path.stat().st_size < 2e6
