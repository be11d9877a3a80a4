"""Verification: the artefact in the emulator against the reference interpreter.

At level INTEGER every integer is `==`. At level QUANTIZED every launch is fed what the reference computed before it:
integers are `==`, as rescaling in float32 is computed as the reference does; real numbers may differ by `TOLERANCE` of
the largest one, since sums add up in another order and functions have other last bits, or `HALF_TOLERANCE` where a
kernel rounds operands to float16. Real outputs of whole runs, in which such differences move codes to their
neighbours, must reach `MIN_SQNR_DB`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from qcompiler.executors.reference import run_reference
from qcompiler.ir import Graph, Level, Value
from qcompiler.kernels.gpu.launch import View
from qcompiler.targets.cuda.emit import lower_all
from qcompiler.targets.cuda.lower import Program
from qcompiler.targets.cuda.memory import Memory, plan_memory
from qcompiler.targets.cuda.plan import plan_for
from qcompiler.targets.cuda.session import EmulatedSession
from qcompiler.targets.cuda.sizes import Sizes
from qcompiler.targets.integer_check import StepCheck, Tap, Verification, compare, difference

TOLERANCE = 2e-5
"""Of float32: sums of a thousand terms in another order."""

HALF_TOLERANCE = 4e-3
"""Of products of float16: operand, scale and weight each have 11 bits."""

MIN_SQNR_DB = 30.0


def verify_emulated(
    graph: Graph, folder: Path, samples: Sequence[Sequence[np.ndarray]], arch: int, sizes: Sizes | None = None
) -> Verification:
    """Outputs and the result of every launch in the emulator, over all samples, each with the plan of its size."""
    session = EmulatedSession(folder)
    programs = lower_all(graph, arch, sizes)
    groups: dict[int, list[Sequence[np.ndarray]]] = {}
    for arrays in samples:
        groups.setdefault(plan_for(session.plans, arrays), []).append(arrays)
    found = []
    for index, group in groups.items():
        chosen, program = programs[index]
        build = " ".join(["emulator", *(f"{n}={v}" for n, v in chosen.items())])
        check = _verify_integers if graph.level is Level.INTEGER else _verify_real
        found.append(check(program, plan_memory(program), session, group, build))
    return replace(
        found[0],
        samples=len(samples),
        ops={build: checks for f in found for build, checks in f.ops.items()},
        sqnr_db=min(f.sqnr_db for f in found),
        differing=sum(f.differing for f in found),
        max_lsb=max(f.max_lsb for f in found),
        failures=tuple(text for f in found for text in f.failures),
    )


def _verify_integers(
    program: Program, memory: Memory, session: EmulatedSession, samples: Sequence[Sequence[np.ndarray]], build: str
) -> Verification:
    results = {i: (step.result, step.view) for i, step in enumerate(program.steps) if step.result is not None}

    def run_tapped(arrays: Sequence[np.ndarray], tap: Tap) -> list[np.ndarray]:
        def show(index: int, arena: np.ndarray) -> None:
            if index in results:
                value, view = results[index]
                tap(value, _array(view, arena, memory.arena[view.buffer]))

        return session.run(arrays, show)

    return compare(program.graph, [value for value, _ in results.values()], run_tapped, samples, build, "the CUDA program")


def _verify_real(
    program: Program, memory: Memory, session: EmulatedSession, samples: Sequence[Sequence[np.ndarray]], build: str
) -> Verification:
    """Every launch on the reference's numbers, of the first sample; outputs of whole runs, of all."""
    steps = {i: step for i, step in enumerate(program.steps) if step.result is not None}
    expected: dict[Value, np.ndarray] = {}
    values = {step.result for step in steps.values() if step.result is not None}
    run_reference(program.graph, samples[0], taps=values, on_value=expected.__setitem__)
    checks: list[StepCheck] = []

    def compare_and_replace(index: int, arena: np.ndarray) -> None:
        if index not in steps:
            return
        step = steps[index]
        assert step.result is not None
        array, wanted = _array(step.view, arena, memory.arena[step.view.buffer]), expected[step.result]
        half = any("weight_only" in n.op for n in step.nodes)
        count, worst = real_difference(array, wanted, HALF_TOLERANCE if half else TOLERANCE)
        checks.append(StepCheck(step.nodes[-1].where(), wanted.size, count, worst, count == 0))
        array[...] = wanted

    session.run(samples[0], compare_and_replace)
    failures = [f"{c.where}: {c.differing} of {c.values} values differ, by up to {c.max_lsb:g}" for c in checks if not c.passed]
    differing, worst, sqnr = _outputs(session, program.graph, samples)
    if not sqnr >= MIN_SQNR_DB:
        failures.append(f"{sqnr:.1f} dB against the reference, below {MIN_SQNR_DB}")
    return Verification(
        program.graph.level.value, len(samples), {build: tuple(checks)}, sqnr, differing, worst, tuple(failures), "the CUDA program"
    )  # fmt: skip


def real_difference(got: np.ndarray, wanted: np.ndarray, tolerance: float) -> tuple[int, float]:
    """How many elements differ and by how much: integers at all, real numbers by more than a share of the largest finite one."""
    if wanted.dtype.kind != "f" or got.shape != wanted.shape or got.dtype != wanted.dtype:
        return difference(got, wanted)
    finite = np.isfinite(wanted)
    with np.errstate(invalid="ignore"):
        gap = np.where(finite, np.abs(got.astype(np.float64) - wanted), 0.0)
    other = ~finite & ~((got == wanted) | np.isnan(got) & np.isnan(wanted))
    limit = tolerance * float(np.abs(wanted[finite]).max(initial=0))
    return int((~(gap <= limit) | other).sum()), float("inf") if other.any() else float(gap.max(initial=0))


def _outputs(session: Any, graph: Graph, samples: Sequence[Sequence[np.ndarray]]) -> tuple[int, float, float]:
    """Of whole runs: values that differ, by how much at most, and decibels of the outputs over their differences."""
    differing, worst, signal, noise = 0, 0.0, 0.0, 0.0
    for arrays in samples:
        for got, want in zip(session.run(arrays), run_reference(graph, arrays), strict=True):
            count, largest = real_difference(got, want, TOLERANCE)
            differing, worst = differing + count, max(worst, largest)
            a, b = (np.nan_to_num(v.astype(np.float64)) for v in (got, want))
            signal, noise = signal + float((b * b).sum()), noise + float(((a - b) ** 2).sum())
    if graph.level is Level.INTEGER:
        return differing, worst, 0.0 if differing else float("inf")
    return differing, worst, float("inf") if noise == 0 else 10 * float(np.log10(max(signal, 1e-300) / noise))


def verify_on(name: str, session: Any, graph: Graph, samples: Sequence[Sequence[np.ndarray]], found: Verification) -> Verification:
    """The outputs of another session added to what was found."""
    differing, worst, sqnr = _outputs(session, graph, samples)
    exact = graph.level is Level.INTEGER
    failures = found.failures
    if exact and differing:
        failures = (*failures, f"{differing} output values differ on {name}")
    elif not exact and not sqnr >= MIN_SQNR_DB:
        failures = (*failures, f"{sqnr:.1f} dB against the reference on {name}, below {MIN_SQNR_DB}")
    return replace(
        found, differing=found.differing + differing, max_lsb=max(found.max_lsb, worst), sqnr_db=min(found.sqnr_db, sqnr),
        failures=failures,
    )  # fmt: skip


def _array(view: View, arena: np.ndarray, base: int) -> np.ndarray:
    first, size = view.span()
    flat = arena[base + first : base + first + size].view(view.dtype)
    start = (view.offset - first) // view.dtype.itemsize
    return np.lib.stride_tricks.as_strided(flat[start:], view.shape, [s * view.dtype.itemsize for s in view.strides])
