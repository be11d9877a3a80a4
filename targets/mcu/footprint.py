"""Flash and RAM of the model library: predicted from its object files, and read from a linked program.

Flash is code and constants of the model and of the compiler support routines that it calls. RAM is the arena (.bss),
initialised data (none) and the worst stack below `qc_model_run`. Start-up code, the application and its input and
output buffers are not counted.

The prediction follows references from `qc_model_run` as a linker does that drops unused sections, lays the sections
out in link order, and takes the deepest chain of calls with the frame sizes that the compiler states (-fstack-usage).
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qcompiler.errors import InternalError
from qcompiler.targets.mcu.elf import ALLOC, CALL, EXECUTE, NO_SECTION, TAIL_CALL, WRITE, Elf, archive_members

ENTRY = "qc_model_run"
OUTPUT_ALIGNMENT = 8
FRAMES = ("-fstack-usage",)
FUNCTION = 2
DEFINED = (0, 1, FUNCTION)
"""Kinds of symbols that code refers to: untyped, data, functions."""


@dataclass(frozen=True)
class Footprint:
    """Bytes.

    Attributes:
        code: machine code.
        constants: weights, tables, parameters.
        static_ram: arena and data.
        stack: the worst below the model's entry.
    """

    code: int
    constants: int
    static_ram: int
    stack: int

    @property
    def flash(self) -> int:
        """Code and constants."""
        return self.code + self.constants

    @property
    def ram(self) -> int:
        """Static memory and stack."""
        return self.static_ram + self.stack


def object_order(folder: Path) -> list[Path]:
    """Object files of a folder in the order in which the Makefile links them."""
    first = ("model.o", "model_data.o")
    return [folder / name for name in (*first, *sorted(p.name for p in folder.glob("*.o") if p.name not in first))]


Place = tuple[Elf, int]
"""A section: its object and index."""


def predict(objects: Sequence[Path], libraries: Sequence[Path]) -> Footprint:
    """Footprint of object files in link order.

    Args:
        objects: compiled with `FRAMES`, so that a `.su` file lies beside each.
        libraries: archives of the compiler and of the C library, in link order.

    Raises:
        InternalError: a symbol that nobody defines.
    """
    elves = [Elf.read(path) for path in objects]
    frames = _frames(objects)
    known: dict[str, tuple[Elf, int]] = {}
    for elf in elves:
        known |= {s.name: (elf, s.section) for s in elf.symbols if s.section != NO_SECTION and s.kind in DEFINED and s.name}
    members: dict[tuple[int, int], Elf] = {}
    wanted = _undefined(elves)
    while wanted:
        found = [_member(name, libraries) for name in wanted if name not in known]
        fresh = {place: elf for one in found for place, elf in one.items() if place not in members}
        members |= fresh
        wanted = _undefined(fresh.values())
    for _, elf in sorted(members.items(), key=lambda item: item[0]):  # in the order in which a linker finds them
        elves.append(elf)
        known |= {s.name: (elf, s.section) for s in elf.symbols if s.section != NO_SECTION and s.kind == FUNCTION}
    return _sizes(elves, known, frames)


def _member(name: str, libraries: Sequence[Path]) -> dict[tuple[int, int], Elf]:
    """The member of a library that defines a symbol, by library and place in it."""
    for index, path in enumerate(libraries):
        for symbol, offset, data in archive_members(path):
            if symbol == name:
                return {(index, offset): Elf(data, name)}
    raise InternalError(f"no library defines {name}, which the model calls")


def _undefined(elves: Iterable[Elf]) -> list[str]:
    """Names that some objects refer to and do not define, each once."""
    return list({s.name: None for elf in elves for s in elf.symbols if s.section == NO_SECTION and s.name})


def _sizes(elves: Sequence[Elf], known: Mapping[str, Place], frames: Mapping[str, int]) -> Footprint:
    def target(elf: Elf, name: str, section: int) -> Place | None:
        return (elf, section) if section != NO_SECTION else known.get(name)

    entry = known[ENTRY]
    reached: dict[Place, None] = {entry: None}
    queue = [entry]
    while queue:
        elf, index = queue.pop()
        for relocation in elf.relocations.get(index, ()):
            symbol = relocation.symbol
            place = target(elf, symbol.name, symbol.section)
            if place is not None and place not in reached:
                reached[place] = None
                queue.append(place)
    totals = {"code": 0, "constants": 0, "static": 0}
    for elf in elves:
        for index, section in enumerate(elf.sections):
            if (elf, index) not in reached or not section.flags & ALLOC:
                continue
            kind = "code" if section.flags & EXECUTE else "static" if section.flags & WRITE else "constants"
            totals[kind] = -(-totals[kind] // section.alignment) * section.alignment + section.size
    return Footprint(totals["code"], totals["constants"], totals["static"], _stack(known, frames))


def _stack(known: Mapping[str, Place], frames: Mapping[str, int]) -> int:
    """Deepest chain of calls; a tail call has given its caller's frame back."""
    functions = {name: place for name, place in known.items() if name in place[0].functions()}
    by_place: dict[Place, list[str]] = {}
    for name, place in functions.items():
        by_place.setdefault(place, []).append(name)
    deepest: dict[str, int] = {}

    def depth(name: str, path: tuple[str, ...]) -> int:
        if name in path:
            raise InternalError(f"{name} calls itself; the stack has no bound")
        if name in deepest:
            return deepest[name]
        elf, index = functions[name]
        symbol = elf.functions()[name]
        # The compiler does not see what inline assembly pushes, and library routines come without a statement.
        pushed = _pushed(elf.bytes_of(elf.sections[index])[symbol.value : symbol.value + symbol.size])
        own = max(frames.get(name, 0), pushed)
        worst = own
        for relocation in elf.relocations.get(index, ()):
            if relocation.kind not in (CALL, TAIL_CALL) or not symbol.value <= relocation.offset < symbol.value + symbol.size:
                continue
            called = relocation.symbol.name
            if called in functions:
                below = depth(called, (*path, name))
                worst = max(worst, below + (own if relocation.kind == CALL else 0))
        deepest[name] = worst
        return worst

    return depth(ENTRY, ())


def _pushed(code: bytes) -> int:
    """Bytes that a function can put on the stack: its PUSH, VPUSH and SUB SP instructions, all of them."""
    total, at = 0, 0
    while at + 1 < len(code):
        word = int.from_bytes(code[at : at + 2], "little")
        long = word >> 11 in (0b11101, 0b11110, 0b11111)
        if long:
            total += _pushed_long(word, int.from_bytes(code[at + 2 : at + 4], "little"))
        elif word & 0xFE00 == 0xB400:  # PUSH {r0-r7, lr}
            total += 4 * (word & 0x1FF).bit_count()
        elif word & 0xFF80 == 0xB080:  # SUB SP, #imm7 * 4
            total += 4 * (word & 0x7F)
        at += 4 if long else 2
    return total


def _pushed_long(word: int, second: int) -> int:
    """The same for one 32-bit instruction (Armv7-M Architecture Reference Manual, A7.7)."""
    if word == 0xE92D:  # PUSH.W {...}
        return 4 * second.bit_count()
    if word == 0xF84D and second & 0xFFF == 0xD04:  # PUSH.W {rt}
        return 4
    if word & 0xFFBF == 0xED2D:  # VPUSH
        return 4 * (second & 0xFF)
    immediate = (word >> 10 & 1) << 11 | (second >> 12 & 7) << 8 | second & 0xFF
    if word & 0xFBFF == 0xF2AD and second >> 8 & 0xF == 13:  # SUBW SP, SP, #imm12
        return immediate
    if word & 0xFBEF == 0xF1AD and second >> 8 & 0xF == 13:  # SUB.W SP, SP, #constant; below 256, or 1bcdefgh rotated
        if immediate < 1 << 10:
            return immediate & 0xFF
        rotation = immediate >> 7
        return (0x80 | immediate & 0x7F) << (32 - rotation)
    return 0


def _frames(objects: Sequence[Path]) -> dict[str, int]:
    """Frame size of every function, from the compiler's `.su` files.

    Raises:
        InternalError: a frame whose size is known only at run time.
    """
    found = {}
    for path in objects:
        for line in path.with_suffix(".su").read_text(encoding="utf-8").splitlines():
            place, size, kind = line.split("\t")
            if kind != "static":
                raise InternalError(f"{place}: a frame of {kind} size; kernels have fixed ones")
            found[place.rsplit(":", 1)[1]] = int(size)
    return found


def read_linked(program: Path, stack: int) -> Footprint:
    """Footprint of a linked program: its `.model_*` sections; the stack is the prediction's."""
    elf = Elf.read(program)

    def size(name: str) -> int:
        section = elf.section(name)
        return 0 if section is None else section.size

    return Footprint(size(".model_text"), size(".model_rodata"), size(".model_data") + size(".model_bss"), stack)


def libraries(compiler: str, flags: Sequence[str]) -> list[Path]:
    """libgcc and the small C library for a core, in link order."""

    def ask(*question: str) -> Path:
        done = subprocess.run([compiler, *flags, "-mthumb", *question], capture_output=True, text=True, check=True)
        return Path(done.stdout.strip())

    return [ask("-print-libgcc-file-name"), ask("-print-file-name=libc_nano.a")]
