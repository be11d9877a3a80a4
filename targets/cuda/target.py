"""The targets `cuda-sm80`, `cuda-sm86`, `cuda-sm89`, `cuda-sm90`."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from qcompiler.errors import MissingToolError, UnsupportedError
from qcompiler.ir import Graph
from qcompiler.targets.base import Emission, Measurement, Profile, Target
from qcompiler.targets.cuda.op_table import KERNELS
from qcompiler.targets.cuda.plan import PLAN

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CudaTarget(Target):
    """An NVIDIA GPU.

    Attributes:
        arch: compute capability that tiles are chosen for; 80 is sm_80. The fatbin has code for all.
        sizes: of dynamic dimensions that programs are planned for.
    """

    arch: int = 80
    sizes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def pipeline(self, configs: Mapping[str, Any]) -> list[Any]:
        from qcompiler.targets.integer_pipeline import build_pipeline

        return build_pipeline(self, configs)

    def emit(self, graph: Graph, folder: Path, metadata: Mapping[str, str] | None = None) -> Emission:
        from qcompiler.targets.cuda.emit import emit_artefact

        return emit_artefact(graph, self.arch, folder, metadata or {}, self.sizes)

    def open(self, folder: Path, threads: int = 1, optimize: bool = True) -> Any:
        """The artefact on the GPU of this machine."""
        from qcompiler.targets.cuda.device import CudaSession

        return CudaSession(folder)

    def open_emulated(self, folder: Path) -> Any:
        """The artefact's sources on the CPU."""
        from qcompiler.targets.cuda.session import EmulatedSession

        return EmulatedSession(folder)

    def open_to_evaluate(self, graph: Graph, folder: Path, threads: int = 1) -> Any:
        """The GPU; without one the reference interpreter, whose integers the emulated kernels gave when they were verified."""
        from qcompiler.comparison import ReferenceSession

        try:
            return self.open(folder, threads)
        except (MissingToolError, UnsupportedError) as error:
            logger.warning("evaluated with the reference interpreter: %s", error)
            return ReferenceSession(graph)

    def measure(
        self,
        folder: Path,
        baseline: Graph,
        arrays: Sequence[np.ndarray],
        threads: int = 1,
        seconds: float = 3.0,
        codes: Sequence[np.ndarray] | None = None,
    ) -> Measurement:
        """On the GPU, with copies to it and from it, beside the float model in ONNX Runtime on the CPU of this machine."""
        from qcompiler.targets import get_target
        from qcompiler.targets.timing import measure_pair

        mine = self.open(folder, threads)
        other = get_target("onnxruntime-cpu").open_float(baseline, threads)  # type: ignore[attr-defined]
        logger.warning("float is timed in ONNX Runtime on the CPU with %d threads, the artefact on %s", threads, mine.device.name)
        given = arrays if codes is None else codes
        return measure_pair(lambda: mine.run(given), lambda: other.run(arrays), seconds, threads)

    def profile(self, folder: Path, arrays: Sequence[np.ndarray], threads: int = 1) -> Profile:
        from qcompiler.targets.cuda.profile import profile_session

        return profile_session(self.open(folder, threads), folder, arrays)

    def verify(self, graph: Graph, folder: Path, samples: Sequence[Sequence[np.ndarray]], threads: int = 1) -> Any:
        """In the emulator, which checks every access as well, and on the GPU if there is one."""
        from qcompiler.targets.cuda.verify import verify_emulated, verify_on

        found = verify_emulated(graph, folder, samples, self.arch, self.sizes)
        try:
            session = self.open(folder, threads)
        except (MissingToolError, UnsupportedError) as error:
            logger.info("verified in the emulator only: %s", error)
            return found
        return verify_on(session.device.name, session, graph, samples, found)


def cuda_target(arch: int, option: str) -> CudaTarget:
    """`cuda-smNN[:name=1..4,other=32/64]`, with the sizes of dynamic dimensions.

    Raises:
        UsageError: an option of another form.
    """
    from qcompiler.targets.cuda.sizes import parse_sizes

    return CudaTarget(
        name=f"cuda-sm{arch}:{option}" if option else f"cuda-sm{arch}",
        family="cuda",
        artefact=PLAN,
        kernels=KERNELS,
        roundings=("dyadic", "dyadic_double", "shift_half_even", "float32_half_even"),
        capabilities=frozenset({"float_islands", "dynamic_linear", "accumulator_to_float", "signed_codes"}),
        isa=None,
        arch=arch,
        sizes=parse_sizes(option, f"cuda-sm{arch}"),
    )
