"""Foldings that let all units of a network take about as long as the slowest, within a number of multipliers; FIFOs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import product

from qcompiler.targets.fpga_hls.dataflow import Dataflow
from qcompiler.targets.fpga_hls.parts import Part
from qcompiler.targets.fpga_hls.row_units import Product
from qcompiler.targets.fpga_hls.stream import Folding, Unit
from qcompiler.targets.fpga_hls.units import Fork, MatrixVector, Weighted

MULTIPLIERS_PER_DSP = 0.5
"""Of the multipliers that the DSP slices of a part could be: the rest rescales."""


def multipliers(unit: Unit) -> int:
    """Products of weights and codes per cycle."""
    if isinstance(unit, MatrixVector):
        return unit.folding.pe * unit.folding.simd
    return unit.folding.pe if isinstance(unit, Weighted) else 0


def cheapest(unit: Unit, interval: int) -> Unit | None:
    """The unit with fewest multipliers, then fewest lanes, that takes at most `interval` cycles; None if none does."""
    lanes = [key for key in unit.choices if key != "storage"]
    found = [unit.folded(**dict(zip(lanes, values, strict=True))) for values in product(*(unit.choices[k] for k in lanes))]
    fitting = [u for u in found if u.interval <= interval]
    return min(fitting, key=lambda u: (multipliers(u), u.folding.pe + u.folding.simd, u.folding.pe), default=None)


def choose_foldings(graph: Dataflow, part: Part) -> Mapping[str, Folding]:
    """Foldings by unit: the shortest interval whose multipliers fit the part.

    Args:
        graph: without converters.
        part: whose DSP slices bound the multipliers.
    """
    budget = max(1, int(part.dsp * MULTIPLIERS_PER_DSP))
    widest = [_widest(u) for u in graph.units]
    low, high = max(u.interval for u in widest), max(u.interval for u in graph.units)
    best = list(graph.units)
    while low <= high:
        middle = (low + high) // 2
        found = [unit for u in graph.units if (unit := cheapest(u, middle)) is not None]
        if len(found) == len(best) and sum(map(multipliers, found)) <= budget:
            best, high = found, middle - 1
        else:
            low = middle + 1
    return {u.name: replace(u.folding) for u in best}


def _widest(unit: Unit) -> Unit:
    lanes = [key for key in unit.choices if key != "storage"]
    return unit.folded(**{key: max(unit.choices[key]) for key in lanes})  # type: ignore[type-var]


def whole_frames(graph: Dataflow) -> Mapping[str, int]:
    """FIFO depths where one stream waits for another: a frame each, by edge.

    Every branch of a fork, as the branches that meet again take unlike times, and the operand that waits while a
    product of two activations stores the other one whole. A fork that can give a whole frame to each branch never
    holds one branch up for the other, so no cycle of waiting units can close. This is an upper bound, not the least.
    """
    products = {u.name for u in graph.units if isinstance(u, Product)}
    forks = {u.name for u in graph.units if isinstance(u, Fork)}
    waiting = [e for e in graph.edges if e.source in forks or (e.target in products and e.target_port == 0)]
    return {e.name: graph.port(e).words for e in waiting}
