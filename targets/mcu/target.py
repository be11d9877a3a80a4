"""The targets `host-c` and `cortex-m*`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qcompiler.errors import UnsupportedError
from qcompiler.ir import Graph
from qcompiler.targets.base import Emission, Measurement, Simulation, Target
from qcompiler.targets.mcu.op_table import KERNELS
from qcompiler.targets.mcu.parts import CORES, HOST, Part, parse_part


@dataclass(frozen=True)
class McuTarget(Target):
    """A C project without heap and operating system, for one part.

    Attributes:
        part: core, flash and RAM.
    """

    part: Part = Part(CORES[HOST], None, None)

    def pipeline(self, configs: Mapping[str, Any]) -> list[Any]:
        from qcompiler.targets.integer_pipeline import build_pipeline

        return build_pipeline(self, configs)

    def emit(self, graph: Graph, folder: Path, metadata: Mapping[str, str] | None = None) -> Emission:
        from qcompiler.targets.mcu.emit import emit_project

        return emit_project(graph, self.part, folder, metadata)

    def footprint(self, graph: Graph) -> Mapping[str, float]:
        """Constants, and the arena; code and stack come on top."""
        from qcompiler.targets.mcu.budget import constant_bytes
        from qcompiler.targets.mcu.emit import plan_program

        plan = plan_program(graph, self.part)
        return {"flash_bytes": float(constant_bytes(plan.program)), "ram_bytes": float(plan.arena.size)}

    def open(self, folder: Path, threads: int = 1, optimize: bool = True) -> Any:
        """The C of the folder, compiled for this machine."""
        from qcompiler.targets.mcu.runtime import open_folder

        return open_folder(folder, self.part)

    def measure(
        self,
        folder: Path,
        baseline: Graph,
        arrays: Sequence[np.ndarray],
        threads: int = 1,
        seconds: float = 3.0,
        codes: Sequence[np.ndarray] | None = None,
    ) -> Measurement:
        raise UnsupportedError(
            f"target {self.name} is not timed on this machine; `qcompiler bench OUT --on qemu` counts its instructions"
        )

    def verify(self, graph: Graph, folder: Path, samples: Sequence[Sequence[np.ndarray]], threads: int = 1) -> Any:
        from qcompiler.targets.mcu.runtime import open_folder
        from qcompiler.targets.mcu.verify import verify_host

        return verify_host(graph, open_folder(folder, self.part), samples)

    @property
    def simulators(self) -> tuple[str, ...]:
        return () if self.part.core.board is None else ("qemu",)

    def simulate(self, graph: Graph, folder: Path, samples: Sequence[Sequence[np.ndarray]], on: str) -> Simulation:
        from qcompiler.targets.mcu.simulate import simulate

        if on not in self.simulators:
            return super().simulate(graph, folder, samples, on)
        return simulate(graph, self.part, folder, samples)

    def memory(self, folder: Path) -> Any:
        """What is known of flash and RAM."""
        from qcompiler.targets.mcu.memory_file import read_memory

        return read_memory(folder)


def mcu_target(core: str, option: str) -> McuTarget:
    """`CORE[:OPTION]`; see `parts`."""
    part = parse_part(core, option)
    return McuTarget(
        name=part.name,
        family="mcu",
        artefact="model.c",
        kernels=KERNELS,
        roundings=("dyadic", "shift_half_even"),
        capabilities=frozenset({"accumulator_to_float", "memory_plan", *(["simulated"] if part.core.board is not None else [])}),
        isa=None,
        part=part,
    )
