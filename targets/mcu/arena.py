"""The one arena of a program: which bytes each tensor and each scratch memory gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qcompiler.targets.mcu.memory_plan import Buffer, MemoryPlan, Overlap, plan_memory
from qcompiler.targets.mcu.program import Program, Step, Storage

ALIGNMENT = 8
"""Of every offset: what scratch memory needs."""


@dataclass(frozen=True)
class Arena:
    """A planned arena.

    Attributes:
        tensors: offset of every storage that lies in it.
        scratch: offset of the scratch memory of every step that has some.
        plan: size, lower bound, method.
    """

    tensors: Mapping[Storage, int]
    scratch: Mapping[Step, int]
    plan: MemoryPlan

    @property
    def size(self) -> int:
        """Bytes."""
        return self.plan.size


def plan_arena(program: Program, seed: int = 0) -> Arena:
    """Place tensors and scratch memories of a program."""
    first: dict[Storage, int] = {}
    last: dict[Storage, int] = {}
    for index, step in enumerate(program.steps):
        for tensor in (*step.reads, step.writes):
            if tensor.storage.place == "arena":
                first.setdefault(tensor.storage, index)
                last[tensor.storage] = index
    buffers = {s: Buffer(s.name, s.size, first[s], last[s]) for s in first}
    overlaps: dict[tuple[Buffer, Buffer], Overlap] = {}
    scratch: dict[Step, Buffer] = {}
    for index, step in enumerate(program.steps):
        if step.scratch:
            scratch[step] = Buffer(f"scratch of {step.writes.storage.name}", step.scratch, index, index)
        result = buffers.get(step.writes.storage)
        for storage in {t.storage for t in step.reads} & buffers.keys() - {step.writes.storage}:
            rule = _joint_rule(step, storage)
            if result is not None and rule is not None:
                overlaps[result, buffers[storage]] = rule
    ordered = sorted([*buffers.values(), *scratch.values()], key=lambda b: b.first)
    plan = plan_memory(ordered, overlaps, ALIGNMENT, seed)
    return Arena(
        {s: plan.offsets[b] for s, b in buffers.items()}, {step: plan.offsets[b] for step, b in scratch.items()}, plan
    )


def _joint_rule(step: Step, storage: Storage) -> Overlap | None:
    """How the result may lie over a storage: what every operand in it allows."""
    rules = [step.overlaps.get(i) for i, t in enumerate(step.reads) if t.storage is storage]
    known = [rule for rule in rules if rule is not None]
    if len(known) < len(rules):
        return None
    leads = [rule.lead for rule in known]
    lead = None if None in leads else max(lead for lead in leads if lead is not None)
    return Overlap(lead, all(rule.same or rule.lead == 0 for rule in known))
