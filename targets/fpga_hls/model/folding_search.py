"""Foldings that make a network as fast as a part allows.

All units of a pipeline wait for the slowest, so its interval is what counts: bisection over intervals, and for each an
integer program (HiGHS) that chooses one legal folding per unit, none slower than the interval, within the part's LUTs,
flip-flops, DSP blocks and block RAM, with the least that can be had of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from qcompiler.targets.fpga_hls.dataflow import Dataflow, fold, ordered_windows, without_converters
from qcompiler.targets.fpga_hls.model.fit import RESOURCES, budget, check_fit, estimate
from qcompiler.targets.fpga_hls.model.queues import with_queues
from qcompiler.targets.fpga_hls.model.resources import total, unit_usage
from qcompiler.targets.fpga_hls.parts import Part
from qcompiler.targets.fpga_hls.stream import Folding, Unit
from qcompiler.targets.fpga_hls.units import SlidingWindow

ROUNDS = 6
SHRINK = 0.97
LARGEST = 512
"""Products per clock of one unit: wider adder trees have not been tried."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """One folding of one unit.

    Attributes:
        needs: of `RESOURCES`, as shares of what the part allows.
    """

    folding: Folding
    interval: int
    needs: np.ndarray


def search_foldings(network: Dataflow, part: Part) -> Dataflow:
    """The network with the foldings of the shortest interval that fits, converters and queues included.

    Raises:
        ConstraintError: even the smallest foldings do not fit; with the layers to blame.
    """
    bare = without_converters(network)
    windows = {reader.name: window for window, reader in ordered_windows(bare)}
    tied = {window.name for window in windows.values()}
    free = [unit for unit in bare.units if unit.name not in tied]
    units = [candidates(unit, part, windows.get(unit.name)) for unit in free]
    room, limits = 1.0, budget(part)
    for _ in range(ROUNDS):
        chosen = _shortest(units, room)
        if chosen is None:
            break
        found = _folded(bare, free, chosen)
        whole = estimate(found, part.family).whole
        over = max(getattr(whole, name) / limits[name] for name in RESOURCES if limits[name])
        if over <= 1.0:
            return found
        room *= SHRINK / over  # converters and queues were not in the choice; leave them that much
    # the resource that is shortest decides which foldings are the smallest
    worst = int(np.sum([min(unit, key=lambda c: c.needs.sum()).needs for unit in units], axis=0).argmax())
    smallest = _folded(bare, free, [min(unit, key=lambda c: (c.needs[worst], c.needs.sum())) for unit in units])
    check_fit(smallest, part)
    return smallest


def with_foldings(network: Dataflow, found: Dataflow, part: Part, folds: Sequence[tuple[str, int, int | None]]) -> Dataflow:
    """`found`, with some foldings given by the user.

    Args:
        network: as it was legalized.
        found: what `search_foldings` made of it.
        folds: unit, PE, and SIMD or None.

    Raises:
        UsageError: no such unit, or a folding that is not legal, with the legal ones.
        ConstraintError: the part is too small for it; with the layers to blame.
    """
    bare = without_converters(network)
    chosen = {unit.name: unit.folding for unit in without_converters(found).units}
    given = {}
    for name, pe, simd in folds:
        unit = bare.unit(name)
        wide = {"simd": simd} if simd is not None else {"simd": chosen[name].simd} if "simd" in unit.choices else {}
        given[name] = unit.folded(pe=pe, **wide).folding
    for window, _ in ordered_windows(bare):  # its lanes are its reader's
        chosen.pop(window.name)
    folded = with_queues(fold(bare, {**chosen, **given}))
    check_fit(folded, part)
    return folded


def _folded(bare: Dataflow, free: Sequence[Unit], chosen: Sequence[Candidate]) -> Dataflow:
    return with_queues(fold(bare, {unit.name: c.folding for unit, c in zip(free, chosen)}))


def candidates(unit: Unit, part: Part, window: SlidingWindow | None = None) -> list[Candidate]:
    """Legal foldings of a unit that no other one beats in everything, fastest first.

    Args:
        window: in front of the unit, with as many lanes as it; its interval and needs are counted too.
    """
    lanes = [key for key in unit.choices if key != "storage"]
    limits = budget(part)
    found = []
    for values in product(*(unit.choices[key] for key in lanes)):
        folded = unit.folded(**dict(zip(lanes, values, strict=True))) if lanes else unit
        if folded.folding.pe * folded.folding.simd > LARGEST and len(lanes) == 2:
            continue
        use, interval = unit_usage(folded, part.family), folded.interval
        if window is not None:
            before = window.folded(pe=folded.folding.pe)
            use, interval = total([use, unit_usage(before, part.family)]), max(interval, before.interval)
        needs = np.array([getattr(use, name) / limits[name] if limits[name] else 0.0 for name in RESOURCES])
        found.append(Candidate(folded.folding, interval, needs))
    found.sort(key=lambda c: (c.interval, c.needs.sum(), c.folding.pe))
    kept: list[Candidate] = []
    for candidate in reversed(found):  # slowest first: a faster one must be better in something, or it replaces it
        kept = [k for k in kept if not (k.needs >= candidate.needs).all()]
        kept.append(candidate)
    return sorted(kept, key=lambda c: c.interval)


def _shortest(units: Sequence[list[Candidate]], room: float) -> list[Candidate] | None:
    """The choice of the shortest interval whose needs stay within `room`; None if there is none."""
    intervals = sorted({c.interval for unit in units for c in unit if c.interval >= max(u[0].interval for u in units)})
    low, high, best = 0, len(intervals) - 1, None
    while low <= high:
        middle = (low + high) // 2
        chosen = _choose(units, intervals[middle], room)
        if chosen is not None:
            best, high = chosen, middle - 1
        else:
            low = middle + 1
    return best


def _choose(units: Sequence[list[Candidate]], interval: int, room: float) -> list[Candidate] | None:
    """One candidate per unit, none slower than `interval`, with the least needs; None if they do not fit."""
    allowed = [[c for c in unit if c.interval <= interval] for unit in units]
    cheapest = [min(unit, key=lambda c: c.needs.sum(), default=None) for unit in allowed]
    if any(c is None for c in cheapest):
        return None
    least = np.sum([c.needs for c in cheapest], axis=0)  # type: ignore[union-attr]
    if (least <= room).all():
        return cheapest  # type: ignore[return-value]
    flat = [c for unit in allowed for c in unit]
    needs = np.stack([c.needs for c in flat], axis=1)
    owner = np.repeat(np.arange(len(allowed)), [len(unit) for unit in allowed])
    one_each = (owner == np.arange(len(allowed))[:, None]).astype(float)
    solved = milp(
        needs.sum(0),
        constraints=[LinearConstraint(needs, ub=room), LinearConstraint(one_each, 1, 1)],
        bounds=Bounds(0, 1),
        integrality=np.ones(len(flat)),
        options={"time_limit": 10.0},
    )
    if solved.x is None:
        return None
    return [flat[i] for i in np.flatnonzero(solved.x > 0.5)]
