"""A whole project from an INTEGER graph: legal program, arena, text, and the checks before any C is compiled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qcompiler.artifact import GRAPH_NAME, WEIGHTS_NAME
from qcompiler.executors.reference import run_reference
from qcompiler.graph_files import write_graph
from qcompiler.ir import Graph, Level, Node, Value
from qcompiler.targets.base import Emission, KernelChoice
from qcompiler.targets.mcu.arena import ALIGNMENT, Arena, plan_arena
from qcompiler.targets.mcu.budget import check_budget
from qcompiler.targets.mcu.emit_model import ModelText
from qcompiler.targets.mcu.emit_project import SELF_CHECK_BYTES, flatten, surroundings, write_texts
from qcompiler.targets.mcu.legalize import Legalizer
from qcompiler.targets.mcu.memory_file import measure_memory, write_memory
from qcompiler.targets.mcu.op_table import RULES
from qcompiler.targets.mcu.parts import Part
from qcompiler.targets.mcu.program import Program, Step, Storage
from qcompiler.targets.mcu.rules_products import depthwise_scratch
from qcompiler.targets.mcu.schedule import ROW_BLOCKS, USUAL_ROWS, Schedule

VECTORS = 2
"""Self-check vectors, fewer where inputs are large."""


@dataclass(frozen=True)
class Plan:
    """A legal program with its memory."""

    program: Program
    arena: Arena
    part: Part


def plan_program(graph: Graph, part: Part) -> Plan:
    """Legalize and plan the memory.

    Raises:
        UnsupportedError: a graph of another level, or ops without a kernel, all of them.
        ConstraintError: symbolic shapes, or sums that overflow.
    """
    assert graph.level is Level.INTEGER, graph.level
    isa = part.core.isa

    def plan(schedule: Schedule) -> Plan:
        program = Legalizer(graph, schedule, RULES).program(graph.name)
        return Plan(program, plan_arena(program), part)

    best = plan(Schedule(isa))
    for rows in (r for r in ROW_BLOCKS if 0 < r < USUAL_ROWS):
        if part.ram is None or best.arena.size <= part.ram:
            break
        best = plan(Schedule(isa, rows))
    faster = plan(Schedule(isa, USUAL_ROWS, free_rows(best, isa)))
    return faster if faster.arena.size <= best.arena.size else best


def free_rows(plan: Plan, isa: str) -> dict[Node, int]:
    """For every depthwise convolution the most rows whose scratch memory fits the arena as it is."""
    chosen = {}
    for step in plan.program.steps:
        if step.function != "qc_depthwise_conv2d_s8":
            continue
        storages = {t.storage for t in (step.reads[0], step.writes) if t.storage.place == "arena"}
        tensors = max((s.size for s in storages), default=0) if step.overlaps else sum(s.size for s in storages)
        others = step_residents(plan, step) - storages
        free = plan.arena.size - tensors - sum(s.size for s in others)
        fitting = (rows for rows in ROW_BLOCKS if depthwise_scratch(step, isa, rows) <= free - ALIGNMENT)
        chosen[step.nodes[0]] = next(fitting, ROW_BLOCKS[-1])
    return chosen


def step_residents(plan: Plan, step: Step) -> set[Storage]:
    """What lies in the arena while a step runs."""
    steps = plan.program.steps
    at = steps.index(step)
    before = {t.storage for s in steps[: at + 1] for t in (*s.reads, s.writes)}
    after = {t.storage for s in steps[at:] for t in (*s.reads, s.writes)}
    return {s for s in before & after if s.place == "arena"}


def emit_project(graph: Graph, part: Part, folder: Path, metadata: Mapping[str, str] | None = None) -> Emission:
    """Write the project of a graph into an existing folder.

    Raises:
        ConstraintError: flash or RAM of the part do not suffice.
    """
    plan = plan_program(graph, part)
    check_budget(plan.program, plan.arena, part)
    texts = project_texts(plan, metadata or {}, self_check_vectors(graph, plan.program))
    memory = measure_memory(plan.program, plan.arena, part, texts)
    files = [*write_texts(folder, texts), write_memory(memory, folder)]
    write_graph(graph, folder / GRAPH_NAME, folder / WEIGHTS_NAME)  # what the C is compared with; not of the project
    return Emission(tuple(files), kernel_choices(plan.program))


def project_texts(
    plan: Plan, metadata: Mapping[str, str], vectors: Sequence[tuple[np.ndarray, np.ndarray]] = ()
) -> dict[str, str]:
    """All files of a project by their paths; the self-check only with `vectors`."""
    text = ModelText(plan.program, plan.arena, plan.part, _title(plan.part, metadata))
    generated = {
        "model.h": text.header(),
        "model.c": text.source(),
        "model_data.h": text.data_header(),
        "model_data.c": text.data_source(),
    }
    return generated | surroundings(plan.program, plan.part, vectors)


def self_check_vectors(graph: Graph, program: Program) -> list[tuple[np.ndarray, np.ndarray]]:
    """Random codes over the whole range of their types, and what the reference makes of them; flat.

    Plain integers are numbers of rows where a gather reads them, and otherwise truth values.
    """
    rng = np.random.default_rng(0)
    size = sum(t.count for t in program.inputs)
    count = max(1, min(VECTORS, SELF_CHECK_BYTES // max(1, size)))
    vectors = []
    for _ in range(count):
        arrays = [
            rng.integers(*_ends(graph, value), t.shape, np.int64).astype(t.dtype.numpy)
            for value, t in zip(graph.inputs, program.inputs, strict=True)
        ]
        outputs = run_reference(graph, arrays)
        vectors.append((flatten(program.inputs, arrays), flatten(program.outputs, outputs)))
    return vectors


def _ends(graph: Graph, value: Value) -> tuple[int, int]:
    """Smallest integer of an input, and the one above the largest, for a run of the self-check."""
    if value.quant is not None:
        return value.dtype.min, value.dtype.max + 1
    rows = [n.operands[0].shape[n.attrs["axis"]] for n, at in graph.uses(value) if n.op == "gather" and at == 1]
    return 0, min([int(r) for r in rows], default=2)


def kernel_choices(program: Program) -> tuple[KernelChoice, ...]:
    """One row per node of the graph that became part of a call."""
    rows = []
    for step in program.steps:
        kind = step.reads[0].dtype.name
        weights = next((v for v in step.nodes[0].operands[1:] if v.is_const and v.quant is not None), None)
        for node in step.nodes:
            dtype = f"{kind} x {weights.dtype.name}" if weights is not None and node is step.nodes[0] else kind
            rows.append(KernelChoice(node.origin.module, node.op, dtype, step.function, step.note))
    return tuple(rows)


def _title(part: Part, metadata: Mapping[str, str]) -> str:
    made = f"qcompiler {metadata['version']}" if "version" in metadata else "qcompiler"
    recipe = f", recipe {metadata['recipe']}" if "recipe" in metadata else ""
    return f"Generated by {made} for {part.name}{recipe}. Do not edit."
