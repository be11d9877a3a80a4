"""One compile from model to a verified, measured artefact: the stages and what passes between them."""

from __future__ import annotations

import hashlib
import logging
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qcompiler.artifact import writing
from qcompiler.boundary import RealSession, quantize_inputs
from qcompiler.captured import Captured, capture_request, tensors_in
from qcompiler.coverage import check_kernels, check_left_in_float, refuse_slow, refuse_unmatched
from qcompiler.debug import after_pass, debug_level
from qcompiler.errors import UsageError
from qcompiler.evaluation import Evaluation, Metric, check_metric, evaluate
from qcompiler.imported import after_lowering, as_imported, bring_in, integer_program, is_imported
from qcompiler.lock import Lock, check_lock, current_versions, hash_arrays, plain, read_lock
from qcompiler.named_metrics import Pair
from qcompiler.progress import Stages, StageTime
from qcompiler.real_tokens import RealTokens
from qcompiler.recipe import Recipe, load_recipe

if TYPE_CHECKING:
    from qcompiler.calibration import Samples
    from qcompiler.ir import Graph
    from qcompiler.passes.base import Pass, Step
    from qcompiler.targets import Emission, Measurement, Target

logger = logging.getLogger(__name__)

STAGES = ("capture", "canonicalize", "quantize", "emit", "verify", "measure", "evaluate")
VERIFIED_SAMPLES = 2
"""Samples whose outputs are compared with the reference interpreter, which computes exactly, not fast."""
MEASURE_SECONDS = 2.0
FITTED_ROUNDINGS = ("gptq", "autoround", "brecq")
"""Rounding methods that are nothing without data."""


@dataclass(frozen=True)
class Request:
    """What the user asked for; see `qcompiler.api.compile`."""

    model: Any
    example_inputs: Any = None
    target: str = "onnxruntime-cpu"
    recipe: Any = "w8a8"
    calibration: Any = None
    evaluation: Any = None
    metric: str | Metric | None = None
    dynamic_shapes: Any = None
    seed: int = 0
    threads: int = 1
    lock: Any = None
    allow_slow: bool = False
    allow_random_calibration: bool = False
    shapes: Mapping[str, Sequence[Any]] | None = None
    checkpoint: str | Path | None = None


@dataclass
class Compilation:
    """Everything known at the end of a compile.

    Attributes:
        float_graph: the captured graph after canonicalization; the baseline of all comparisons.
        graph: the last target-neutral graph, which `reference()` runs.
        folder: private folder that holds the artefact's files until they are saved.
        steps: every executed pass with its notes.
        plan: how every node of the float graph was quantized, None for a target without such a plan.
        latency: beside float; None where the target cannot be measured on this machine.
    """

    request: Request
    recipe: Recipe
    target: Target
    float_graph: Graph
    graph: Graph
    folder: tempfile.TemporaryDirectory[str]
    calibration: Samples | None
    evaluation: Samples
    evaluated_on: str
    steps: list[Step]
    emission: Emission
    verification: Any
    latency: Measurement | None
    accuracy: Evaluation
    lock: Lock
    plan: Any
    times: list[StageTime] = field(default_factory=list)


def run_compilation(request: Request, *, show: bool | None = None) -> Compilation:
    """Run all stages. `show` is that of `Stages`."""
    from qcompiler.targets import get_target

    check_metric(request.metric)
    debug_level()
    lock = _given_lock(request.lock)
    if lock is not None:
        request = replace(
            request, target=lock.target, recipe=lock.recipe, seed=lock.seed, threads=lock.threads
        )
    recipe = load_recipe(request.recipe)
    if request.allow_slow and recipe.never_slower:
        recipe = recipe.with_changes({"never_slower": False})
    target = get_target(request.target)
    with Stages(STAGES, show=show) as stages:
        result = _stages(request, recipe, target, lock, stages)
    result.times = stages.times
    return result


def _given_lock(given: Any) -> Lock | None:
    return given if given is None or isinstance(given, Lock) else read_lock(given)


def _stages(
    request: Request, recipe: Recipe, target: Target, lock: Lock | None, stages: Stages
) -> Compilation:
    from qcompiler.ir import Level
    from qcompiler.passes.base import Context, check_order, run_passes
    from qcompiler.passes.kept_decisions import KeptDecisions

    passes = build_passes(recipe, target)
    check_order(passes)
    with stages.stage("capture"):
        own, kept = integer_program(request.model)
        taken = capture_request(request) if own is None else Captured(own, tensors_in(request.example_inputs))
        captured = taken.graph
        imported = is_imported(captured)
        recipe = as_imported(recipe) if imported else recipe
        data = Data.load(request, recipe, kept or captured, taken.examples, lock)
        hashes = {"model": hash_graph(captured), **data.hashes()}
        threads = request.threads
        if lock is not None:
            check_lock(lock, isa=[target.isa] if target.isa else [], hashes=hashes)
    context = Context(
        target=target,
        samples=data.calibration,
        seed=request.seed,
        locked=None if lock is None else lock.decisions,
        progress=stages.update,
        checkpoint=None if request.checkpoint is None else Path(request.checkpoint),
        fingerprint={**hashes, "recipe": f"sha256:{hashlib.sha256(recipe.to_json().encode()).hexdigest()}", "target": target.name},
    )
    if lock is None:
        context.kept = KeptDecisions(context)
    after = after_pass()
    each = debug_level() >= 4
    head, tail = split_passes(passes)
    with stages.stage("canonicalize"):
        if imported:
            start, float_graph, first = bring_in(captured, context, after, each, kept)
            tail = after_lowering(passes, start.level)
        else:
            start, first = run_passes(captured, head, context, after, each)
            float_graph = start
        refuse_unmatched(recipe, float_graph)
    with stages.stage("quantize"):
        graph, rest = run_passes(start, tail, context, after, each)
        if graph.level is not Level.INTEGER:  # which holds no real number at all, as the verifier has checked
            check_left_in_float(recipe, target, context)
    folder = tempfile.TemporaryDirectory(prefix="qcompiler-")
    path = Path(folder.name)
    with stages.stage("emit"):
        if context.locked is not None:
            target = target.with_tiles(context.locked.get("tiles", {}))
        with writing(path, "temporary folder"):
            emission = target.emit(graph, path, _metadata(recipe, hashes, data))
        if emission.tiles:
            context.decisions["tiles"] = emission.tiles
        refuse_slow(emission, request.allow_slow)
        # An integer program fixes the types of its codes; there is no faster kernel for the same integers.
        check_kernels(target, emission, request.allow_slow or graph.level is Level.INTEGER)
    with stages.stage("verify"):
        count = min(VERIFIED_SAMPLES, len(data.evaluation))
        samples = [quantize_inputs(graph, data.evaluation[i]) for i in range(count)]
        verification = target.verify(graph, path, samples, threads)
        verification.check()
    with stages.stage("measure"):
        latency = _measure(target, path, graph, float_graph, data.evaluation[0], threads, context)
    with stages.stage("evaluate"):
        session = RealSession(target.open_to_evaluate(graph, path, threads), graph)
        pairs = output_pairs(session, float_graph, data.evaluation, stages)
        accuracy = evaluate(pairs, request.metric)
    made = Lock(
        target=target.name,
        isa=(target.isa,) if target.isa else (),
        seed=request.seed,
        threads=threads,
        recipe=recipe,
        random_calibration=data.random,
        calibration_samples=0 if data.calibration is None else len(data.calibration),
        hashes=hashes,
        ranges=dict(taken.ranges),
        versions=current_versions(),
        decisions=dict(sorted(plain({**(context.locked or {}), **context.decisions}).items())),
    )
    return Compilation(
        request, recipe, target, float_graph, graph, folder, data.calibration, data.evaluation, data.evaluated_on,
        [*first, *rest], emission, verification, latency, accuracy, made,
        context.tables.get("plan"),
    )  # fmt: skip


def capture_model(request: Request) -> tuple[Graph, list[Any]]:
    """The FLOAT graph of the user's model, and the tensors it was traced with."""
    captured = capture_request(request)
    return captured.graph, captured.examples


@dataclass(frozen=True)
class Data:
    """Calibration and evaluation samples.

    Attributes:
        evaluated_on: `evaluation`, `held_back`, `calibration` (too little to hold any back) or `example`.
    """

    calibration: Samples | None
    evaluation: Samples
    evaluated_on: str

    @staticmethod
    def load(
        request: Request, recipe: Recipe, graph: Graph, examples: Sequence[Any], lock: Lock | None = None
    ) -> Data:
        """Load both, holding back a part of the calibration data where no evaluation data was given.

        A lock says how many samples were calibrated on, whether or not evaluation data is given this time.

        Raises UsageError where static ranges are asked for and there is no data, or only random data that was
        not allowed.
        """
        from qcompiler.calibration import RandomData, load_samples

        given = request.calibration
        random = request.allow_random_calibration
        if given is None and random:
            given = RandomData(seed=request.seed)
        if given is None and needs_calibration(recipe):
            raise UsageError(
                f"recipe {recipe.name!r} has static ranges or weights fitted to data, and needs calibration data: pass "
                "some (32 to 256 samples are usual), or choose w8a8-dynamic; random numbers only with "
                "allow_random_calibration"
            )
        limit = recipe.calibration.max_samples
        samples = None
        if given is not None:
            samples = load_samples(given, graph, allow_random=random, limit=limit)
            for doubt in samples.doubts():
                logger.warning("calibration data: %s; is it what the model was trained on?", doubt)
            if samples.random:
                logger.warning("calibration data: random numbers; the accuracy of the artefact means nothing")
        evaluation = None if request.evaluation is None else load_samples(request.evaluation, graph)
        if samples is not None and lock is not None and lock.calibration_samples < len(samples):
            used, rest = range(lock.calibration_samples), range(lock.calibration_samples, len(samples))
            if evaluation is None:
                return Data(samples.select(used), samples.select(rest), "held_back")
            samples = samples.select(used)
        elif samples is not None and lock is not None and evaluation is None and len(samples) > 1:
            return Data(samples, samples, "calibration")  # then all were used, beside evaluation data
        if evaluation is not None:
            return Data(samples, evaluation, "evaluation")
        if samples is not None:
            split = samples.split(recipe.calibration.held_back)
            return Data(split.calibration, split.evaluation, "held_back" if split.disjoint else "calibration")
        if not examples:
            raise UsageError(
                "there is no data to verify the artefact with: pass calibration or evaluation data"
            )
        logger.warning("no data given: verified and evaluated on the example inputs only")
        return Data(None, load_samples([tuple(examples)], graph), "example")

    @property
    def random(self) -> bool:
        """True if the model was calibrated on random numbers."""
        return self.calibration is not None and self.calibration.random

    def hashes(self) -> dict[str, str]:
        """Content hash of the calibration samples, by the name that lock errors show.

        Evaluation data changes the report, never the artefact.
        """
        if self.calibration is None:
            return {}
        return {"calibration data": f"sha256:{self.calibration.content_hash}"}


def needs_calibration(recipe: Recipe) -> bool:
    """True if some layer may have static ranges, or weights rounded under the data."""
    settings = (recipe, *recipe.rules)
    return any(s.scheme in ("static", "auto") or s.rounding in FITTED_ROUNDINGS for s in settings)


def build_passes(recipe: Recipe, target: Target) -> list[Pass]:
    """The target's pipeline, configured by the recipe's fields and then by its `passes` section."""
    from qcompiler.pipeline_config import pass_configs

    return target.pipeline(pass_configs(recipe, target))


def split_passes(passes: Sequence[Pass]) -> tuple[list[Pass], list[Pass]]:
    """The canonicalization at the front of a pipeline, and what follows."""
    count = 0
    for step in passes:
        if not type(step).__module__.startswith("qcompiler.passes.canonicalize"):
            break
        count += 1
    return list(passes[:count]), list(passes[count:])


def _metadata(recipe: Recipe, hashes: Mapping[str, str], data: Data) -> dict[str, str]:
    from qcompiler import __version__

    recipe_hash = hashlib.sha256(recipe.to_json().encode()).hexdigest()
    found = {"version": __version__, "recipe": recipe.name, "recipe_hash": f"sha256:{recipe_hash}"}
    found |= {name.replace(" ", "_") + "_hash": value for name, value in hashes.items()}
    return {**found, "random_calibration": "true"} if data.random else found


def _measure(
    target: Target,
    folder: Path,
    graph: Graph,
    baseline: Graph,
    arrays: Sequence[np.ndarray],
    threads: int,
    context: Any,
) -> Measurement | None:
    """Latency of the shipped artefact beside float; from a lock, the figures recorded in it."""
    from qcompiler.targets import Measurement

    if not target.can("measurable"):
        return None
    if context.locked is not None:
        recorded = context.locked.get("latency")
        if recorded is None:
            return None
        context.decisions["latency"] = recorded
        return Measurement(**recorded)
    codes = quantize_inputs(graph, arrays)
    measured = target.measure(folder, baseline, arrays, threads, MEASURE_SECONDS, codes)
    context.decisions["latency"] = asdict(measured)
    return measured


def output_pairs(
    session: Any,
    float_graph: Graph,
    samples: Samples,
    stages: Stages | None = None,
    labels: np.ndarray | None = None,
) -> Iterator[Pair]:
    """The artefact's and the float model's outputs of each sample; `labels` [rows] are dealt out in order.

    Raises:
        UsageError: the labels are fewer or more than the rows of the first output.
    """
    from qcompiler.executors.tensors import to_array
    from qcompiler.executors.torch_executor import TorchExecutor

    executor, tokens = TorchExecutor(float_graph), RealTokens(float_graph)
    used = 0
    for index, arrays in enumerate(samples):
        if stages is not None:
            stages.update("sample", index, len(samples))
        tokens.of_sample(arrays)
        expected = [to_array(t) for t in executor.run(arrays)]
        rows = int(np.prod(expected[0].shape[:-1]))
        own = None if labels is None else labels[used : used + rows]
        used += rows
        inputs = dict(zip(samples.names, arrays, strict=True))
        yield Pair(session.run(arrays), expected, tokens.outputs, inputs, tokens.keep, own)
    if labels is not None and used != len(labels):
        raise UsageError(f"the evaluation data has {len(labels)} labels for {used} rows of the first output")


def hash_graph(graph: Graph) -> str:
    """Hash of the program and its weights; where the source file lies on this machine does not matter."""
    from qcompiler.ir import print_graph

    text, arrays = print_graph(graph)
    text = re.sub(r'"source": "(?:[^"\\]|\\.)*"(?:, )?', "", text)
    encoded = np.frombuffer(text.encode(), np.uint8)
    return hash_arrays([("program", encoded), *sorted(arrays.items())])
