"""Verification: every kernel's output and every output of the program against the reference interpreter.

At level INTEGER all integers are equal or the check fails. At level QUANTIZED rescaling in float32 is computed as the
reference does, but real islands add in another order and have other last bits, so codes behind them may differ: the
artefact must then reach `MIN_SQNR_DB` against the reference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from qcompiler.errors import VerificationError
from qcompiler.executors.reference import run_reference
from qcompiler.ir import Graph, Level, Value
from qcompiler.targets.tvm.build import VmSession
from qcompiler.targets.tvm.plan import plan_kernels
from qcompiler.targets.tvm.views import CHANNELS_LAST

MIN_SQNR_DB = 30.0


@dataclass(frozen=True)
class KernelCheck:
    """One kernel beside the reference.

    Attributes:
        where: op and module path of its last op.
        values: compared.
        differing: of them, not equal (real numbers: beyond 1e-3 of the largest).
        max_lsb: largest difference.
        passed: none differs, or the level allows it.
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
        ops: kernels on the first sample.
        sqnr_db: artefact against reference; inf if they are equal.
        differing: output elements that differ.
        max_lsb: largest difference of an output.
        failures: sentences; empty if all is well.
    """

    level: str
    samples: int
    ops: Mapping[str, tuple[KernelCheck, ...]]
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
            raise VerificationError("the library does not compute what the reference computes: " + "; ".join(self.failures[:10]))


def verify_library(graph: Graph, session: VmSession, samples: Sequence[Sequence[np.ndarray]]) -> Verification:
    """Kernels on the first sample, outputs on all of them."""
    exact = graph.level is Level.INTEGER
    planned = plan_kernels(graph)
    plan = [(kernel.group.output, kernel.layout.kind) for kernel in planned.kernels]
    expected: dict[Value, np.ndarray] = {}
    values = [value for value, _ in plan]
    # kernels compute the values of the graph without composites; outputs are those of the program itself
    outputs = run_reference(planned.graph, samples[0], taps=set(values), on_value=expected.__setitem__)
    outputs = outputs if planned.graph is graph else run_reference(graph, samples[0])
    checks: list[KernelCheck] = []

    def compare(index: int, array: np.ndarray) -> None:
        if index >= len(plan):  # copies of outputs are compared as outputs
            return
        value, layout = plan[index]
        wanted = expected[value]
        if layout == CHANNELS_LAST:
            wanted = np.moveaxis(wanted, 1, -1)
        count, most = difference(array.reshape(-1), wanted.reshape(-1))
        producer = planned.graph.producer(value)
        where = value.name if producer is None else producer.where()
        checks.append(KernelCheck(where, wanted.size, count, most, count == 0 or not exact))

    found = session.run_tapped(samples[0], compare)
    failures = [f"{c.where}: {c.differing} of {c.values} values differ, by up to {c.max_lsb:g}" for c in checks if not c.passed]
    differing, worst, signal, noise = 0, 0.0, 0.0, 0.0
    for index, arrays in enumerate(samples):
        wanted = run_reference(graph, arrays) if index else outputs
        for name, got, want in zip(graph.output_names, found if not index else session.run(arrays), wanted, strict=True):
            count, most = difference(got, want)
            differing, worst = differing + count, max(worst, most)
            if exact and count:
                failures.append(f"output {name!r} of sample {index}: {count} of {want.size} values differ")
            a, b = got.astype(np.float64), want.astype(np.float64)
            signal, noise = signal + float((b * b).sum()), noise + float(((a - b) ** 2).sum())
    sqnr = float("inf") if noise == 0 else 10 * float(np.log10(max(signal, 1e-300) / noise))
    if not exact and sqnr < MIN_SQNR_DB:
        failures.append(f"{sqnr:.1f} dB against the reference, below {MIN_SQNR_DB}")
    return Verification(graph.level.value, len(samples), {"library": tuple(checks)}, sqnr, differing, worst, tuple(failures))


def difference(got: np.ndarray, wanted: np.ndarray) -> tuple[int, float]:
    """How many elements differ and by how much: codes at all, real numbers by more than 1e-3 of the largest."""
    if got.shape != wanted.shape or got.dtype != wanted.dtype:
        return max(got.size, wanted.size, 1), float("inf")
    gap = np.abs(got.astype(np.float64) - wanted.astype(np.float64))
    limit = 1e-3 * float(np.abs(wanted).max(initial=0)) if wanted.dtype.kind == "f" else 0.0
    return int((gap > limit).sum()), float(gap.max(initial=0))
