"""`tune`: from a model, data and a limit to an artefact, by search."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qcompiler.errors import UsageError
from qcompiler.search.clock import Clock, overhead
from qcompiler.search.goal import Goal
from qcompiler.search.limits import Limits
from qcompiler.search.recipes import to_recipe, usual_knobs
from qcompiler.search.result import Progress, Result, Settings

if TYPE_CHECKING:
    from qcompiler.api import Compiled
    from qcompiler.calibration import Samples
    from qcompiler.compilation import Request
    from qcompiler.ir import Graph
    from qcompiler.recipe import Recipe
    from qcompiler.search.space import Config, Space
    from qcompiler.search.workload import Workload

logger = logging.getLogger(__name__)
TUNE_NAME = "tune.json"
RECIPE_NAME = "recipe.yaml"
FEWEST_TO_SPLIT = 4
"""Samples held back below which the same ones decide and are reported."""


@dataclass
class Tuned:
    """The end of a search: the artefact of the best configuration, and everything that led there.

    Attributes:
        compiled: artefact, report with the search in it.
        recipe: what the best configuration means; `compile` takes it.
        result: trials, front, correlation.
        goal: what was searched for.
        data: the contents of `tune.json`.
    """

    compiled: Compiled
    recipe: Recipe
    result: Result
    goal: Goal
    data: dict[str, Any]

    def save(self, out: str | Path, *, force: bool = False) -> Path:
        """The artefact folder, with `tune.json` and `recipe.yaml` in it."""
        (self.compiled.folder / TUNE_NAME).write_text(json.dumps(self.data, indent=2) + "\n", encoding="utf-8")
        (self.compiled.folder / RECIPE_NAME).write_text(self.recipe.to_yaml(), encoding="utf-8")
        return self.compiled.save(out, force=force)


def tune(
    request: Request,
    limits: Limits,
    settings: Settings,
    store: str | Path,
    *,
    study: str = "tune",
    workers: str | None = None,
    timeout: float | None = 600.0,
    show: Callable[[Progress], None] = lambda progress: None,
) -> Tuned:
    """Search for the best configuration within a limit, and compile it.

    Args:
        request: model, target, data and the recipe to start from, as for a compile.
        limits: one of drop, latency, size.
        settings: trials, seconds, seed.
        store: SQLite file; made if missing. With the same problem, its trials are not run again.
        study: name of this problem in the store; others in it are learned from.
        workers: None, `local:N` or `dask://HOST:PORT`.
        timeout: seconds after which a trial counts as failed.
        show: called after every trial.

    Raises:
        UsageError: inputs, limits, or a store that belongs to another problem. ConstraintError: nothing that was
        measured keeps the limit. UnsupportedError: nothing to search.
    """
    from qcompiler.search.fast import FastEvaluator
    from qcompiler.search.groups import find_groups
    from qcompiler.search.sensitivity import get_provider
    from qcompiler.search.space import Space
    from qcompiler.search.store import Store
    from qcompiler.search.strategies import check_strategy
    from qcompiler.search.tuner import Tuner
    from qcompiler.search.workers import check_workers, make_workers
    from qcompiler.targets import get_target

    start, clock = time.perf_counter(), Clock()
    check_workers(workers)
    limits.goal(get_target(request.target), 1.0)
    check_strategy(settings.solver, "drop" if limits.drop is not None else "cost")
    get_provider(settings.sensitivity)
    if Path(store).exists():
        Store(store).close()  # a damaged or foreign file is refused before anything is captured
    with clock.phase("capture"):
        workload, hashes = prepare(request)
        sizes = _sizes(workload.graph, workload.judged)
        groups = find_groups(workload.graph, workload.recipe, workload.target, sizes)
        space = Space(usual_knobs(len(workload.calibration), workload.recipe, workload.target), groups)
    goal = limits.goal(workload.target, _float_bytes(workload.graph))
    opened = Store(store)
    beside = Path(store).with_suffix(".recipe.yaml")

    def save(recipe: str) -> None:
        part = beside.with_name(f"{beside.name}.tmp")
        part.write_text(recipe, encoding="utf-8")
        part.replace(beside)

    try:
        kept = opened.study(study, fingerprint(workload, space, hashes))
        fast = FastEvaluator(workload, space)
        run = make_workers(workers, fast, timeout)
        try:
            tuner = Tuner(fast, goal, kept, run, settings, show, save, clock)
            result = tuner.run(as_it_is(space, workload.recipe))
        finally:
            run.close()
    finally:
        opened.close()
    recipe = to_recipe(space, result.config, workload.recipe)
    with clock.phase("answer"):
        compiled = _compile(request, workload, recipe, space, result, goal)
    result.seconds["total"] = time.perf_counter() - start
    return Tuned(compiled, recipe, result, goal, summary(space, result, goal, workload))


def prepare(request: Request) -> tuple[Workload, dict[str, str]]:
    """Capture, canonicalize, split the data; and the hashes of model and data."""
    from qcompiler.compilation import Data, build_passes, capture_model, hash_graph, split_passes
    from qcompiler.coverage import refuse_unmatched
    from qcompiler.evaluation import check_metric
    from qcompiler.passes.base import Context, run_passes
    from qcompiler.recipe import load_recipe
    from qcompiler.search.workload import Workload
    from qcompiler.targets import get_target

    check_metric(request.metric)
    recipe, target = load_recipe(request.recipe), get_target(request.target)
    captured, examples = capture_model(request)
    data = Data.load(request, recipe, captured, examples)
    if data.calibration is None:
        raise UsageError("a search needs data to judge by: pass calibration data, and evaluation data if there is some")
    head = split_passes(build_passes(recipe, target))[0]
    graph, _ = run_passes(captured, head, Context(target=target, samples=data.calibration, seed=request.seed))
    refuse_unmatched(recipe, graph)
    judged, report = _halves(data.evaluation)
    workload = Workload(
        graph, target, recipe, data.calibration, judged, report, request.metric, request.seed, request.threads
    )
    hashes = {"model": hash_graph(captured), **data.hashes(), "evaluation data": f"sha256:{data.evaluation.content_hash}"}
    return workload, hashes


def _halves(samples: Samples) -> tuple[Samples, Samples]:
    """What decides, and what is reported: the first and the last half."""
    if len(samples) < FEWEST_TO_SPLIT:
        logger.warning("%d samples to judge by: the same ones decide and are reported", len(samples))
        return samples, samples
    half = (len(samples) + 1) // 2
    return samples.select(range(half)), samples.select(range(half, len(samples)))


def as_it_is(space: Space, recipe: Recipe) -> Config:
    """The configuration that means the recipe unchanged: uniform, by default 8 bits.

    A group without that choice takes its first.
    """
    wanted = []
    for group in space.groups:
        settings = [recipe.settings_for(module, op) for module, op in group.members][0]
        same = [
            i
            for i, c in enumerate(group.choices)
            if (c.scheme, c.weight_bits, c.group_size or 0)
            == (settings.scheme, settings.weight_bits, settings.group_size or 0)
        ]
        wanted.append(same[0] if same else 0)
    return space.canonical((*(0 for _ in space.knobs), *wanted))


def fingerprint(workload: Workload, space: Space, hashes: dict[str, str]) -> dict[str, Any]:
    """Everything that the figures of a trial depend on, field by field."""
    from qcompiler.lock import current_versions
    from qcompiler.search.backends import environment

    metric = workload.metric
    found = {f"hash of the {name}": value for name, value in hashes.items()}
    found |= {f"version of {name}": value for name, value in current_versions().items()}
    found |= {
        "target": workload.target.name,
        "recipe": hashlib.sha256(workload.recipe.to_json().encode()).hexdigest(),
        "search space": space.hash,
        "metric": _metric_name(metric) if callable(metric) else metric,
        "seed": workload.seed,
        "threads": workload.threads,
    }
    if workload.target.can("measurable"):
        found["machine"] = environment(workload.target, workload.threads)
    return found


def _metric_name(metric: Any) -> str:
    import inspect

    try:
        source = inspect.getsource(metric)
    except (OSError, TypeError):
        source = repr(type(metric))
    name = getattr(metric, "__qualname__", type(metric).__name__)
    return f"{name} {hashlib.sha256(source.encode()).hexdigest()[:16]}"


def _sizes(graph: Graph, samples: Samples) -> dict[str, int]:
    """Sizes of symbolic dimensions in the first sample."""
    from qcompiler.executors.reference import bind_inputs

    return dict(bind_inputs(graph, [a.shape for a in samples[0]]))


def _float_bytes(graph: Graph) -> float:
    """Bytes of the float model's constants: what a relative size is relative to."""
    return float(sum(v.data.nbytes for v in graph.constants() if v.data is not None))


def _compile(
    request: Request, workload: Workload, recipe: Recipe, space: Space, result: Result, goal: Goal
) -> Compiled:
    """The artefact, by the ordinary compile, judged on the samples that decided nothing."""
    from qcompiler.api import Compiled
    from qcompiler.compilation import run_compilation
    from qcompiler.reporting import build_report
    from qcompiler.search.reporting import search_section

    wanted = replace(request, recipe=recipe, calibration=workload.calibration, evaluation=workload.report)
    done = run_compilation(wanted)
    report = build_report(done).model_copy(update={"search": search_section(space, result, goal)})
    return Compiled(
        done.graph, done.float_graph, done.target, done.lock, report, Path(done.folder.name), tuple(done.steps),
        done.folder,
    )  # fmt: skip


def summary(space: Space, result: Result, goal: Goal, workload: Workload) -> dict[str, Any]:
    """The contents of `tune.json`; its keys are a contract."""
    best = result.best
    correlation = result.correlation
    return {
        "schema_version": 1,
        "target": workload.target.name,
        "goal": goal.to_dict(),
        "best": {
            "config": dict(best.config), "drop": best.value("drop"), "objective": best.value(goal.objective),
            **best.to_dict(),
        },
        "baseline": result.baseline.to_dict(),
        "front": [t.to_dict() for t in result.front],
        "trials": [t.to_dict() for t in result.trials],
        "resumed": result.resumed,
        "stopped_by": result.stopped_by,
        "space": {"size": str(space.size), "groups": len(space.groups), "knobs": [k.name for k in space.knobs]},
        "sensitivity": {
            "provider": result.sensitivity.provider,
            "rank_correlation": None if correlation is None else correlation.spearman,
            "configurations": None if correlation is None else correlation.configurations,
        },
        "transfer": result.held_out,
        "certificates": [{**asdict(c), "bound": _finite(c.bound), "gap": _finite(c.gap)} for c in result.certificates],
        "cost_model": result.estimates,
        "seconds": {**result.seconds, "overhead": overhead(result.seconds)},
    }  # fmt: skip


def _finite(value: float) -> float | None:
    """JSON has no infinity."""
    return value if abs(value) < float("inf") else None
