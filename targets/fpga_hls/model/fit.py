"""Whether a network fits a part, and which layers are to blame where it does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qcompiler.errors import ConstraintError
from qcompiler.targets.fpga_hls.dataflow import Dataflow
from qcompiler.targets.fpga_hls.model.resources import queue_usage, total, unit_usage
from qcompiler.targets.fpga_hls.parts import Part
from qcompiler.targets.fpga_hls.stream import Unit
from qcompiler.targets.fpga_hls.verilog.instance import has_twin
from qcompiler.targets.fpga_hls.verilog.synthesis import Usage

RESOURCES = ("lut", "ff", "dsp", "bram", "uram")
USABLE = {"lut": 0.8, "ff": 0.8, "dsp": 1.0, "bram": 0.95, "uram": 1.0}
"""Shares of a part that can be filled before routing fails; LUTs and flip-flops are estimates besides."""
BLAMED = 5


@dataclass(frozen=True)
class Estimate:
    """What a network takes.

    Attributes:
        units: by name.
        queues: between them.
        interval: cycles per frame, of the slowest unit.
    """

    units: Mapping[str, Usage]
    queues: Usage
    interval: int

    @property
    def whole(self) -> Usage:
        """All of it."""
        return total([*self.units.values(), self.queues])


def budget(part: Part) -> dict[str, float]:
    """What may be used of a part."""
    return {name: getattr(part, name) * USABLE[name] for name in RESOURCES}


def estimate(network: Dataflow, family: str) -> Estimate:
    """Of a network with foldings, converters and queues."""
    units = {unit.name: unit_usage(unit, family) for unit in network.units}
    return Estimate(units, queue_usage(network), max(unit.interval for unit in network.units))


def check_fit(network: Dataflow, part: Part) -> Estimate:
    """The estimate of a network that fits.

    Raises:
        ConstraintError: it does not; with every resource that is short and the layers that take most of it.
    """
    found = estimate(network, part.family)
    limits = budget(part)
    short = [name for name in RESOURCES if getattr(found.whole, name) > limits[name]]
    if short:
        raise ConstraintError(_blame(network, found, part, short))
    return found


def _blame(network: Dataflow, found: Estimate, part: Part, short: list[str]) -> str:
    where = {unit.name: unit for unit in network.units}
    lines = [f"{network.name} does not fit {part.name}:"]
    for name in short:
        need, have = getattr(found.whole, name), budget(part)[name]
        lines.append(f"  {name}: {need:g} needed, {have:g} usable of {getattr(part, name):g}")
        ranked = sorted(found.units, key=lambda unit: -getattr(found.units[unit], name))[:BLAMED]
        lines += [f"    {getattr(found.units[unit], name):g} by {_title(where[unit])}" for unit in ranked if getattr(found.units[unit], name)]
    lines.append("Remedy: a larger part, fewer weight bits, or smaller layers; these foldings are the smallest that there are.")
    return "\n".join(lines)


def _title(unit: Unit) -> str:
    return f"{unit.where}, {type(unit).__name__} {unit.folding.pe} x {unit.folding.simd}"


def estimate_text(network: Dataflow, part: Part, found: Estimate) -> str:
    """A table in Markdown: units, what they take, their cycles per frame."""
    head = ["unit", "kind", "PE", "SIMD", "cycles", "LUT", "FF", "DSP", "BRAM36"]
    lines = [f"# {network.name} on {part.name}: estimates, no tool of the vendor has run", ""]
    lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for unit in network.units:
        use = found.units[unit.name]
        cells = [unit.name, type(unit).__name__, unit.folding.pe, unit.folding.simd, unit.interval, use.lut, use.ff, use.dsp]
        lines.append("| " + " | ".join(map(str, [*cells, f"{use.bram:g}"])) + " |")
    for name, use in (("queues", found.queues), ("all", found.whole)):
        lines.append(f"| {name} | | | | {found.interval if name == 'all' else ''} | {use.lut} | {use.ff} | {use.dsp} | {use.bram:g} |")
    usable = budget(part)
    without = [unit.name for unit in network.units if not has_twin(unit)]
    lines.append(f"| usable | | | | | {usable['lut']:g} | {usable['ff']:g} | {usable['dsp']:g} | {usable['bram']:g} |")
    if without:
        lines += ["", f"In C++ only, cycles and resources confirmed by no synthesis: {', '.join(without)}"]
    return "\n".join(lines) + "\n"
