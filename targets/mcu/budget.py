"""Does a model fit its part? Asked before any C is compiled, of what is known by then."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from qcompiler.errors import ConstraintError
from qcompiler.targets.mcu.arena import Arena
from qcompiler.targets.mcu.c_text import array_bytes
from qcompiler.targets.mcu.parts import Part
from qcompiler.targets.mcu.program import At, Data, Program, Step, Struct

SHOWN = 5


def check_budget(program: Program, arena: Arena, part: Part) -> None:
    """Refuse a model whose constants or arena exceed the part.

    Code and stack come on top and are known only after compiling; they are checked then.

    Raises:
        ConstraintError: what is needed, what there is, and the layers that take most.
    """
    problems = []
    flash = constant_bytes(program)
    if part.flash is not None and flash > part.flash:
        problems.append(
            f"flash: {flash} bytes of weights and tables, {part.flash} available. Layers that take most:\n"
            f"{largest_layers(program, 'flash')}\n"
            "  Use fewer bits for weights (weight_bits: 4 halves them), or a smaller model."
        )
    if part.ram is not None and arena.size > part.ram:
        problems.append(
            f"RAM: an arena of {arena.size} bytes, {part.ram} available (no plan needs less than"
            f" {arena.plan.lower_bound}). Layers that take most:\n{largest_layers(program, 'RAM')}\n"
            "  Use smaller inputs or fewer channels there."
        )
    if problems:
        raise ConstraintError(f"the model does not fit {part.name}:\n" + "\n".join(problems))


def constant_bytes(program: Program) -> int:
    """Weights and tables, each once."""
    return sum(map(array_bytes, dict.fromkeys(d for step in program.steps for d in step_data(step))))


def largest_layers(program: Program, what: str) -> str:
    """The steps that take most `flash` or `RAM`, a line each."""
    if what == "RAM":
        return _largest([(step, step_ram(step)) for step in program.steps])
    return _largest([(step, sum(map(array_bytes, step_data(step)))) for step in program.steps])


def step_ram(step: Step) -> int:
    """Bytes of what a step reads, writes and needs as scratch, in the arena."""
    storages = {t.storage for t in (*step.reads, step.writes) if t.storage.place == "arena"}
    return sum(s.size for s in storages) + step.scratch


def step_data(step: Step) -> list[Data]:
    """Constant arrays of a step."""
    found: list[Data] = []
    for argument in step.arguments:
        if isinstance(argument, Struct):
            found += list(_data_in(argument.fields))
        elif isinstance(argument, Data):
            found.append(argument)
        elif isinstance(argument, At) and argument.tensor.storage.data is not None:
            found.append(argument.tensor.storage.data)
    return found


def _data_in(fields: Mapping[str, object]) -> Iterable[Data]:
    for value in fields.values():
        if isinstance(value, Data):
            yield value
        elif isinstance(value, Mapping):
            yield from _data_in(value)


def _largest(rows: Sequence[tuple[Step, int]]) -> str:
    top = sorted(rows, key=lambda row: -row[1])[:SHOWN]
    return "\n".join(f"  {size:>9} bytes  {step.module or '(top level)'} ({step.nodes[0].op})" for step, size in top if size)
