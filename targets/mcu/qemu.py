"""Running a project on an emulated board: outputs, instructions of every layer, flash and RAM.

Instructions are counted by a plugin of the emulator (`tools/count_instructions.c`). An emulator that does not load it
counts time in instructions instead, which gives their sum to within a tick of a timer and not the layers'. Either way
they are instructions, not cycles: a real core has wait states, caches, and pairs of instructions that
issue together.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qcompiler.errors import InternalError, VerificationError
from qcompiler.targets.mcu.elf import Elf
from qcompiler.targets.mcu.emit import Plan
from qcompiler.targets.mcu.emit_project import flatten, unflatten
from qcompiler.targets.mcu.footprint import (
    ENTRY,
    FRAMES,
    Footprint,
    libraries,
    object_order,
    predict,
    read_linked,
)
from qcompiler.targets.mcu.toolchain import ARM_FLAGS, PREFIX, call, find

PLUGIN = Path(__file__).parent / "tools" / "count_instructions.c"
NEWEST_QEMU = 8
SECONDS = 300
"""Limit of one emulation."""


@dataclass(frozen=True)
class EmulatedRun:
    """What one run on an emulated board gave.

    Attributes:
        outputs: codes, per sample.
        instructions: of one inference, the most over all samples.
        layers: instructions of every step, of the same sample; empty without the plugin.
        footprint: flash and RAM of the linked program.
        predicted: the same, from the object files before linking.
        stack_used: deepest stack seen, bytes.
    """

    outputs: list[list[np.ndarray]]
    instructions: int
    layers: tuple[int, ...]
    footprint: Footprint
    predicted: Footprint
    stack_used: int


def run_emulated(
    plan: Plan, project: Path, samples: Sequence[Sequence[np.ndarray]], plugin: bool | None = None
) -> EmulatedRun:
    """Build a project for its board and run it on samples, which are read from and written to the host's disk.

    Args:
        plan: of the project.
        project: its folder.
        samples: codes in the model's own shapes.
        plugin: whether to count with the plugin; None if the emulator's version loads it.

    Raises:
        MissingToolError: compiler, make or emulator are not installed.
        VerificationError: the program crashed on the board.
    """
    board = plan.part.core.board
    assert board is not None, "the host needs no emulator"
    emulator = find("qemu-system-arm", "run the project on an emulated board")
    with tempfile.TemporaryDirectory(prefix="qcompiler-qemu-") as name:
        work = Path(name)
        program = build_program(project, work, "stream.elf")
        predicted = predict_folder(plan, work)
        flat = [flatten(plan.program.inputs, arrays) for arrays in samples]
        (work / "input.bin").write_bytes(b"".join(f.tobytes() for f in flat))
        if plugin is None:
            plugin = loads_plugins(emulator)
        options = _counting(work, program) if plugin else ["-icount", "shift=0"]
        command = [
            emulator, "-M", board.machine, "-kernel", str(program), "-nographic", "-monitor", "none", "-serial", "none",
            "-semihosting-config", "enable=on,target=native", *options,
        ]  # fmt: skip
        done = subprocess.run(
            command, cwd=work, capture_output=True, text=True, errors="replace", check=False, timeout=SECONDS,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if done.returncode != 0:
            raise VerificationError(
                f"the program ended with status {done.returncode} on the emulated {board.machine}: {done.stderr[-500:]}"
            )
        raw = np.frombuffer((work / "output.bin").read_bytes(), np.uint8)
        if len(samples) and raw.size % len(samples):
            raise VerificationError(f"the program wrote {raw.size} bytes for {len(samples)} samples")
        outputs = [unflatten(plan.program.outputs, part) for part in np.split(raw, len(samples))] if samples else []
        used, ticks = (int(n) for n in np.frombuffer((work / "cost.bin").read_bytes(), "<u4"))
        footprint = read_linked(program, predicted.stack)
        if not plugin:
            return EmulatedRun(outputs, round(ticks * board.tick), (), footprint, predicted, used)
        counts = (work / "counts.txt").read_text(encoding="utf-8")
        most = max(_layers(plan, program, counts, len(samples)), key=sum)
    return EmulatedRun(outputs, sum(most), tuple(most[:-1]), footprint, predicted, used)


def loads_plugins(emulator: str) -> bool:
    """True for the versions of QEMU whose plugin interface is the one the counter was written for."""
    text = subprocess.run([emulator, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"version (\d+)\.", text)
    return found is not None and int(found[1]) <= NEWEST_QEMU


def build_program(project: Path, work: Path, name: str) -> Path:
    """Run the project's Makefile with its results in `work`."""
    make = find("make", "build the project")
    find(f"{PREFIX}gcc", "build the project")
    flags = " ".join((*ARM_FLAGS, *FRAMES))
    call([make, "-s", "-j2", f"BUILD={work}", f"CFLAGS={flags}", f"{work}/{name}"], project, "building the project")
    return work / name


def predict_folder(plan: Plan, work: Path) -> Footprint:
    """Footprint of the object files of a build."""
    compiler = find(f"{PREFIX}gcc", "know the size of the code")
    return predict(object_order(work / "model"), libraries(compiler, plan.part.core.flags))


def build_plugin(work: Path) -> Path:
    """The counting plugin, compiled for this machine."""
    compiler = find("cc", "build the plugin that counts instructions")
    library = work / "libcount.so"
    call([compiler, "-O2", "-Wall", "-Werror", "-shared", "-fPIC", PLUGIN, "-o", library], work, "building the plugin")
    return library


def _counting(work: Path, program: Path) -> list[str]:
    """Options of the emulator that count, and the list of addresses at which the count is written."""
    elf = Elf.read(program)
    watched = [elf.functions()[ENTRY].value]
    for name in (ENTRY, "main"):
        watched += [address for call in _calls(elf, name) for address in (call, call + BL_BYTES)]
    (work / "watch.txt").write_text("".join(f"{address:x}\n" for address in sorted(set(watched))), encoding="utf-8")
    return ["-plugin", f"{build_plugin(work)},watch=watch.txt,out=counts.txt"]


BL_BYTES = 4


def _calls(elf: Elf, name: str) -> list[int]:
    """Addresses of the BL instructions of a function."""
    symbol = elf.functions()[name]
    section = elf.sections[symbol.section]
    code = elf.bytes_of(section)[symbol.value - section.address :][: symbol.size]
    found, at = [], 0
    while at + 3 < len(code):
        word = int.from_bytes(code[at : at + 2], "little")
        second = int.from_bytes(code[at + 2 : at + 4], "little")
        long = word >> 11 in (0b11101, 0b11110, 0b11111)
        if word >> 11 == 0b11110 and second & 0xD000 == 0xD000:
            found.append(symbol.value + at)
        at += BL_BYTES if long else 2
    return found


def _layers(plan: Plan, program: Path, text: str, samples: int) -> list[list[int]]:
    """Instructions of every step, and last those outside of all; one list per sample.

    Calls return in program order, so the returns that are seen between two entries of the model, and the one to its
    caller where the last call is a tail call, are those of its steps. The instruction behind a call may be reached
    otherwise, by a loop: it is a return only if the call came right before.

    Raises:
        InternalError: the calls seen are not those of the program.
    """
    elf = Elf.read(program)
    symbol, calls_at = elf.functions()[ENTRY], set(_calls(elf, ENTRY))
    runs: list[list[int]] = []
    inside, called = False, -1
    for address, count in ((int(a, 16), int(n)) for a, n in (line.split() for line in text.splitlines()) if a != "end"):
        if address == symbol.value:
            runs.append([count])
            inside = True
        elif inside:
            own = symbol.value < address < symbol.value + symbol.size
            if not own or address == called + BL_BYTES:
                runs[-1].append(count)
            inside = own
        called = address if address in calls_at else -1
    repeats = [step.repeat for step in plan.program.steps]
    result = []
    for counts in runs:
        calls = sum(repeats)
        if len(counts) not in (calls + 1, calls + 2):
            raise InternalError(f"{len(counts) - 1} returns were seen in a model of {calls} calls")
        marks = np.cumsum([0, *repeats])
        layers = [counts[b] - counts[a] for a, b in zip(marks, marks[1:], strict=False)]
        result.append([*layers, counts[-1] - counts[calls]])
    if len(result) != samples:
        raise InternalError(f"the model ran {len(result)} times for {samples} samples")
    return result
