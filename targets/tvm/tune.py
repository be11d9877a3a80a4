"""Tuning of tiles: every product of a program, generations of trials, a boosted model that proposes the next ones."""

from __future__ import annotations

import logging
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tvm
import xgboost

from qcompiler.errors import UsageError
from qcompiler.ir import Graph
from qcompiler.kernels.common.product import Product
from qcompiler.kernels.cpu import forms
from qcompiler.kernels.cpu import product as products
from qcompiler.kernels.cpu.isa import Form, Isa
from qcompiler.kernels.cpu.library import CpuLibrary, product_key
from qcompiler.kernels.cpu.product import Tile
from qcompiler.targets.tvm.build import compile_function, link_library
from qcompiler.targets.tvm.database import Database, default_path, fingerprint, open_database
from qcompiler.targets.tvm.lower import macs_of, single_kernel
from qcompiler.targets.tvm.machine import Machine
from qcompiler.targets.tvm.plan import PRODUCT, Plan, Planned, plan_kernels
from qcompiler.targets.tvm.runners import LocalRunner, RpcRunner, Runner

logger = logging.getLogger(__name__)

GENERATION = 8
"""Trials between two fits of the model."""
RANDOM_SHARE = 0.25
"""Of a generation that is drawn at random, so that the model also sees what it does not like."""


@dataclass(frozen=True)
class Task:
    """One distinct product of a program.

    Attributes:
        key: in the database.
        planned: one of its kernels.
        product, form: what is multiplied, and how.
        tiles: the space, default first.
        macs: multiplications of all kernels that share it.
    """

    key: str
    planned: Planned
    product: Product
    form: Form
    tiles: tuple[Tile, ...]
    macs: int


@dataclass(frozen=True)
class Tuned:
    """Result for one task: the default tile's time and the best one's, in seconds; None where all trials failed."""

    key: str
    trials: int
    default_seconds: float | None
    best_seconds: float | None
    best: Tile | None
    gops: float | None


class _Recorder(CpuLibrary):
    """Notes every product that is asked for."""

    def __init__(self, isa: Isa) -> None:
        super().__init__(isa)
        self.seen: list[tuple[Product, Form]] = []

    def product(self, product: Product, constant: Any, finished: Any, where: str) -> Any:
        self.seen.append((product, forms.choose_form(product, self.isa)))
        return super().product(product, constant, finished, where)


def tasks_of(graph: Graph, isa: Isa) -> tuple[Plan, list[Task]]:
    """The products of a program, the most work first.

    Raises:
        UsageError: it has symbolic dimensions, which cannot be timed.
    """
    plan = plan_kernels(graph)
    if graph.symbols():
        raise UsageError(f"the program has dynamic dimensions ({', '.join(sorted(graph.symbols()))}): tune it compiled for fixed ones")
    found: dict[str, Task] = {}
    for planned in plan.kernels:
        if planned.kind != PRODUCT:
            continue
        recorder = _Recorder(isa)
        single_kernel(plan, planned, recorder)
        product, form = recorder.seen[0]
        key, macs = product_key(product, form), macs_of(planned.group.anchor)
        if key in found:
            macs += found[key].macs
        default = products.default_tile(product, form, isa)
        tiles = (default, *(t for t in products.tile_space(product, form, isa) if t != default))
        found[key] = Task(key, planned, product, form, tiles, macs)
    return plan, sorted(found.values(), key=lambda task: -task.macs)


def tune(
    graph: Graph, machine: Machine, database: Database, runner: Runner, trials: int, seed: int = 0, model: bool = True,
    progress: Callable[[str], None] = logger.info,
) -> list[Tuned]:  # fmt: skip
    """Measure up to `trials` tiles per product; what the database holds already counts.

    Args:
        graph: the program.
        machine: what to compile for.
        database: filled trial by trial.
        runner: times them; closed at the end whatever happens.
        trials: per product.
        seed: of the random part of the proposals.
        model: propose by XGBoost; else at random.
        progress: told the best GOPS so far and the time that remains.
    """
    plan, tasks = tasks_of(graph, machine.isa)
    results = []
    started, done = time.monotonic(), 0
    wanted = sum(min(trials, len(task.tiles)) for task in tasks)
    try:
        with tempfile.TemporaryDirectory(prefix="qcompiler-tune-") as folder:
            for task in tasks:
                rng = np.random.default_rng([seed, *task.key.encode()])
                while len(database.trials.get(task.key, ())) < min(trials, len(task.tiles)):
                    left = min(trials, len(task.tiles)) - len(database.trials.get(task.key, ()))
                    for tile in propose(task, machine.isa, database, rng, min(GENERATION, left), model):
                        seconds = measure(plan, task, tile, machine, runner, Path(folder))
                        database.add(task.key, tile, seconds)
                        done += 1
                    remaining = (time.monotonic() - started) / max(done, 1) * max(wanted - done, 0)
                    best = _result(task, database)
                    progress(f"{task.key}: best {best.gops or 0:.1f} GOPS of {best.trials} trials; about {remaining:.0f} s left")
                results.append(_result(task, database))
    finally:
        runner.close()
    return results


def _result(task: Task, database: Database) -> Tuned:
    rows = database.trials.get(task.key, [])
    timed = [(seconds, Tile(**tile)) for tile, seconds in rows if seconds is not None]
    default = next((seconds for seconds, tile in timed if tile == task.tiles[0]), None)
    if not timed:
        return Tuned(task.key, len(rows), default, None, None, None)
    seconds, tile = min(timed, key=lambda pair: pair[0])
    return Tuned(task.key, len(rows), default, seconds, tile, 2 * macs_of(task.planned.group.anchor) / seconds / 1e9)


def propose(task: Task, isa: Isa, database: Database, rng: np.random.Generator, count: int, model: bool) -> list[Tile]:
    """The next tiles of a task that were not tried: the default first, then by the model, some at random."""
    tried = {Tile(**tile) for tile, _ in database.trials.get(task.key, ())}
    fresh = [tile for tile in task.tiles if tile not in tried]
    if not tried:
        rest = list(rng.permutation(len(fresh) - 1)[: count - 1] + 1) if len(fresh) > 1 else []
        return [fresh[0], *(fresh[i] for i in rest)]
    rows = [(Tile(**tile), s) for tile, s in database.trials[task.key] if s is not None]
    if not model or len(rows) < 2:
        return [fresh[i] for i in rng.permutation(len(fresh))[:count]]
    x = np.asarray([features(task, tile, isa) for tile, _ in rows])
    y = np.log(np.asarray([s for _, s in rows]))
    fitted = xgboost.XGBRegressor(n_estimators=60, max_depth=4, learning_rate=0.2, n_jobs=1, random_state=0).fit(x, y)
    order = np.argsort(fitted.predict(np.asarray([features(task, tile, isa) for tile in fresh])), kind="stable")
    random = int(count * RANDOM_SHARE)
    chosen = list(order[: count - random])
    others = [i for i in rng.permutation(len(fresh)) if i not in chosen][:random]
    return [fresh[i] for i in (*chosen, *others)]


def features(task: Task, tile: Tile, isa: Isa) -> list[float]:
    """What the model sees of a tile."""
    p = task.product
    width = tile.vectors * task.form.lanes
    waste = -(-p.rows // tile.rows) * tile.rows * -(-p.columns // width) * width / (p.rows * p.columns)
    predicted = float(np.log(products.predicted_cycles(p, task.form, isa, tile)))
    return [tile.rows, tile.vectors, tile.rows * tile.vectors, tile.panel, float(tile.whole), waste, predicted]


def measure(plan: Plan, task: Task, tile: Tile, machine: Machine, runner: Runner, folder: Path) -> float | None:
    """Seconds of a tile; None where it does not compile or run."""
    try:
        kernel = single_kernel(plan, task.planned, CpuLibrary(machine.isa, {task.key: tile}))
        built = compile_function(kernel.scheduled.function, "kernel", machine.tvm_target())
    except (tvm.error.InternalError, ValueError, RuntimeError) as error:
        logger.warning("%s: %s does not compile: %s", task.key, tile, str(error).strip().splitlines()[-1][:200])
        return None
    # a name of its own for each: the loader gives a library that is loaded already for a path that it knows
    library = folder / f"trial_{uuid.uuid4().hex}.so"
    link_library(built, library, machine.triple, machine.host)
    try:
        return runner.seconds(library, kernel.arguments)
    finally:
        library.unlink(missing_ok=True)


def tune_program(
    graph: Graph, machine: Machine, trials: int, seed: int, path: Path | None, tracker: tuple[str, int] | None,
    key: str | None, progress: Callable[[str], None],
) -> dict[str, Any]:  # fmt: skip
    """`tune` as the command calls it: opens the records, connects, and reports as plain values.

    Raises:
        UsageError: the machine is another and no tracker was named; damaged records; no tracker.
    """
    if tracker is None and not machine.host:
        raise UsageError(f"{machine.cpu} is not this machine's CPU: name a tracker of such machines with --rpc and --key")
    device = fingerprint(machine) if tracker is None else {**fingerprint(machine), "processor": f"key {key}"}
    database = open_database(path or default_path(device), device)
    runner: Runner = LocalRunner() if tracker is None else RpcRunner(*tracker, str(key))
    found = tune(graph, machine, database, runner, trials, seed, progress=progress)
    rows = [{**asdict(t), "best": None if t.best is None else asdict(t.best), "tile": str(t.best)} for t in found]
    return {"schema_version": 1, "database": str(database.path), "device": device, "kernels": rows}
