"""Cores, the boards that QEMU emulates, and the flash and RAM of a part.

`cortex-m4` is a core with the memory of its emulated board, `cortex-m4:flash=1M,ram=320K` one with a limit of its
own, `cortex-m4:stm32l4r5` one with the sizes of a part. K is 1024 bytes and M is 1024 K, as in data sheets.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from qcompiler.errors import UsageError, did_you_mean

KIB, MIB = 1024, 1024 * 1024


@dataclass(frozen=True)
class Board:
    """A machine of QEMU, as the linker script needs it.

    Attributes:
        machine: name for `qemu-system-arm -M`.
        vectors: address of the vector table.
        flash: (address, bytes) where code and constants go.
        ram: (address, bytes).
        tick: nanoseconds of the system timer.
    """

    machine: str
    vectors: int
    flash: tuple[int, int]
    ram: tuple[int, int]
    tick: float = 40.0


@dataclass(frozen=True)
class Core:
    """A processor core.

    Attributes:
        name: of the target.
        flags: options of arm-none-eabi-gcc; empty for the host.
        isa: `portable`, `dsp` (ARMv7E-M: SMLAD, SXTB16) or `mve` (Helium).
        board: what QEMU runs it on, None for the host.
        note: about the emulation.
    """

    name: str
    flags: tuple[str, ...]
    isa: str
    board: Board | None
    note: str = ""


# The secure aliases where the board has TrustZone: the reset state is secure, and the other aliases lock up.
_AN385 = Board("mps2-an385", 0x0, (0x40, 4 * MIB - 0x40), (0x20000000, 4 * MIB))
_AN386 = replace(_AN385, machine="mps2-an386")
_AN500 = replace(_AN385, machine="mps2-an500")
_AN505 = Board("mps2-an505", 0x10000000, (0x10000040, 4 * MIB - 0x40), (0x38000000, 4 * MIB), 50.0)
_AN547 = Board("mps3-an547", 0x0, (0x11000000, 2 * MIB), (0x31000000, 4 * MIB), 31.25)

HOST = "host-c"

CORES: dict[str, Core] = {
    core.name: core
    for core in (
        Core(HOST, (), "portable", None),
        Core("cortex-m0plus", ("-mcpu=cortex-m0plus",), "portable", _AN385, "ARMv6-M code on an emulated Cortex-M3"),
        Core("cortex-m3", ("-mcpu=cortex-m3",), "portable", _AN385),
        Core("cortex-m4", ("-mcpu=cortex-m4", "-mfloat-abi=hard"), "dsp", _AN386),
        Core("cortex-m7", ("-mcpu=cortex-m7", "-mfloat-abi=hard"), "dsp", _AN500),
        Core("cortex-m33", ("-mcpu=cortex-m33", "-mfloat-abi=hard"), "dsp", _AN505),
        Core("cortex-m55", ("-mcpu=cortex-m55", "-mfloat-abi=hard"), "mve", _AN547),
    )
}

# Flash and RAM (one block that the arena can use whole) by part number, from the manufacturers' data sheets.
PARTS: dict[str, tuple[str, int, int]] = {
    "rp2040": ("cortex-m0plus", 2 * MIB, 256 * KIB),
    "stm32g071rb": ("cortex-m0plus", 128 * KIB, 36 * KIB),
    "stm32f103c8": ("cortex-m3", 64 * KIB, 20 * KIB),
    "nrf52840": ("cortex-m4", 1 * MIB, 256 * KIB),
    "stm32f446re": ("cortex-m4", 512 * KIB, 128 * KIB),
    "stm32l4r5zi": ("cortex-m4", 2 * MIB, 640 * KIB),
    "stm32f746ng": ("cortex-m7", 1 * MIB, 320 * KIB),
    "stm32h743zi": ("cortex-m7", 2 * MIB, 512 * KIB),
    "nrf9160": ("cortex-m33", 1 * MIB, 256 * KIB),
    "stm32u585ai": ("cortex-m33", 2 * MIB, 768 * KIB),
}


@dataclass(frozen=True)
class Part:
    """What a program is compiled for.

    Attributes:
        core: the core.
        flash: bytes for code and constants, None for no limit (the host).
        ram: bytes for the arena, data and stack, None for no limit.
        option: what stood after the colon, in canonical form.
    """

    core: Core
    flash: int | None
    ram: int | None
    option: str = ""

    @property
    def name(self) -> str:
        """Canonical name of the target."""
        return f"{self.core.name}:{self.option}" if self.option else self.core.name


def parse_part(core_name: str, option: str) -> Part:
    """The part that `CORE[:OPTION]` names.

    Raises:
        UsageError: an option that is neither a part of this core nor `flash=SIZE,ram=SIZE`, or a size that the
            emulated board does not have.
    """
    core = CORES[core_name]
    board = core.board
    if board is None:
        if option:
            raise UsageError(f"target {HOST} takes no option, got {option!r}: the host has no flash and RAM to fit into")
        return Part(core, None, None)
    known = [name for name, (of, _, _) in PARTS.items() if of == core_name]
    if option in PARTS:
        of, flash, ram = PARTS[option]
        if of != core_name:
            raise UsageError(f"{option} has a {of}, not a {core_name}: compile for target {of}:{option}")
        return Part(core, flash, ram, option)
    sizes = {"flash": board.flash[1], "ram": board.ram[1]}
    for field in filter(None, option.split(",")):
        key, _, value = field.partition("=")
        if key not in sizes or not value:
            raise UsageError(
                f"target {core_name}: unknown option {field!r}.{did_you_mean(field, [*known, 'flash=', 'ram='])} Known:"
                f" flash=SIZE, ram=SIZE (like {core_name}:flash=1M,ram=320K), or a part: {', '.join(known) or 'none'}"
            )
        sizes[key] = parse_size(value, f"target {core_name}: {key}")
    for key, limit in (("flash", board.flash[1]), ("ram", board.ram[1])):
        if sizes[key] > limit:
            raise UsageError(
                f"target {core_name}: {key}={show_size(sizes[key])} is more than the emulated board {board.machine} has"
                f" ({show_size(limit)}), so the program could not be run; leave the option out for that size"
            )
    canonical = ",".join(f"{key}={show_size(size)}" for key, size in sizes.items()) if option else ""
    return Part(core, sizes["flash"], sizes["ram"], canonical)


def parse_size(text: str, what: str) -> int:
    """Bytes of `320K`, `1M` or `65536`.

    Raises:
        UsageError: not a size.
    """
    match = re.fullmatch(r"(\d+)([kKmM]?)", text)
    if match is None or int(match[1]) == 0:
        raise UsageError(f"{what}: {text!r} is no size; write bytes, or K or M (1024 and 1024 x 1024 bytes), like 320K")
    return int(match[1]) * {"": 1, "K": KIB, "M": MIB}[match[2].upper()]


def show_size(size: int) -> str:
    """The shortest form that `parse_size` reads."""
    for unit, name in ((MIB, "M"), (KIB, "K")):
        if size % unit == 0:
            return f"{size // unit}{name}"
    return str(size)
