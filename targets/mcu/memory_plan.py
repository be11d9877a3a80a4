"""Offsets of buffers in one static arena.

A buffer is live over an interval of steps. Two buffers that are live together must not share bytes, except where a
kernel may write its result over an operand that nobody needs afterwards:

- `lead`: a kernel that works through its operand front to back may write `lead` bytes ahead of what it still has to
  read, so the operand has to begin at least `lead` bytes after the result (Minakova and Stefanov 2022 call this
  in-place offsetting; an elementwise op has lead 0, a convolution some rows);
- `same`: a kernel that may also write exactly where it reads.

For buffers x, y that are live together with y after x, `y >= x + gap(x, y)`, where the gap is the lead for (result,
operand) and the size of x otherwise. Greedy placement in several orders (Pisarchyk and Lee 2020, arXiv:2001.03288,
section 5) and a seeded local search over orders give a plan; where it is above the lower bound and the problem is
small, a mixed-integer program (HiGHS) decides whether there is a better one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

ORDERS_TRIED = 300
EXACT_PAIRS = 60
"""Pairs of buffers live together up to which the exact search runs."""
EXACT_NODES = 5000


@dataclass(frozen=True, eq=False)
class Buffer:
    """Bytes needed over an interval of steps.

    Attributes:
        name: for the report.
        size: bytes, > 0.
        first: step that writes it.
        last: last step that needs it, >= first.
    """

    name: str
    size: int
    first: int
    last: int

    def meets(self, other: Buffer) -> bool:
        """True if there is a step at which both are live."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Overlap:
    """How a result may lie over an operand that dies at the same step; see the module docstring."""

    lead: int | None
    same: bool = False


@dataclass(frozen=True)
class MemoryPlan:
    """Where every buffer lies.

    Attributes:
        offsets: bytes from the start of the arena.
        size: of the arena.
        lower_bound: no plan can be smaller: the largest need of a single step.
        method: what found it.
    """

    offsets: Mapping[Buffer, int]
    size: int
    lower_bound: int
    method: str

    @property
    def ratio(self) -> float:
        """Size over lower bound; 1 for an empty plan."""
        return self.size / self.lower_bound if self.lower_bound else 1.0


Overlaps = Mapping[tuple[Buffer, Buffer], Overlap]
"""Keys are (result, operand)."""


def plan_memory(buffers: Sequence[Buffer], overlaps: Overlaps | None = None, alignment: int = 4, seed: int = 0) -> MemoryPlan:
    """Place all buffers.

    Args:
        buffers: in program order.
        overlaps: what results may do to operands.
        alignment: of every offset, bytes; a power of two.
        seed: of the search over orders.
    """
    problem = _Problem.of(buffers, overlaps or {}, alignment)
    bound = problem.lower_bound()
    best: dict[Buffer, int] = {}
    size, method = -1, "greedy"
    for name, order in _orders(problem, seed):
        offsets = problem.place(order)
        found = problem.extent(offsets)
        if size < 0 or found < size:
            best, size, method = offsets, found, name
        if size <= bound:
            break
    if size > bound and len(problem.pairs) <= EXACT_PAIRS:
        from qcompiler.targets.mcu.memory_exact import solve_exactly

        exact = solve_exactly(problem, bound, size, EXACT_NODES)
        if exact is not None:
            best, size, method = exact, problem.extent(exact), "exact"
    problem.check(best)
    return MemoryPlan(best, max(size, 0), bound, method)


def _orders(problem: _Problem, seed: int) -> Iterable[tuple[str, list[Buffer]]]:
    """Orders of placement: some known to work, then random changes of the one by size."""
    buffers = problem.buffers
    keys: list[tuple[str, Callable[[Buffer], tuple[int, ...]]]] = [
        ("greedy by size", lambda b: (-b.size, b.first)),
        ("greedy by first use", lambda b: (b.first, -b.size)),
        ("greedy by last use", lambda b: (-b.last, -b.size)),
        ("greedy by lifetime", lambda b: (b.first - b.last, -b.size)),
        ("greedy by area", lambda b: (-b.size * (b.last - b.first + 1), b.first)),
    ]
    for name, key in keys:
        yield name, sorted(buffers, key=key)
    rng = np.random.default_rng(seed)
    base = sorted(buffers, key=keys[0][1])
    for _ in range(ORDERS_TRIED if len(base) > 1 else 0):
        order = list(base)
        for _ in range(int(rng.integers(1, 4))):
            order.insert(int(rng.integers(0, len(order))), order.pop(int(rng.integers(0, len(order)))))
        yield "local search", order


@dataclass
class _Problem:
    """Sizes and gaps in units that are aligned already."""

    buffers: list[Buffer]
    sizes: dict[Buffer, int]
    overlaps: dict[tuple[Buffer, Buffer], Overlap]
    pairs: list[tuple[Buffer, Buffer]]
    neighbours: dict[Buffer, list[Buffer]] = field(default_factory=dict)

    @staticmethod
    def of(buffers: Sequence[Buffer], overlaps: Overlaps, alignment: int) -> _Problem:
        def up(size: int) -> int:
            return -(-size // alignment) * alignment

        sizes = {b: up(b.size) for b in buffers}
        aligned = {
            (out, operand): Overlap(None if o.lead is None else min(up(o.lead), sizes[out]), o.same)
            for (out, operand), o in overlaps.items()
            if operand.last == out.first and operand is not out
        }
        pairs = [(a, b) for i, a in enumerate(buffers) for b in buffers[i + 1 :] if a.meets(b)]
        problem = _Problem(list(buffers), sizes, aligned, pairs, {b: [] for b in buffers})
        for a, b in pairs:
            problem.neighbours[a].append(b)
            problem.neighbours[b].append(a)
        return problem

    def gap(self, low: Buffer, high: Buffer) -> int:
        """Least distance from `low` to `high` where `high` begins later."""
        rule = self.overlaps.get((low, high))
        return self.sizes[low] if rule is None or rule.lead is None else rule.lead

    def may_coincide(self, a: Buffer, b: Buffer) -> bool:
        """True if both may begin at the same byte."""
        rules = (self.overlaps.get((a, b)), self.overlaps.get((b, a)))
        return any(rule is not None and (rule.same or rule.lead == 0) for rule in rules)

    def fits(self, offsets: Mapping[Buffer, int], b: Buffer, at: int) -> bool:
        """True if `b` may begin at `at` beside those already placed."""
        for a in self.neighbours[b]:
            if a not in offsets:
                continue
            distance = at - offsets[a]
            if distance >= self.gap(a, b) and distance > 0 or -distance >= self.gap(b, a) and distance < 0:
                continue
            if distance != 0 or not self.may_coincide(a, b):
                return False
        return True

    def place(self, order: Sequence[Buffer]) -> dict[Buffer, int]:
        """Each buffer in turn at the lowest place that is free."""
        offsets: dict[Buffer, int] = {}
        for b in order:
            candidates = {0}
            for a in self.neighbours[b]:
                if a in offsets:
                    candidates |= {offsets[a], offsets[a] + self.gap(a, b), offsets[a] - self.gap(b, a)}
            offsets[b] = next(at for at in sorted(c for c in candidates if c >= 0) if self.fits(offsets, b, at))
        return {b: offsets[b] for b in self.buffers}

    def extent(self, offsets: Mapping[Buffer, int]) -> int:
        """Bytes from 0 to the end of the last buffer."""
        return max((at + self.sizes[b] for b, at in offsets.items()), default=0)

    def lower_bound(self) -> int:
        """Largest need of a step: what is live, less what its result may share with operands."""
        worst = 0
        for step in {b.first for b in self.buffers}:
            live = [b for b in self.buffers if b.first <= step <= b.last]
            saved: dict[Buffer, int] = {}
            for (out, operand), rule in self.overlaps.items():
                if out.first == step:
                    both = self.sizes[out] + self.sizes[operand]
                    lead = 0 if rule.same or rule.lead is None else rule.lead
                    if rule.lead is not None or rule.same:
                        least = max(lead + self.sizes[operand], self.sizes[out])
                        saved[out] = saved.get(out, 0) + both - min(both, least)
            need = sum(self.sizes[b] for b in live) - sum(min(s, self.sizes[out]) for out, s in saved.items())
            worst = max(worst, need)
        return worst

    def check(self, offsets: Mapping[Buffer, int]) -> None:
        """A plan in which two buffers clash is a defect of the planner, whatever found it."""
        placed: dict[Buffer, int] = {}
        for b in self.buffers:
            assert self.fits(placed, b, offsets[b]), f"{b.name} at {offsets[b]} clashes"
            placed[b] = offsets[b]
