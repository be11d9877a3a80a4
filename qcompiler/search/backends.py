"""Measurement backends: what can be said of an artefact beside its accuracy, each figure with how it was obtained."""

from __future__ import annotations

import platform
from abc import ABC, abstractmethod
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qcompiler.boundary import quantize_inputs
from qcompiler.errors import VerificationError
from qcompiler.search.store import Figure

if TYPE_CHECKING:
    from qcompiler.ir import Graph
    from qcompiler.search.workload import Workload
    from qcompiler.targets import Target

SIMULATOR = "qemu"
SECONDS = 1.5
"""Length of one latency measurement; artefact and float baseline take turns."""


class Backend(ABC):
    """One way to measure an artefact."""

    @abstractmethod
    def measure(self, work: Workload, graph: Graph, folder: Path, emission: Any) -> dict[str, Figure]:
        """Figures by name."""


class Size(Backend):
    """Bytes of the files that ship; on a device without files, its constants and what else its models tell."""

    def measure(self, work: Workload, graph: Graph, folder: Path, emission: Any) -> dict[str, Figure]:
        planned = {name: Figure(float(v), "analytic") for name, v in work.target.footprint(graph).items()}
        if "flash_bytes" in planned:
            return {**planned, "size_bytes": planned["flash_bytes"]}
        if "size_bytes" in planned:
            return planned
        return {"size_bytes": Figure(float(sum(Path(f).stat().st_size for f in emission.files)), "measured")}


class Latency(Backend):
    """Time of one inference beside the float baseline in the same run, by the target's own `measure`.

    `latency_ratio` is what configurations are compared by: a machine that slows down between two trials slows
    both sides of each.
    """

    def measure(self, work: Workload, graph: Graph, folder: Path, emission: Any) -> dict[str, Figure]:
        codes = quantize_inputs(graph, work.judged[0])
        found = work.target.measure(folder, work.graph, work.judged[0], work.threads, SECONDS, codes)
        place = environment(work.target, found.threads)
        return {
            "latency_ms": Figure(found.latency_ms, found.kind, place, found.noisy),
            "float_ms": Figure(found.baseline_ms, found.kind, place, found.noisy),
            "latency_ratio": Figure(found.ratio, found.kind, place, found.noisy),
        }


class Instructions(Backend):
    """Instructions of one inference on the target's simulator, with flash and RAM of the linked program.

    The same program gives the same count on every machine. Instructions are no cycles.
    """

    def measure(self, work: Workload, graph: Graph, folder: Path, emission: Any) -> dict[str, Figure]:
        found = work.target.simulate(graph, folder, [quantize_inputs(graph, work.judged[0])], SIMULATOR)
        if found.differing:
            raise VerificationError(
                f"{found.differing} raw outputs on {found.on} differ from the reference interpreter: the artefact of "
                f"{work.target.name} does not compute what the compiler says"
            )
        values = {
            "instructions": found.instructions, "flash_bytes": found.flash_bytes, "ram_bytes": found.ram_bytes,
            "size_bytes": found.flash_bytes,
        }  # fmt: skip
        place = f"{work.target.name} on {found.on}"
        return {name: Figure(float(v), found.kind, place) for name, v in values.items() if v is not None}


def backends_for(target: Target, figures: Collection[str]) -> list[Backend]:
    """What a target offers. A simulator is run only where instructions are among the figures that matter."""
    found: list[Backend] = [Size()]
    if target.can("measurable"):
        found.append(Latency())
    if target.can("simulated") and "instructions" in figures:
        found.append(Instructions())
    return found


def environment(target: Target, threads: int) -> str:
    """What a latency depends on beside the program."""
    return f"{target.name}, {threads} thread{'s' if threads > 1 else ''}, {platform.machine()}, {platform.node()}"
