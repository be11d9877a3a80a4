"""The targets `onnx` and `onnxruntime-cpu`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from qcompiler.errors import UsageError, did_you_mean
from qcompiler.ir import Graph, Level

from ..base import Emission, Measurement, Target
from .emitter import Style
from .isa import ISAS, PAIR_PRODUCTS, host_isa
from .op_table import PORTABLE, RUNTIME_KERNELS

BASELINE = Style(runtime_kernels=True, plain=True)
SPILLED_BYTES = 64_000_000
"""Float weights from which on the baseline is loaded from a file."""


@dataclass(frozen=True)
class OnnxTarget(Target):
    """An ONNX file run by ONNX Runtime on the CPU.

    Attributes:
        runtime_kernels: com.microsoft and QLinear* ops instead of standard-domain Q/DQ.
    """

    runtime_kernels: bool = False

    @property
    def style(self) -> Style:
        """Forms for the emitter."""
        return Style(self.runtime_kernels, False, "int16_pair_products" in self.capabilities)

    @property
    def baseline_style(self) -> Style:
        """Forms of the float baseline."""
        return BASELINE

    def pipeline(self, configs: Mapping[str, Any]) -> list[Any]:
        from .pipeline import build_pipeline

        return build_pipeline(self, configs)

    def emit(self, graph: Graph, folder: Path, metadata: Mapping[str, str] | None = None) -> Emission:
        from .emit import emit_model, save_model

        props = {"target": self.name, "level": graph.level.value, **({"isa": self.isa} if self.isa else {}), **(metadata or {})}
        model = emit_model(graph, self.style, props)
        return Emission(tuple(save_model(model.proto, folder / self.artefact)), model.rows)

    def open(self, folder: Path, threads: int = 1, optimize: bool = True) -> Any:
        from .runtime import OnnxSession

        return OnnxSession(folder / self.artefact, threads, optimize)

    def open_float(self, graph: Graph, threads: int = 1) -> Any:
        """The float baseline: the FLOAT graph as any exporter writes it, with every optimization of the runtime.

        Large weights go through a temporary file, so that no second and third copy of them is in memory.
        """
        from .emit import emit_model, spill_model, weight_bytes
        from .runtime import OnnxSession

        model = emit_model(graph, BASELINE).proto
        if weight_bytes(model) < SPILLED_BYTES:
            return OnnxSession(model.SerializeToString(), threads)
        with TemporaryDirectory(prefix="qcompiler-", ignore_cleanup_errors=True) as folder:
            path = Path(folder) / "float.onnx"
            spill_model(model, path)
            return OnnxSession(path, threads)

    def measure(
        self,
        folder: Path,
        baseline: Graph,
        arrays: Sequence[np.ndarray],
        threads: int = 1,
        seconds: float = 3.0,
        codes: Sequence[np.ndarray] | None = None,
    ) -> Measurement:
        from ..timing import measure_pair

        mine, other = self.open(folder, threads), self.open_float(baseline, threads)
        taken = arrays if codes is None else codes
        return measure_pair(lambda: mine.run(taken), lambda: other.run(arrays), seconds, threads)

    def verify(self, graph: Graph, folder: Path, samples: Sequence[Sequence[np.ndarray]], threads: int = 1) -> Any:
        if graph.level is Level.INTEGER:
            from .verify_integer import verify_program

            return verify_program(graph, self.style, self.open(folder, threads), samples, threads)
        from .verify import verify_artefact

        return verify_artefact(graph, self.style, self.open(folder, threads), samples, threads)

    def unfused(self, folder: Path) -> list[Any]:
        """Q and DQ that remain after ONNX Runtime's optimization, with reasons."""
        from .unfused import unfused_borders

        return unfused_borders(folder / self.artefact)


def onnx_target(option: str) -> OnnxTarget:
    """`onnx`: no options.

    Raises:
        UsageError: an option was given.
    """
    if option:
        raise UsageError(f"target onnx takes no option, got {option!r}; it is the same file on every machine")
    return OnnxTarget(
        name="onnx",
        family="onnx",
        artefact="model.onnx",
        kernels=PORTABLE,
        roundings=("float32_half_even", "dyadic", "dyadic_double", "shift_half_even"),
        # The file may be run on a machine whose products saturate in pairs: it is exact there too.
        capabilities=frozenset(
            {"float_islands", "dynamic_linear", "accumulator_to_float", "measurable", "int16_pair_products"}
        ),
    )


def onnxruntime_cpu_target(option: str) -> OnnxTarget:
    """`onnxruntime-cpu[:ISA]`; without an ISA, this machine's.

    Raises:
        UsageError: unknown ISA.
    """
    isa = option or host_isa()
    if isa not in ISAS:
        raise UsageError(f"unknown instruction set {isa!r}; known: {', '.join(ISAS)}.{did_you_mean(isa, ISAS)}")
    capabilities = {"float_islands", "dynamic_linear", "accumulator_to_float", "measurable"}
    if isa in PAIR_PRODUCTS:
        capabilities.add("int16_pair_products")
    return OnnxTarget(
        name=f"onnxruntime-cpu:{isa}",
        family="onnx",
        artefact="model.onnx",
        kernels=RUNTIME_KERNELS,
        roundings=("float32_half_even", "dyadic", "dyadic_double", "shift_half_even"),
        capabilities=frozenset(capabilities),
        isa=isa,
        runtime_kernels=True,
    )
