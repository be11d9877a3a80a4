"""Comparing an artefact with the reference interpreter, integer by integer: outputs, and every value that it shows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from qcompiler.errors import VerificationError
from qcompiler.executors.reference import run_reference
from qcompiler.ir import Graph, Value

Tap = Callable[[Value, np.ndarray], None]
"""Called with a value of the graph and what the artefact computed for it."""
RunTapped = Callable[[Sequence[np.ndarray], Tap], list[np.ndarray]]


@dataclass(frozen=True)
class StepCheck:
    """One value beside the reference.

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
        ops: per build, every value that was compared.
        sqnr_db: inf; integers are equal or the check fails.
        differing: raw output integers that differ.
        max_lsb: largest difference of an output.
        failures: sentences; empty if all is well.
        artefact: what was run, for messages.
    """

    level: str
    samples: int
    ops: Mapping[str, tuple[StepCheck, ...]]
    sqnr_db: float
    differing: int
    max_lsb: float
    failures: tuple[str, ...] = field(default_factory=tuple)
    artefact: str = "the artefact"

    def check(self) -> None:
        """Raise if anything differs.

        Raises:
            VerificationError: listing what differs.
        """
        if self.failures:
            raise VerificationError(f"{self.artefact} does not compute the reference's integers: " + "; ".join(self.failures[:10]))


def compare(
    graph: Graph, taps: Collection[Value], run_tapped: RunTapped, samples: Sequence[Sequence[np.ndarray]], build: str, artefact: str
) -> Verification:
    """Outputs and every tapped value of a build, over all samples.

    Args:
        graph: the program; `taps` are values of it.
        taps: what `run_tapped` shows.
        run_tapped: outputs for one set of inputs.
        samples: sets of inputs.
        build: name of the build, for reports.
        artefact: what is run, for messages.
    """
    found = {value: [0, 0, 0.0] for value in taps}
    differing, worst = 0, 0.0
    for arrays in samples:
        expected: dict[Value, np.ndarray] = {}
        reference = run_reference(graph, arrays, taps=set(taps), on_value=expected.__setitem__)

        def look(value: Value, array: np.ndarray, expected: dict[Value, np.ndarray] = expected) -> None:
            count, largest = difference(array, expected[value])
            row = found[value]
            row[0], row[1], row[2] = row[0] + array.size, row[1] + count, max(row[2], largest)

        for got, want in zip(run_tapped(arrays, look), reference, strict=True):
            count, largest = difference(got, want)
            differing, worst = differing + count, max(worst, largest)
    nodes = {value: graph.producer(value) for value in taps}
    checks = tuple(
        StepCheck(node.where() if (node := nodes[value]) else value.name, int(row[0]), int(row[1]), row[2], row[1] == 0)
        for value, row in sorted(found.items(), key=lambda item: _place(graph, item[0]))
    )
    failures = [f"{c.where}: {c.differing} of {c.values} values differ, by up to {c.max_lsb:g}" for c in checks if not c.passed]
    if differing:
        failures.append(f"{differing} output values differ")
    noise = float("inf") if not differing else 0.0
    return Verification(graph.level.value, len(samples), {build: checks}, noise, differing, worst, tuple(failures), artefact)


def difference(got: np.ndarray, expected: np.ndarray) -> tuple[int, float]:
    """How many integers differ, and by how much at most."""
    if got.shape != expected.shape or got.dtype != expected.dtype:
        return max(got.size, expected.size, 1), float("inf")
    gap = np.abs(got.astype(np.int64) - expected.astype(np.int64))
    return int((gap > 0).sum()), float(gap.max(initial=0))


def _place(graph: Graph, value: Value) -> int:
    node = graph.producer(value)
    return -1 if node is None else graph.nodes.index(node)
