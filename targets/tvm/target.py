"""The targets `tvm-cpu[:CPU]`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from qcompiler.ir import Graph
from qcompiler.targets.base import Emission, Measurement, Profile, Target
from qcompiler.targets.tvm.op_table import CPU_KERNELS


@dataclass(frozen=True)
class TvmCpuTarget(Target):
    """A library for one CPU, run by TVM's virtual machine.

    Attributes:
        cpu: LLVM's name, "" for this machine's.
        tiles: settings of an earlier compile, by what they belong to; None for what was measured on this machine.
    """

    cpu: str = ""
    tiles: Mapping[str, Mapping[str, Any]] | None = None

    @property
    def machine(self) -> Any:
        """The CPU."""
        from qcompiler.targets.tvm.machine import machine_named

        return machine_named(self.cpu)

    def pipeline(self, configs: Mapping[str, Any]) -> list[Any]:
        from qcompiler.targets.integer_pipeline import build_pipeline

        return build_pipeline(self, configs)

    def emit(self, graph: Graph, folder: Path, metadata: Mapping[str, str] | None = None) -> Emission:
        from qcompiler.targets.tvm.database import known_tiles, tiles_of
        from qcompiler.targets.tvm.emit import emit_cpu

        tiles = known_tiles(self.machine) if self.tiles is None else tiles_of(self.tiles)
        return emit_cpu(graph, self.machine, folder, tiles, metadata or {})

    def with_tiles(self, tiles: Mapping[str, Any]) -> TvmCpuTarget:
        return replace(self, tiles=tiles)

    def open(self, folder: Path, threads: int = 1, optimize: bool = True) -> Any:
        from qcompiler.targets.tvm.emit import open_cpu
        from qcompiler.targets.tvm.threads import use_threads

        use_threads(threads)
        return open_cpu(folder, self.machine)

    def measure(
        self,
        folder: Path,
        baseline: Graph,
        arrays: Sequence[np.ndarray],
        threads: int = 1,
        seconds: float = 3.0,
        codes: Sequence[np.ndarray] | None = None,
    ) -> Measurement:
        """Beside the float model in ONNX Runtime with all its optimizations, in one alternating run."""
        from qcompiler.targets import get_target
        from qcompiler.targets.timing import measure_pair

        mine = self.open(folder, threads)
        other = get_target("onnxruntime-cpu").open_float(baseline, threads)  # type: ignore[attr-defined]
        taken = [mine.tensor(a) for a in (arrays if codes is None else codes)]
        return measure_pair(lambda: mine.call(taken), lambda: other.run(arrays), seconds, threads)

    def profile(self, folder: Path, arrays: Sequence[np.ndarray], threads: int = 1) -> Profile:
        from qcompiler.targets.tvm.profile import profile_session

        return profile_session(self.open(folder, threads), folder, self.machine, arrays)

    def tune_kernels(
        self, graph: Graph, trials: int, seed: int, database: Path | None, tracker: tuple[str, int] | None, key: str | None,
        progress: Callable[[str], None],
    ) -> Mapping[str, Any]:  # fmt: skip
        from qcompiler.targets.tvm.tune import tune_program

        return tune_program(graph, self.machine, trials, seed, database, tracker, key, progress)

    def verify(self, graph: Graph, folder: Path, samples: Sequence[Sequence[np.ndarray]], threads: int = 1) -> Any:
        from qcompiler.targets.tvm.verify import verify_library

        return verify_library(graph, self.open(folder, threads), samples)


def tvm_cpu_target(option: str) -> TvmCpuTarget:
    """`tvm-cpu[:CPU]`; without a name, this machine's CPU.

    Raises:
        MissingToolError: TVM is absent, or not the version that works.
        UsageError: LLVM knows no such CPU.
    """
    from qcompiler.targets.tvm.machine import machine_named
    from qcompiler.targets.tvm.version import require_tvm

    require_tvm()
    machine = machine_named(option)
    capabilities = {"float_islands", "accumulator_to_float", "dynamic_linear"}
    if machine.isa.short:
        capabilities.add("int16_pair_products")
    if machine.host:
        capabilities.add("measurable")
    return TvmCpuTarget(
        name=f"tvm-cpu:{machine.cpu}",
        family="tvm",
        artefact="lib.so",
        kernels=CPU_KERNELS,
        roundings=("float32_half_even", "dyadic", "dyadic_double", "shift_half_even"),
        capabilities=frozenset(capabilities),
        isa=machine.isa.name,
        cpu=machine.cpu,
    )
