"""What the user allows and wants, as a goal on a target."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from qcompiler.errors import UsageError
from qcompiler.search.goal import Goal, Limit

if TYPE_CHECKING:
    from qcompiler.targets import Target

OBJECTIVES = {"latency": "latency_ratio", "size": "size_bytes", "ram": "ram_bytes", "instructions": "instructions"}
"""What may be minimised within a limit on the drop, by the user's word."""


@dataclass(frozen=True)
class Limits:
    """Exactly one limit; what it does not limit is optimised.

    Attributes:
        drop: absolute drop of the metric (of SQNR: the least dB, negated).
        latency: `5ms`, or `0.4x` of float.
        size: `4MB`, or `0.3x` of float.
        ram: `64kB`, on targets with a memory plan.
        instructions: `3.5M` of one inference, on targets with a simulator.
        objective: what is minimised where the drop is limited, a name from `OBJECTIVES`; by default latency, or size
            on a target that cannot be timed here.
    """

    drop: float | None = None
    latency: str | None = None
    size: str | None = None
    ram: str | None = None
    instructions: str | None = None
    objective: str | None = None

    def __post_init__(self) -> None:
        limits = [f.name for f in fields(self) if f.name != "objective"]
        if sum(getattr(self, name) is not None for name in limits) != 1:
            options = ", ".join(f"--max-{name}" for name in limits)
            raise UsageError(f"give exactly one of {options}: the rest is what is optimised")
        if self.objective is not None and self.drop is None:
            raise UsageError("an objective is for a limit on the drop (--max-drop); within other limits the drop is minimised")
        if self.objective is not None and self.objective not in OBJECTIVES:
            raise UsageError(f"unknown objective {self.objective!r}; known: {', '.join(OBJECTIVES)}")

    def goal(self, target: Target, float_bytes: float) -> Goal:
        """Objective and bound for a target.

        Args:
            target: says what can be measured.
            float_bytes: of the float model, for relative sizes.

        Raises:
            UsageError: a limit on, or an objective of, something that the target does not give here.
        """
        if self.drop is not None:
            usual = "latency" if target.can("measurable") else "size"
            objective = OBJECTIVES[self.objective or usual]
            _check(target, objective)
            return Goal(objective, "drop", self.drop)
        if self.latency is not None:
            _check(target, "latency_ms")
            limit = Limit.parse("latency_ms", self.latency)
            # Relative latencies are compared as they are measured: each beside float in the same run.
            return Goal("drop", "latency_ratio" if limit.relative else "latency_ms", limit.bound)
        if self.size is not None:
            return Goal("drop", "size_bytes", Limit.parse("size_bytes", self.size).resolved(float_bytes))
        figure, text = ("ram_bytes", self.ram) if self.ram is not None else ("instructions", self.instructions)
        _check(target, figure)
        return Goal("drop", figure, Limit.parse(figure, text or "").resolved(None))


def _check(target: Target, figure: str) -> None:
    if figure.startswith("latency") and not target.can("measurable"):
        raise UsageError(f"target {target.name} cannot be timed on this machine: limit the size or the drop")
    if figure == "instructions" and not target.can("simulated"):
        raise UsageError(f"target {target.name} has no simulator that counts instructions: limit the size or the drop")
    if figure == "ram_bytes" and not target.can("memory_plan"):
        raise UsageError(f"target {target.name} has no memory plan, its RAM is not known: limit the size or the drop")
