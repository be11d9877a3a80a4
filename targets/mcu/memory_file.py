"""memory.json of a project: what the compiler knows of its flash and RAM, and their limits."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from qcompiler.errors import ConstraintError
from qcompiler.targets.mcu.arena import Arena
from qcompiler.targets.mcu.budget import constant_bytes, largest_layers
from qcompiler.targets.mcu.emit_project import definitions, write_texts
from qcompiler.targets.mcu.footprint import FRAMES, Footprint, libraries, object_order, predict
from qcompiler.targets.mcu.parts import Part
from qcompiler.targets.mcu.program import Program
from qcompiler.targets.mcu.toolchain import ARM_FLAGS, PREFIX, call

MEMORY_NAME = "memory.json"


@dataclass(frozen=True)
class Memory:
    """Bytes; None where it is not known or there is no limit.

    Attributes:
        arena: static memory of tensors and scratch.
        lower_bound: no plan of this program can be smaller.
        method: what found the plan.
        constants: weights, tables, parameters; without the compiled code's own where that is not known.
        code: machine code; None if the compiler for the part is not installed.
        stack: worst below the model's entry.
        flash_limit: of the part.
        ram_limit: of the part.
    """

    arena: int
    lower_bound: int
    method: str
    constants: int
    code: int | None = None
    stack: int | None = None
    flash_limit: int | None = None
    ram_limit: int | None = None

    @property
    def flash(self) -> int | None:
        """Code and constants."""
        return None if self.code is None else self.code + self.constants

    @property
    def ram(self) -> int | None:
        """Arena and stack."""
        return None if self.stack is None else self.arena + self.stack

    @property
    def ratio(self) -> float:
        """Arena over its lower bound."""
        return self.arena / self.lower_bound if self.lower_bound else 1.0


def measure_memory(program: Program, arena: Arena, part: Part, texts: Mapping[str, str]) -> Memory:
    """Everything that can be known without linking; code and stack where the part's compiler is installed.

    Raises:
        ConstraintError: with code and stack the model does not fit.
    """
    known = Memory(
        arena.size, arena.plan.lower_bound, arena.plan.method, constant_bytes(program), None, None, part.flash, part.ram
    )
    if part.core.board is None or shutil.which(f"{PREFIX}gcc") is None:
        return known
    found = compile_objects(program, part, texts)
    memory = Memory(
        found.static_ram, arena.plan.lower_bound, arena.plan.method, found.constants, found.code, found.stack, part.flash, part.ram
    )
    problems = [
        f"{what}: {need} bytes needed ({parts}), {limit} available. Layers that take most:\n{largest_layers(program, what)}"
        for what, need, limit, parts in (
            ("flash", memory.flash, part.flash, f"{found.code} of code, {found.constants} of constants"),
            ("RAM", memory.ram, part.ram, f"{found.static_ram} of arena, {found.stack} of stack"),
        )
        if need is not None and limit is not None and need > limit
    ]
    if problems:
        raise ConstraintError(f"the model does not fit {part.name}:\n" + "\n".join(problems))
    return memory


def compile_objects(program: Program, part: Part, texts: Mapping[str, str]) -> Footprint:
    """Footprint of the model library, compiled but not linked."""
    compiler = f"{PREFIX}gcc"
    with tempfile.TemporaryDirectory(prefix="qcompiler-objects-") as name:
        folder = Path(name)
        sources = {k: v for k, v in texts.items() if k.startswith(("model", "kernels/"))}
        write_texts(folder, sources)
        files = [k for k in sources if k.endswith(".c")]
        flags = [*part.core.flags, *ARM_FLAGS, *FRAMES, *definitions(program), "-I.", "-Ikernels"]
        call([compiler, *flags, "-c", *files], folder, "compiling the project to learn its size")
        objects = object_order(folder)
        return predict(objects, libraries(compiler, part.core.flags))


def write_memory(memory: Memory, folder: Path) -> Path:
    """Write memory.json."""
    path = folder / MEMORY_NAME
    path.write_text(json.dumps(asdict(memory), indent=2) + "\n", encoding="utf-8")
    return path


def read_memory(folder: Path) -> Memory:
    """Read memory.json."""
    return Memory(**json.loads((folder / MEMORY_NAME).read_text(encoding="utf-8")))
