"""From a finished compile to its report."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qcompiler.coverage import BORDERS, is_integer
from qcompiler.ir import Level
from qcompiler.layer_taps import compare_layers
from qcompiler.report import (
    Accuracy,
    CoverageRow,
    Latency,
    Memory,
    MetricRow,
    ReportData,
    Sizes,
    Unfused,
    VerificationRun,
)
from qcompiler.report.collect import decisions, pass_notes, stages

LAYER_ERROR_SAMPLES = 4

if TYPE_CHECKING:
    from qcompiler.compilation import Compilation
    from qcompiler.ir import Graph, Node
    from qcompiler.report import LayerErrorRow


def build_report(done: Compilation) -> ReportData:
    """The report of a compile, every figure with its kind."""
    return ReportData(
        target=done.target.name,
        recipe=done.recipe.name,
        model=done.graph.name,
        model_hash=done.lock.hashes["model"],
        calibration_hash=done.lock.hashes.get("calibration data", ""),
        samples=0 if done.calibration is None else len(done.calibration),
        random_calibration=done.lock.random_calibration,
        versions=done.lock.versions,
        isa=done.target.isa or "",
        seed=done.lock.seed,
        accuracy=_accuracy(done),
        latency=_latency(done),
        sizes=_sizes(done),
        memory=_memory(done),
        coverage=coverage_rows(done),
        layers=_layers(done),
        passes=pass_notes(done.steps),
        decisions=decisions({k: v for k, v in done.lock.decisions.items() if k != "latency"}),
        verification=_verification(done),
        unfused=_unfused(done),
        stages=stages(done.times),
    )


def coverage_rows(done: Compilation) -> tuple[CoverageRow, ...]:
    """One row per op of the artefact: what it computes in, by which kernel, and why it is not quantized."""
    reasons = _reasons(done)
    macs = _multiplications(done.graph, [a.shape for a in done.evaluation[0]])
    rows = []
    for choice in done.emission.kernels:
        if choice.op in BORDERS:
            continue
        integer = done.graph.level is Level.INTEGER or is_integer(choice)
        why = "" if integer else reasons.get((choice.module, choice.op), "computed on real numbers")
        rows.append(
            CoverageRow(
                module=choice.module,
                op=choice.op,
                dtype=choice.dtype,
                kernel=choice.kernel,
                quantized=integer,
                why_not=why,
                macs=next(macs.get((choice.module, choice.op), iter(())), None),
            )
        )
    return tuple(rows)


def _reasons(done: Compilation) -> dict[tuple[str, str], str]:
    plan = done.plan
    if plan is None:
        return {}
    return {
        (node.origin.module, node.op): decided.reason
        for node, decided in plan.nodes.items()
        if decided.reason
    }


def _multiplications(graph: Graph, shapes: Sequence[tuple[int, ...]]) -> dict[tuple[str, str], Iterator[int]]:
    """Multiply-accumulates of one inference with inputs of these shapes; per (module, op) in program order."""
    from qcompiler.executors.reference import bind_inputs
    from qcompiler.ir.dims import evaluate

    bindings = bind_inputs(graph, shapes)
    found: dict[tuple[str, str], list[int]] = {}
    for node in graph.nodes:
        sizes = _product_sizes(node)
        if sizes is not None:
            count = math.prod(evaluate(size, bindings) for size in sizes)
            found.setdefault((node.origin.module, node.op), []).append(count)
    return {key: iter(counts) for key, counts in found.items()}


def _product_sizes(node: Node) -> Sequence[Any] | None:
    """Dimensions whose product is the node's number of multiply-accumulates, None for ops without any."""
    if node.op not in ("linear", "conv", "dynamic_linear", "conv_transpose", "matmul", "attention"):
        return None
    first, second = node.operands[0].shape, node.operands[1].shape
    if node.op == "matmul":
        return (*node.output.shape, first[-1])
    if node.op == "conv_transpose":
        return (*first, *second[1:])
    if node.op == "attention":  # q k^T, then the weighted sum of v
        return (*node.output.shape[:-1], second[-2], first[-1] + node.output.shape[-1])
    return (*second[1:], *node.output.shape)


def _accuracy(done: Compilation) -> Accuracy:
    found = done.accuracy
    metrics = tuple(
        MetricRow(
            name=m.name,
            float_value=m.float_value,
            quantized_value=m.value,
            higher_is_better=m.higher_is_better,
        )
        for m in found.asked
    )
    return Accuracy(
        data=done.evaluated_on,  # type: ignore[arg-type]  # one of the four words
        samples=found.samples,
        metrics=metrics,
        sqnr_db=found.sqnr_db,
        cosine=found.cosine,
        agreement=found.agreement,
    )


def _latency(done: Compilation) -> Latency | None:
    found = done.latency
    if found is None:
        return None
    return Latency(
        quantized_ms=found.latency_ms,
        float_ms=found.baseline_ms,
        threads=found.threads,
        batch=_batch(done.evaluation[0]),
        runtime=done.target.family,
        noise=found.spread,
        noisy=found.noisy,
    )


def _batch(arrays: Sequence[np.ndarray]) -> int:
    return int(arrays[0].shape[0]) if arrays and arrays[0].ndim else 1


def _memory(done: Compilation) -> Memory | None:
    ask = getattr(done.target, "memory", None)
    if ask is None:
        return None
    found = ask(Path(done.folder.name))
    return Memory(
        arena_bytes=found.arena,
        arena_bound_bytes=found.lower_bound,
        arena_method=found.method,
        constant_bytes=found.constants,
        code_bytes=found.code,
        stack_bytes=found.stack,
        flash_limit_bytes=found.flash_limit,
        ram_limit_bytes=found.ram_limit,
    )


def _sizes(done: Compilation) -> Sizes:
    weights: dict[str, int] = {}
    for value in done.graph.constants():
        if value.data is not None:
            # Codes below 8 bits are packed in the artefact, whatever their storage here.
            size = value.data.size * value.dtype.bits // 8
            weights[value.dtype.name] = weights.get(value.dtype.name, 0) + size
    floats = sum(value.data.nbytes for value in done.float_graph.constants() if value.data is not None)
    memory = _memory(done)  # of a program that is compiled further, its size on the device counts, not its text's
    on_disk = sum(path.stat().st_size for path in done.emission.files)
    return Sizes(
        artefact_bytes=on_disk if memory is None else memory.flash_bytes or memory.constant_bytes,
        float_bytes=floats,
        weight_bytes=weights,
    )


def _verification(done: Compilation) -> tuple[VerificationRun, ...]:
    """One run per setting of the runtime's graph optimizations."""
    found = done.verification
    shapes = [tuple(a.shape for a in done.evaluation[i]) for i in range(found.samples)]
    values = found.samples * sum(
        _elements(done.graph, shapes[0], index) for index in range(len(done.graph.outputs))
    )
    runs = []
    for setting, checks in found.ops.items():
        worst = max(checks, key=lambda check: (check.max_lsb, check.differing), default=None)
        runs.append(
            VerificationRun(
                name=f"graph optimizations {setting}" if setting in ("off", "on") else setting,
                level=found.level.upper(),
                samples=found.samples,
                values=values,
                differing=found.differing,
                max_lsb=int(np.ceil(found.max_lsb or 0)),
                sqnr_db=found.sqnr_db,
                passed=all(check.passed for check in checks) and not found.failures,
                local_module="" if worst is None else worst.where,
                local_share=None if worst is None else worst.differing / max(1, worst.values),
                local_max_lsb=None if worst is None else int(np.ceil(worst.max_lsb)),
            )
        )
    return tuple(runs)


def _elements(graph: Graph, shapes: Sequence[tuple[int, ...]], index: int) -> int:
    from qcompiler.executors.reference import bind_inputs
    from qcompiler.ir.dims import evaluate

    bindings = bind_inputs(graph, shapes)
    return int(np.prod([evaluate(d, bindings) for d in graph.outputs[index].shape], dtype=np.int64))


def _unfused(done: Compilation) -> tuple[Unfused, ...]:
    explain = getattr(done.target, "unfused", None)
    if explain is None:
        return ()
    return tuple(
        Unfused(module=found.name, op=found.op_type, why=found.why)
        for found in explain(Path(done.folder.name))
    )


def _layers(done: Compilation) -> tuple[LayerErrorRow, ...]:
    if done.plan is None:
        return ()
    count = min(LAYER_ERROR_SAMPLES, len(done.evaluation))
    return compare_layers(done.plan, [done.evaluation[i] for i in range(count)])
