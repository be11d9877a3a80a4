"""Search methods on exhausted tables: trials until an acceptable configuration (see benchmarks/search/PROTOCOL.md).

    python -m benchmarks.bench_search [--seeds 30] [--space options|bits] [--out FILE] [--keep FILE]

Nothing is evaluated anew: `python -m benchmarks.search.tables` made the tables. Replays that are in the file of `--keep`
are not run again, so that a run that was cut off goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.search.networks import NETWORKS, SMALL
from benchmarks.search.replay import (
    DETERMINISTIC,
    METHODS,
    Table,
    boosted_order,
    direction_order,
    lookup_order,
    oracle_order,
    permuted,
    sensitivity_order,
    shuffled_order,
    trials,
)
from benchmarks.search.tables import table_path

SUBJECT = "xgboost, transfer"
PAPER = "the paper's (Quantune, six ImageNet networks, its own table and count): 36.5 x"
DRAWS = 2000
CHANCE_SEEDS = 300
BLIND_SEEDS = 8
Runs = dict[str, dict[str, np.ndarray]]


class Kept:
    """Replays by name in a file. Names have what a replay depends on, the tables by their losses included."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.values: dict[str, Any] = json.loads(path.read_text()) if path is not None and path.exists() else {}

    def get(self, name: str, tables: Sequence[Table], make: Callable[[], Any]) -> Any:
        """The value of that name, made where it is not there."""
        losses = b"".join(np.ascontiguousarray(t.search).tobytes() + np.ascontiguousarray(t.report).tobytes() for t in tables)
        key = f"{name} {hashlib.sha256(losses).hexdigest()[:16]}"
        if key not in self.values:
            self.values[key] = make()
            if self.path is not None:
                self.path.write_text(json.dumps(self.values))
        return self.values[key]


def replay(tables: Sequence[Table], seeds: int, kept: Kept) -> tuple[Runs, dict[str, float]]:
    """Method -> network -> trials by seed; and seconds of the method per run."""
    runs: Runs = {}
    seconds: dict[str, float] = {}
    methods: dict[str, Callable] = dict(METHODS)
    if tables[0].kind == "bits":
        methods |= {f"ilp + verify, {p}": sensitivity_order(p) for p in tables[0].data["sensitivities"]}
    for name, method in methods.items():
        spent, count = 0.0, 0
        for table in tables:
            fixed = name in DETERMINISTIC or name.startswith("ilp")
            wanted = 1 if fixed else seeds
            found, took = kept.get(f"{name} {table.network} {wanted}", tables, lambda m=method, t=table, n=wanted: _timed(m, t, tables, n))
            runs.setdefault(name, {})[table.network] = np.array(found, float)
            spent, count = spent + took, count + len(found)
        seconds[name] = spent / count
    return runs, seconds


def _timed(method: Callable, table: Table, tables: Sequence[Table], seeds: int) -> tuple[list[int], float]:
    """Trials by seed, and the seconds of all."""
    start = time.perf_counter()
    others = [t for t in tables if t is not table]
    return [trials(table, method(table, others, s)) for s in range(seeds)], time.perf_counter() - start


def ratio(runs: Runs, other: str, subject: str = SUBJECT) -> tuple[float, float, float]:
    """Geometric mean over networks of (mean trials of `other`) / (mean trials of the subject), and its 95 % interval.

    The interval is that of a bootstrap over networks and over seeds within each.
    """
    names = list(runs[subject])
    rng = np.random.default_rng(0)

    def mean(values: np.ndarray, draw: bool) -> float:
        return float(rng.choice(values, len(values)).mean() if draw else values.mean())

    def one(networks: Sequence[str], draw: bool) -> float:
        logs = [np.log(mean(runs[other][n], draw) / mean(runs[subject][n], draw)) for n in networks]
        return float(np.exp(np.mean(logs)))

    draws = [one(rng.choice(names, len(names)), True) for _ in range(DRAWS)]
    low, high = np.percentile(draws, [2.5, 97.5])
    return one(names, False), float(low), float(high)


def show_space(tables: Sequence[Table], seeds: int, kept: Kept) -> list[str]:
    """The lines of one space."""
    runs, seconds = replay(tables, seeds, kept)
    names = [t.network for t in tables]
    lines = ["", "| | " + " | ".join(names) + " | geometric mean | seconds / run |", "|---" * (len(names) + 3) + "|"]
    counts = [f"{len(t.configs)} / {int(t.acceptable.sum())}" for t in tables]
    lines.append("| configurations / acceptable | " + " | ".join(counts) + " | | |")
    exact = [(len(t.configs) + 1) / (t.acceptable.sum() + 1) for t in tables]
    lines.append(_row("random, exact expectation", exact, ""))
    for name, by_network in runs.items():
        lines.append(_row(name, [by_network[n].mean() for n in names], f"{seconds[name]:.2f}"))
    lines += ["", f"| {SUBJECT}, beside | trials saved (geometric mean) | 95 % interval |", "|---|---|---|"]
    for other in runs:
        if other != SUBJECT:
            value, low, high = ratio(runs, other)
            lines.append(f"| {other} | {value:.2f} x | {low:.2f} to {high:.2f} |")
    lines += [f"| {PAPER} | | |", "", *_without_family(tables, runs, seeds, kept), *_costs(tables, runs), *_sanity(tables, kept)]
    return lines


def _row(name: str, means: Sequence[float], last: str) -> str:
    cells = " | ".join(f"{m:.1f}" for m in means)
    return f"| {name} | {cells} | {np.exp(np.mean(np.log(means))):.1f} | {last} |"


def _without_family(tables: Sequence[Table], runs: Runs, seeds: int, kept: Kept) -> list[str]:
    """Transfer to a Fashion-MNIST network from the networks of other data only."""
    rest = [t for t in tables if t.network not in SMALL]
    if not rest:
        return []
    lines = []
    for table in (t for t in tables if t.network in SMALL):
        found, _ = kept.get(
            f"family {table.network} {seeds}", [table, *rest], lambda t=table: _timed(boosted_order, t, [t, *rest], seeds)
        )
        table_trials = trials(table, lookup_order(table, rest, 0))
        lines.append(
            f"- {table.network} from {', '.join(t.network for t in rest)} only: {SUBJECT} {np.mean(found):.1f}, "
            f"lookup table {table_trials}, random {runs['random'][table.network].mean():.1f}"
        )
    return lines


def _costs(tables: Sequence[Table], runs: Runs) -> list[str]:
    """What features cost, in trials of the network."""
    lines = []
    for table in tables:
        paid = table.data["feature_seconds"] / table.data["seconds_per_trial"]
        saved = runs["random"][table.network].mean() - runs[SUBJECT][table.network].mean()
        lines.append(
            f"- {table.network}: features of all configurations took the time of {paid:.1f} trials; "
            f"{saved:.1f} trials are saved beside random"
        )
    return lines


def _sanity(tables: Sequence[Table], kept: Kept) -> list[str]:
    """Random is what chance gives, an oracle needs one trial, and who sees no answer does as well as random."""
    lines = []
    for table in tables:
        found = np.array([trials(table, METHODS["random"](table, (), s)) for s in range(CHANCE_SEEDS)])
        exact = (len(table.configs) + 1) / (table.acceptable.sum() + 1)
        error = 1.96 * found.std(ddof=1) / np.sqrt(len(found))
        inside = abs(found.mean() - exact) <= 1.5 * error  # 300 seeds and several tables: beyond one interval by chance
        assert inside, f"{table.network}: random {found.mean():.1f}, expected {exact:.1f} +- {error:.1f}"
        assert trials(table, oracle_order(table, (), 0)) == 1
    lines.append("- sanity: random agrees with (N+1)/(k+1), the oracle needs 1")
    blind = _shares("blind", tables, lambda t, others, s: (q := permuted(t, s), boosted_order(q, others, s)), BLIND_SEEDS, kept)
    error = 1.96 * blind.std(ddof=1) / np.sqrt(blind.size)
    assert abs(blind.mean() - 1) <= 1.5 * error, f"losses given to other configurations: {blind.mean():.2f} x random"
    lines.append(
        f"- sanity: with losses given to other configurations, {SUBJECT} needs {blind.mean():.2f} x random "
        f"({blind.mean() - error:.2f} to {blind.mean() + error:.2f}): it sees no answer"
    )
    for words, method, seeds in (
        ("labels shuffled, what is acceptable left in its place", shuffled_order, 10),
        ("no labels, least along random directions of the features", direction_order, CHANCE_SEEDS),
    ):
        found = _shares(words, tables, lambda t, others, s, method=method: (t, method(t, others, s)), seeds, kept)
        lines.append(f"- {words}: {found.mean():.2f} x random; below 1 where the best lie in corners of the features")
    return lines


def _shares(words: str, tables: Sequence[Table], order: Callable, seeds: int, kept: Kept) -> np.ndarray:
    """Trials over the exact expectation of random, for every network and seed."""

    def of(table: Table) -> list[float]:
        others = [t for t in tables if t is not table]
        exact = (len(table.configs) + 1) / (table.acceptable.sum() + 1)
        return [float(trials(*order(table, others, s)) / exact) for s in range(seeds)]

    return np.concatenate([kept.get(f"{words} {t.network} {seeds}", tables, lambda t=t: of(t)) for t in tables])


def main() -> None:
    """Replay and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--space", choices=("options", "bits"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--keep", type=Path, help="file of replays that are done")
    given = parser.parse_args()
    text = ""
    for kind in [given.space] if given.space else ("options", "bits"):
        tables = [Table.load(n, kind) for n in NETWORKS if table_path(n, kind).exists()]
        missing = [n for n in NETWORKS if not table_path(n, kind).exists()]
        lines = ["", f"## {kind}: trials until an acceptable configuration, mean of {given.seeds} seeds"]
        if missing:
            lines += ["", f"No table of {', '.join(missing)}: run python -m benchmarks.search.tables."]
        part = "\n".join([*lines, *show_space(tables, given.seeds, Kept(given.keep))])
        print(part, flush=True)
        text += part + "\n"
        if given.out:
            given.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
