"""`bench --on qemu`: a project on its emulated board, beside the reference interpreter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from qcompiler.executors.reference import run_reference
from qcompiler.ir import Graph
from qcompiler.targets.base import LayerCount, Simulation
from qcompiler.targets.integer_check import difference
from qcompiler.targets.mcu.emit import plan_program
from qcompiler.targets.mcu.parts import Part
from qcompiler.targets.mcu.qemu import run_emulated


def simulate(graph: Graph, part: Part, project: Path, samples: Sequence[Sequence[np.ndarray]]) -> Simulation:
    """Run all samples in QEMU.

    Raises:
        MissingToolError: compiler, make or emulator are not installed.
        VerificationError: the program crashed on the board.
    """
    plan = plan_program(graph, part)
    run = run_emulated(plan, project.absolute(), samples)
    pairs = [
        pair
        for arrays, outputs in zip(samples, run.outputs, strict=True)
        for pair in zip(outputs, run_reference(graph, arrays), strict=True)
    ]
    layers = tuple(
        LayerCount(step.module, step.nodes[0].op, step.function, count, step.macs)
        for step, count in zip(plan.program.steps, run.layers, strict=bool(run.layers))
    )
    return Simulation(
        on="qemu",
        samples=len(samples),
        differing=sum(difference(got, want)[0] for got, want in pairs),
        instructions=run.instructions,
        layers=layers,
        flash_bytes=run.footprint.flash,
        ram_bytes=run.footprint.ram,
        arena_bytes=plan.arena.size,
        predicted={"flash_bytes": run.predicted.flash, "ram_bytes": run.predicted.ram},
    )
