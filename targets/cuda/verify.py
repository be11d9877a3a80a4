"""Verification: the artefact in the emulator against the reference interpreter, every integer `==`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from qcompiler.errors import VerificationError
from qcompiler.executors.reference import run_reference
from qcompiler.ir import Graph, Value
from qcompiler.kernels.gpu.launch import View
from qcompiler.targets.cuda.emit import lower
from qcompiler.targets.cuda.memory import plan_memory
from qcompiler.targets.cuda.session import EmulatedSession


@dataclass(frozen=True)
class LaunchCheck:
    """The result of one launch beside the reference.

    Attributes:
        where: op and module path.
        values: compared, over all samples.
        differing: of them, not equal.
        max_lsb: largest difference.
        passed: none differs.
    """

    where: str
    values: int
    differing: int
    max_lsb: float
    passed: bool


@dataclass(frozen=True)
class Verification:
    """What was compared and how it came out.

    Attributes:
        level: of the graph.
        samples: sets of inputs.
        ops: every launch whose result is a value of the graph.
        sqnr_db: inf; integers are equal or the check fails.
        differing: raw output integers that differ.
        max_lsb: largest difference of an output.
        failures: sentences; empty if all is well.
    """

    level: str
    samples: int
    ops: Mapping[str, tuple[LaunchCheck, ...]]
    sqnr_db: float
    differing: int
    max_lsb: float
    failures: tuple[str, ...] = field(default_factory=tuple)

    def check(self) -> None:
        """Raise if anything differs.

        Raises:
            VerificationError: listing what differs.
        """
        if self.failures:
            raise VerificationError("the kernels do not compute the reference's integers: " + "; ".join(self.failures[:10]))


def verify_emulated(graph: Graph, folder: Path, samples: Sequence[Sequence[np.ndarray]], arch: int) -> Verification:
    """Outputs and the result of every launch in the emulator, over all samples."""
    session = EmulatedSession(folder)
    program = lower(graph, arch)
    memory = plan_memory(program)
    taps = {i: (step.result, step.view) for i, step in enumerate(program.steps) if step.result is not None}
    found = {i: [0, 0, 0.0] for i in taps}
    differing, worst = 0, 0.0
    for arrays in samples:
        expected: dict[Value, np.ndarray] = {}
        wanted = {value for value, _ in taps.values() if value is not None}
        reference = run_reference(graph, arrays, taps=wanted, on_value=expected.__setitem__)

        def compare(index: int, arena: np.ndarray, expected: dict[Value, np.ndarray] = expected) -> None:
            if index not in taps:
                return
            value, view = taps[index]
            assert value is not None
            array = _array(view, arena, memory.arena[view.buffer])
            count, largest = difference(array, expected[value])
            row = found[index]
            row[0], row[1], row[2] = row[0] + array.size, row[1] + count, max(row[2], largest)

        for got, want in zip(session.run(arrays, compare), reference, strict=True):
            count, largest = difference(got, want)
            differing, worst = differing + count, max(worst, largest)
    checks = tuple(
        LaunchCheck(program.steps[i].nodes[-1].where(), int(row[0]), int(row[1]), row[2], row[1] == 0) for i, row in found.items()
    )
    failures = [f"{c.where}: {c.differing} of {c.values} values differ, by up to {c.max_lsb:g}" for c in checks if not c.passed]
    if differing:
        failures.append(f"{differing} output values differ")
    noise = float("inf") if not differing else 0.0
    return Verification(graph.level.value, len(samples), {"emulator": checks}, noise, differing, worst, tuple(failures))


def verify_on(name: str, session: Any, graph: Graph, samples: Sequence[Sequence[np.ndarray]], found: Verification) -> Verification:
    """The outputs of another session added to what was found."""
    differing, worst = 0, 0.0
    for arrays in samples:
        for got, want in zip(session.run(arrays), run_reference(graph, arrays), strict=True):
            count, largest = difference(got, want)
            differing, worst = differing + count, max(worst, largest)
    failures = (*found.failures, f"{differing} output values differ on {name}") if differing else found.failures
    noise = 0.0 if differing else found.sqnr_db
    return replace(
        found, differing=found.differing + differing, max_lsb=max(found.max_lsb, worst), sqnr_db=noise, failures=failures
    )


def _array(view: View, arena: np.ndarray, base: int) -> np.ndarray:
    first, size = view.span()
    flat = arena[base + first : base + first + size].view(view.dtype)
    start = (view.offset - first) // view.dtype.itemsize
    return np.lib.stride_tricks.as_strided(flat[start:], view.shape, [s * view.dtype.itemsize for s in view.strides])


def difference(got: np.ndarray, expected: np.ndarray) -> tuple[int, float]:
    """How many integers differ, and by how much at most."""
    if got.shape != expected.shape or got.dtype != expected.dtype:
        return max(got.size, expected.size, 1), float("inf")
    gap = np.abs(got.astype(np.int64) - expected.astype(np.int64))
    return int((gap > 0).sum()), float(gap.max(initial=0))
