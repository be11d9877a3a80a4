"""The target `fpga-hls`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qcompiler.errors import UnsupportedError
from qcompiler.ir import Graph
from qcompiler.targets.base import Emission, Measurement, Simulation, Target
from qcompiler.targets.fpga_hls.op_table import KERNELS
from qcompiler.targets.fpga_hls.parts import Option, parse_option
from qcompiler.targets.fpga_hls.units import Weighted


@dataclass(frozen=True)
class FpgaTarget(Target):
    """A streaming dataflow project for one part.

    Attributes:
        option: part, clock, width of multipliers.
    """

    option: Option = parse_option("")

    def pipeline(self, configs: Mapping[str, Any]) -> list[Any]:
        from qcompiler.targets.integer_pipeline import build_pipeline

        return build_pipeline(self, configs)

    def emit(self, graph: Graph, folder: Path, metadata: Mapping[str, str] | None = None) -> Emission:
        from qcompiler.targets.fpga_hls.emit import emit_project

        return emit_project(graph, self.option, folder, metadata)

    def footprint(self, graph: Graph) -> Mapping[str, float]:
        """Clocks per frame, what the folded network takes of the part, and the bytes of its weights, by the models alone."""
        from qcompiler.targets.fpga_hls.emit import plan_network
        from qcompiler.targets.fpga_hls.model.fit import estimate

        network = plan_network(graph, self.option).dataflow
        found = estimate(network, self.option.part.family)
        use = found.whole
        bits = sum(unit.weights.size * unit.stored_bits for unit in network.units if isinstance(unit, Weighted))
        return {
            "cycles": found.interval, "lut": use.lut, "ff": use.ff, "dsp": use.dsp, "bram": use.bram, "size_bytes": bits / 8
        }  # fmt: skip

    def open(self, folder: Path, threads: int = 1, optimize: bool = True) -> Any:
        """The C++ of the folder, compiled for this machine."""
        from qcompiler.targets.fpga_hls.runtime import open_folder

        return open_folder(folder, self.option)

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
            f"target {self.name} is not timed on this machine; `qcompiler bench OUT --on verilator` counts its clocks"
        )

    @property
    def simulators(self) -> tuple[str, ...]:
        from qcompiler.targets.fpga_hls.verify import SIMULATORS

        return tuple(SIMULATORS)

    def simulate(self, graph: Graph, folder: Path, samples: Sequence[Sequence[np.ndarray]], on: str) -> Simulation:
        from qcompiler.targets.fpga_hls.verify import simulate

        if on not in self.simulators:
            return super().simulate(graph, folder, samples, on)
        return simulate(graph, folder, self.option, samples, on)

    def verify(self, graph: Graph, folder: Path, samples: Sequence[Sequence[np.ndarray]], threads: int = 1) -> Any:
        from qcompiler.targets.fpga_hls.runtime import open_folder
        from qcompiler.targets.fpga_hls.verify import verify_simulation

        return verify_simulation(graph, open_folder(folder, self.option), samples)


def fpga_target(option: str) -> FpgaTarget:
    """`fpga-hls:[PART][@MHZ][,mult_bits=N][,fold.UNIT=PExSIMD]`; see `parts`."""
    parsed = parse_option(option)
    return FpgaTarget(
        name=f"fpga-hls:{parsed.text}",
        family="fpga_hls",
        artefact="top.cpp",
        kernels=KERNELS,
        roundings=("dyadic", "shift_half_even"),
        capabilities=frozenset({"one_shift_per_layer"}),
        mult_bits=parsed.mult_bits,
        isa=None,
        option=parsed,
    )
