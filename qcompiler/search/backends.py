"""Measurement backends: what can be said of an artefact beside its accuracy, each figure with how it was obtained."""

from __future__ import annotations

import platform
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qcompiler.boundary import quantize_inputs
from qcompiler.search.store import Figure

if TYPE_CHECKING:
    from qcompiler.ir import Graph
    from qcompiler.search.workload import Workload
    from qcompiler.targets import Target

SECONDS = 1.5
"""Length of one latency measurement; artefact and float baseline take turns."""


class Backend(ABC):
    """One way to measure an artefact.

    Attributes:
        exclusive: nothing else may run on the device meanwhile.
    """

    exclusive = False

    @abstractmethod
    def measure(self, work: Workload, graph: Graph, folder: Path, emission: Any) -> dict[str, Figure]:
        """Figures by name."""


class Size(Backend):
    """Bytes of the files that ship; on a device without files, its constants and RAM, from the memory plan."""

    def measure(self, work: Workload, graph: Graph, folder: Path, emission: Any) -> dict[str, Figure]:
        planned = {name: Figure(float(v), "analytic") for name, v in work.target.footprint(graph).items()}
        if "flash_bytes" in planned:
            return {**planned, "size_bytes": planned["flash_bytes"]}
        return {"size_bytes": Figure(float(sum(Path(f).stat().st_size for f in emission.files)), "measured")}


class Latency(Backend):
    """Time of one inference beside the float baseline in the same run, by the target's own `measure`.

    `latency_ratio` is what configurations are compared by: a machine that slows down between two trials slows
    both sides of each.
    """

    exclusive = True

    def measure(self, work: Workload, graph: Graph, folder: Path, emission: Any) -> dict[str, Figure]:
        codes = quantize_inputs(graph, work.judged[0])
        found = work.target.measure(folder, work.graph, work.judged[0], work.threads, SECONDS, codes)
        place = environment(work.target, found.threads)
        return {
            "latency_ms": Figure(found.latency_ms, found.kind, place, found.noisy),
            "float_ms": Figure(found.baseline_ms, found.kind, place, found.noisy),
            "latency_ratio": Figure(found.ratio, found.kind, place, found.noisy),
        }


def backends_for(target: Target, measured: bool) -> list[Backend]:
    """What a target offers; with `measured` off, only what needs no exclusive device."""
    found: list[Backend] = [Size()]
    if target.can("measurable"):
        found.append(Latency())
    return [b for b in found if measured or not b.exclusive]


def environment(target: Target, threads: int) -> str:
    """What a latency depends on beside the program."""
    return f"{target.name}, {threads} thread{'s' if threads > 1 else ''}, {platform.machine()}, {platform.node()}"
