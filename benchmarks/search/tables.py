"""Make the tables of the search benchmark: every competing configuration of every network, evaluated.

    python -m benchmarks.search.tables [NETWORK ...] [--space options|bits]

A table that exists is left alone; one that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.search.networks import NETWORKS, load, study_target
from benchmarks.search.spaces import bits_space, competing, options_space, weight_bytes
from qcompiler.search.fast import FastEvaluator
from qcompiler.search.features import Features
from qcompiler.search.losses import paired_error
from qcompiler.search.sensitivity import get_provider
from qcompiler.search.space import Space

FOLDER = Path(__file__).parent / "tables"
SPACES = {"options": (options_space, (8,)), "bits": (bits_space, (8, 4))}
PROVIDERS = ("weight_mse", "lim", "layer_sqnr", "kl", "loss", "hessian", "mask")


def table_path(network: str, space: str) -> Path:
    """Where a table is kept."""
    return FOLDER / f"{network}-{space}.json"


def make_table(name: str, kind: str) -> None:
    """Evaluate, compute features and sensitivities, write the file."""
    path, part = table_path(name, kind), FOLDER / f"{name}-{kind}.partial.npz"
    if path.exists():
        return
    FOLDER.mkdir(exist_ok=True)
    network = load(name)
    build, widths = SPACES[kind]
    space = build(network)
    configs = competing(space)
    evaluator = FastEvaluator(network.workload(study_target(*widths)), space)
    losses = _losses(evaluator, configs, part, path.stem)
    best = int(np.argmin(losses["report"].mean(1)))
    errors = [paired_error(row, losses["report"][best]) for row in losses["report"]]
    data: dict[str, Any] = {
        "network": name, "space": kind, "knobs": list(space.names), "radix": list(space.radix),
        "describe": [space.describe(c) for c in configs[:1]], "configs": [list(c) for c in configs],
        "search": _short(losses["search"].mean(1)), "report": _short(losses["report"].mean(1)),
        "report_error": _short(errors), "seconds_per_trial": float(np.median(losses["seconds"])),
        **_features(evaluator, space, configs),
    }  # fmt: skip
    if space.groups:
        data["bytes"] = [weight_bytes(space, c) for c in configs]
        data["sensitivities"] = _sensitivities(evaluator, space)
    path.write_text(json.dumps(data, separators=(",", ":")), encoding="utf-8")
    part.unlink()


def _losses(evaluator: FastEvaluator, configs: list[Any], part: Path, label: str) -> dict[str, np.ndarray]:
    """Per-sample losses of both splits; saved every minute."""
    sizes = {s: len(getattr(evaluator.workload, s)) for s in ("judged", "report")}
    found = {
        "search": np.full((len(configs), sizes["judged"]), np.nan, np.float32),
        "report": np.full((len(configs), sizes["report"]), np.nan, np.float32),
        "seconds": np.full(len(configs), np.nan),
    }
    if part.exists():
        found = dict(np.load(part))
    saved = time.monotonic()
    for i, config in enumerate(configs):
        if not np.isnan(found["seconds"][i]):
            continue
        start = time.perf_counter()
        found["search"][i] = evaluator.accuracy(config, "judged").noise
        found["seconds"][i] = time.perf_counter() - start
        found["report"][i] = evaluator.accuracy(config, "report").noise
        if time.monotonic() - saved > 60:
            np.savez(part, **found)
            saved = time.monotonic()
            print(f"{label}: {i + 1} of {len(configs)}", flush=True)
    np.savez(part, **found)
    return found


def _features(evaluator: FastEvaluator, space: Space, configs: list[Any]) -> dict[str, Any]:
    features = Features(evaluator)
    rows = [features.config_row(c) for c in configs]
    found: dict[str, Any] = {"rows": _columns(rows)}
    if space.groups:  # a group's row depends on its own choice only
        count = max(len(g.choices) for g in space.groups)
        by_choice = [features.group_rows((i,) * len(space.groups)) for i in range(count)]
        found["group_rows"] = [[_round(by_choice[c][g]) for c in range(count)] for g in range(len(space.groups))]
    return {**found, "feature_seconds": features.seconds}


def _columns(rows: list[dict[str, float]]) -> dict[str, Any]:
    """Column-wise; a column with one value is that value."""
    names = sorted({n for row in rows for n in row})
    columns = {n: [None if n not in r else _digits(r[n]) for r in rows] for n in names}
    return {n: c[0] if all(x == c[0] for x in c) else c for n, c in columns.items()}


def _sensitivities(evaluator: FastEvaluator, space: Space) -> dict[str, Any]:
    reference = space.uniform("static w8a8")
    found = {}
    for name in PROVIDERS:
        one = get_provider(name).estimate(evaluator, reference)
        found[name] = {
            "table": [_short(row) for row in one.table], "forwards": one.forwards, "seconds": one.seconds,
        }  # fmt: skip
    return found


def _short(values: Any) -> list[float]:
    return [_digits(v) for v in np.asarray(values).tolist()]


def _round(row: dict[str, float]) -> dict[str, float]:
    return {n: _digits(v) for n, v in row.items()}


def _digits(value: float) -> float:
    return float(f"{value:.6g}")


def main() -> None:
    """Make what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--space", choices=sorted(SPACES))
    given = parser.parse_args()
    for name in given.networks or NETWORKS:
        for kind in [given.space] if given.space else SPACES:
            make_table(name, kind)


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    main()
