"""Reading 32-bit little-endian ELF objects, programs and archives: sections, symbols, relocations.

The layout is that of the System V ABI (generic part, chapter 4) and of the Arm supplement (AAELF32, relocation types).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from qcompiler.errors import InternalError

ALLOC, EXECUTE, WRITE = 2, 4, 1
NOBITS, SYMTAB, RELOCATIONS = 8, 2, 9
CALL, TAIL_CALL = 10, 30
"""R_ARM_THM_CALL and R_ARM_THM_JUMP24."""
NO_SECTION, FIRST_RESERVED = 0, 0xFF00


@dataclass(frozen=True)
class Section:
    """One section header with its place in the file."""

    name: str
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int


@dataclass(frozen=True)
class Symbol:
    """One symbol; `section` is an index, 0 where it is defined elsewhere."""

    name: str
    value: int
    size: int
    kind: int
    section: int


@dataclass(frozen=True)
class Relocation:
    """A place in a section that refers to a symbol."""

    offset: int
    kind: int
    symbol: Symbol


class Elf:
    """One object or program."""

    def __init__(self, data: bytes, name: str) -> None:
        """Read the headers.

        Raises:
            InternalError: not a 32-bit little-endian ELF file.
        """
        if data[:7] != b"\x7fELF\x01\x01\x01":
            raise InternalError(f"{name} is not a 32-bit little-endian ELF file")
        self.data, self.name = data, name
        (start,) = struct.unpack_from("<I", data, 0x20)
        size, count, names = struct.unpack_from("<3H", data, 0x2E)
        rows = [struct.unpack_from("<10I", data, start + i * size) for i in range(count)]
        strings = rows[names][4]
        self.sections = [
            Section(self._text(strings + n), kind, flags, address, offset, length, link, info, max(1, alignment))
            for n, kind, flags, address, offset, length, link, info, alignment, _ in rows
        ]

    @staticmethod
    def read(path: Path) -> Elf:
        """The file of a path."""
        return Elf(path.read_bytes(), path.name)

    def _text(self, offset: int) -> str:
        return self.data[offset : self.data.index(b"\0", offset)].decode("ascii", "replace")

    def bytes_of(self, section: Section) -> bytes:
        """Contents of a section."""
        return b"" if section.kind == NOBITS else self.data[section.offset : section.offset + section.size]

    @cached_property
    def symbols(self) -> list[Symbol]:
        """The symbol table."""
        table = next((s for s in self.sections if s.kind == SYMTAB), None)
        if table is None:
            return []
        strings = self.sections[table.link].offset
        rows = struct.iter_unpack("<3I2BH", self.bytes_of(table))
        return [Symbol(self._text(strings + n), value, size, info & 15, at) for n, value, size, info, _, at in rows]

    def section(self, name: str) -> Section | None:
        """The section of a name."""
        return next((s for s in self.sections if s.name == name), None)

    @cached_property
    def relocations(self) -> dict[int, list[Relocation]]:
        """By index of the section they are in."""
        found: dict[int, list[Relocation]] = {}
        for section in self.sections:
            if section.kind == RELOCATIONS:
                rows = struct.iter_unpack("<2I", self.bytes_of(section))
                found[section.info] = [Relocation(at, info & 255, self.symbols[info >> 8]) for at, info in rows]
        return found

    def functions(self) -> dict[str, Symbol]:
        """Functions that are defined here, by name; values without the Thumb bit."""
        return {
            s.name: Symbol(s.name, s.value & ~1, s.size, s.kind, s.section)
            for s in self.symbols
            if s.kind == 2 and s.section != NO_SECTION
        }


def archive_members(path: Path) -> Iterator[tuple[str, int, bytes]]:
    """(symbol, place of the member, member) for every symbol in the index of an `ar` archive.

    Raises:
        InternalError: not an archive with a symbol index.
    """
    data = path.read_bytes()
    if data[:8] != b"!<arch>\n" or data[8:10] != b"/ ":
        raise InternalError(f"{path} is not an archive with a symbol index")
    (count,) = struct.unpack_from(">I", data, 68)
    offsets = struct.unpack_from(f">{count}I", data, 72)
    names = data[72 + 4 * count : 68 + int(data[56:66])].split(b"\0")
    for name, offset in zip(names, offsets, strict=False):
        size = int(data[offset + 48 : offset + 58])
        yield name.decode("ascii", "replace"), offset, data[offset + 60 : offset + 60 + size]
