"""Verification: the artefact in the emulator against the reference interpreter, every integer `==`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from qcompiler.executors.reference import run_reference
from qcompiler.ir import Graph
from qcompiler.kernels.gpu.launch import View
from qcompiler.targets.cuda.emit import lower
from qcompiler.targets.cuda.memory import plan_memory
from qcompiler.targets.cuda.session import EmulatedSession
from qcompiler.targets.integer_check import Tap, Verification, compare, difference


def verify_emulated(graph: Graph, folder: Path, samples: Sequence[Sequence[np.ndarray]], arch: int) -> Verification:
    """Outputs and the result of every launch in the emulator, over all samples."""
    session = EmulatedSession(folder)
    program = lower(graph, arch)
    memory = plan_memory(program)
    results = {i: (step.result, step.view) for i, step in enumerate(program.steps) if step.result is not None}

    def run_tapped(arrays: Sequence[np.ndarray], tap: Tap) -> list[np.ndarray]:
        def show(index: int, arena: np.ndarray) -> None:
            if index in results:
                value, view = results[index]
                tap(value, _array(view, arena, memory.arena[view.buffer]))

        return session.run(arrays, show)

    return compare(graph, [value for value, _ in results.values()], run_tapped, samples, "emulator", "the CUDA program")


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
