"""Tables of the times of every tile of some products: made once, then searched and ruled over without measuring.

    python -m benchmarks.cpu_kernels.tiles build [--products NAME ...]     compiles, goes on where it stopped
    python -m benchmarks.cpu_kernels.tiles time                            writes tables/; again keeps the least times: remove old ones first
    python -m benchmarks.cpu_kernels.tiles records                         the best tiles as records that are shipped

There is one folder of tables per instruction set, made on one machine; a machine makes and reads those of its own.
`replay` runs the tuner's own proposals over a table; `default_row` says how far the rule's tile is from the best one.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cpu_kernels.products import FITTED, PRODUCTS, distinct
from qcompiler.kernels.cpu.isa import Isa, isa_named

BUILT = Path("out/bench-tvm/tiles")
TABLES = Path(__file__).parent / "tables"
TOGETHER = 32
"""Tiles in one library."""
ROUNDS = 6
LEAST_SECONDS = 1e-3
"""Of calls behind one another; the least mean of `ROUNDS` such times counts."""
SEEDS, TRIALS = 10, 64
NONE = "no tables of tiles for {isa}: `python -m benchmarks.cpu_kernels.tiles build`, then `time`, makes those of this machine"


def build(name: str) -> None:
    """Compile every tile of a product into libraries below `BUILT`."""
    import tvm

    from qcompiler.kernels.cpu.codegen import register_pipeline
    from qcompiler.kernels.cpu.library import CpuLibrary
    from qcompiler.targets.tvm.build import UNCHECKED, link_library
    from qcompiler.targets.tvm.lower import single_kernel
    from qcompiler.targets.tvm.machine import host_machine

    machine = host_machine()
    plan, task = _planned(name, machine.isa)
    folder = _built(name, machine.isa)
    folder.mkdir(parents=True, exist_ok=True)
    for first in range(0, len(task.tiles), TOGETHER):
        place = folder / f"{first:04d}.so"
        if place.is_file():
            continue
        functions, listed = {}, []
        for index, tile in enumerate(task.tiles[first : first + TOGETHER]):
            kernel = single_kernel(plan, task.planned, CpuLibrary(machine.isa, {task.key: tile}))
            functions[f"t{index}"] = kernel.scheduled.function.with_attr("global_symbol", f"t{index}")
            listed.append([list(astuple(tile)), kernel.arguments])
        with tvm.transform.PassContext(opt_level=3, config=UNCHECKED):
            built = tvm.tirx.build(tvm.IRModule(functions), target=machine.tvm_target(), pipeline=register_pipeline())
        (folder / f"{first:04d}.json").write_text(json.dumps({"key": task.key, "tiles": listed}))
        work = place.with_suffix(".partial.so")
        link_library(built, work, machine.triple, True)
        work.replace(place)  # whole, or not there
    print(f"{name}: {len(task.tiles)} tiles of {task.key}", file=sys.stderr, flush=True)


def time_tiles(name: str) -> dict[str, Any]:
    """The table of a product whose tiles were compiled: least times of this run and of the table that is there."""
    import tvm

    from qcompiler.targets.tvm.database import fingerprint
    from qcompiler.targets.tvm.machine import host_machine

    rng, isa = np.random.default_rng(0), host_machine().isa
    calls, tiles, key = [], [], ""
    for place in sorted(_built(name, isa).glob("????.so")):
        module, held = tvm.runtime.load_module(str(place)), json.loads(place.with_suffix(".json").read_text())
        key = held["key"]
        for index, (tile, arguments) in enumerate(held["tiles"]):
            tensors = [tvm.runtime.tensor(rng.integers(0, 100, shape).astype(kind)) for shape, kind in arguments]
            once = module.time_evaluator(f"t{index}", tvm.cpu(), number=2, repeat=2)(*tensors).min
            timer = module.time_evaluator(f"t{index}", tvm.cpu(), number=max(1, int(LEAST_SECONDS / once)), repeat=1)
            calls.append((timer, tensors))
            tiles.append(tile)
    before = read_table(name, isa) if _path(name, isa).is_file() else {}
    best = np.array([before.get(_tile(tile), np.inf) for tile in tiles])
    for _ in range(ROUNDS):  # in turns, so that a slow moment of the machine does not hit one tile alone
        for index, (timer, tensors) in enumerate(calls):
            best[index] = min(best[index], timer(*tensors).min)
    rows = [[*tile, round(float(seconds * 1e6), 2)] for tile, seconds in zip(tiles, best, strict=True)]
    return {"device": fingerprint(host_machine()), "product": name, "key": key, "columns": ["rows", "vectors", "panel", "whole", "us"], "tiles": rows}


def read_table(name: str, isa: Isa) -> dict[Any, float]:
    """Seconds by tile."""
    held = json.loads(_path(name, isa).read_text(encoding="utf-8"))
    return {_tile(row[:4]): row[4] * 1e-6 for row in held["tiles"]}


def _tile(row: Sequence[Any]) -> Any:
    from qcompiler.kernels.cpu.product import Tile

    return Tile(int(row[0]), int(row[1]), int(row[2]), bool(row[3]))


def tables(isa: Isa) -> list[str]:
    """Products whose table was made for an instruction set, and is of the form that they take by now."""
    made = [name for name in distinct(PRODUCTS, isa) if _path(name, isa).is_file()]
    return [name for name in made if json.loads(_path(name, isa).read_text(encoding="utf-8"))["key"] == task_of(name, isa).key]


def write_table(table: dict[str, Any]) -> None:
    """One tile per line."""
    head = json.dumps({k: v for k, v in table.items() if k != "tiles"})[:-1]
    lines = ",\n".join(json.dumps(row) for row in table["tiles"])
    path = _path(table["product"], isa_named(table["device"]["isa"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'{head}, "tiles": [\n{lines}\n]}}\n', encoding="utf-8")


def _path(name: str, isa: Isa) -> Path:
    return TABLES / isa.name / (name.lower().replace(",", "").replace(" ", "_").replace("-", "_") + ".json")


def _built(name: str, isa: Isa) -> Path:
    return BUILT / isa.name / name.replace(" ", "_").replace(",", "")


@functools.cache
def _planned(name: str, isa: Isa) -> tuple[Any, Any]:
    """The plan of a product, and what there is to tune of it."""
    from qcompiler.targets.tvm.tune import tasks_of

    plan, (task,) = tasks_of(PRODUCTS[name](), isa)
    return plan, task


def task_of(name: str, isa: Isa) -> Any:
    """What there is to tune of a product."""
    return _planned(name, isa)[1]


def ship_records(isa: Isa) -> Path:
    """The best tile of every table of an instruction set as shipped records of their device."""
    from qcompiler.targets.tvm.database import SHIPPED, Database, default_path

    heads = [json.loads(_path(name, isa).read_text(encoding="utf-8")) for name in tables(isa)]
    device = heads[0]["device"]
    database = Database(device, {}, SHIPPED / default_path(device).name)
    for head in heads:
        if head["device"] == device:
            tile, seconds = min(read_table(head["product"], isa).items(), key=lambda pair: pair[1])
            database.add(head["key"], tile, seconds)
    assert database.path is not None
    return database.path


def replay(name: str, isa: Isa, seed: int, model: bool, trials: int) -> float:
    """Seconds of the best tile that the tuner finds over a table in so many trials."""
    from qcompiler.targets.tvm.database import Database
    from qcompiler.targets.tvm.tune import GENERATION, propose

    task = task_of(name, isa)
    table, database, rng = read_table(name, isa), Database({}), np.random.default_rng([seed, *task.key.encode()])
    while len(database.trials.get(task.key, ())) < min(trials, len(task.tiles)):
        left = min(trials, len(task.tiles)) - len(database.trials.get(task.key, ()))
        for tile in propose(task, isa, database, rng, min(GENERATION, left), model):
            database.add(task.key, tile, table[tile])
    return min(seconds for _, seconds in database.trials[task.key] if seconds is not None)


def tuning_row(name: str, isa: Isa) -> dict[str, Any]:
    """XGBoost beside random proposals over `SEEDS` seeds: mean ratio of the best times, 95 % interval."""
    from scipy import stats

    table = read_table(name, isa)
    found = np.array([[replay(name, isa, seed, model, TRIALS) for model in (True, False)] for seed in range(SEEDS)])
    ratios = found[:, 0] / found[:, 1]
    spread = float(ratios.std(ddof=1) / len(ratios) ** 0.5)
    half = float(stats.t.ppf(0.975, len(ratios) - 1)) * spread
    least = min(table.values())
    return {
        "name": name, "tiles": len(table), "best_us": least * 1e6, "xgboost": float(found[:, 0].mean() / least),
        "random": float(found[:, 1].mean() / least), "ratio": float(ratios.mean()), "low": float(ratios.mean()) - half,
        "high": float(ratios.mean()) + half,
    }  # fmt: skip


def default_row(name: str, isa: Isa) -> dict[str, Any]:
    """The rule's tile beside the best of the table."""
    task = task_of(name, isa)
    table = read_table(name, isa)
    best = min(table, key=lambda tile: table[tile])
    return {
        "name": name, "held_out": name not in FITTED, "tile": str(task.tiles[0]), "us": table[task.tiles[0]] * 1e6,
        "best": str(best), "best_us": table[best] * 1e6, "ratio": table[task.tiles[0]] / table[best],
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Compile, time or ship."""
    from qcompiler.targets.tvm.machine import host_machine

    isa = host_machine().isa
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("build", "time", "records"))
    parser.add_argument("--products", nargs="+", choices=distinct(PRODUCTS, isa), default=distinct(PRODUCTS, isa))
    options = parser.parse_args(arguments)
    if options.step == "records":
        if not tables(isa):
            parser.error(NONE.format(isa=isa.name))
        print(ship_records(isa), file=sys.stderr)
        return 0
    for name in options.products:
        if options.step == "build":
            build(name)
            continue
        table = time_tiles(name)
        write_table(table)
        print(f"{name}: best {min(row[-1] for row in table['tiles']):.1f} us of {len(table['tiles'])} tiles", file=sys.stderr, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
