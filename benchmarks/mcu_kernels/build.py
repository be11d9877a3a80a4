"""Compiles the harness for an instruction set and runs cases through it."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np

from qcompiler.kernels.mcu import sources
from qcompiler.kernels.mcu.pack import PROFILES
from qcompiler.targets.mcu import project
from qcompiler.targets.mcu.parts import CORES
from qcompiler.targets.mcu.toolchain import PREFIX

from .case import Case

HERE = Path(__file__).parent
WARNINGS = (
    "-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wshadow", "-Wstrict-prototypes", "-Wmissing-prototypes",
)  # fmt: skip
ARM = ("-mthumb", "-O2", "-std=c99", "-ffunction-sections", "-fdata-sections", "-nostartfiles", "-Wl,--gc-sections")
BOARD = Path(project.__path__[0])  # start-up, semihosting and linker script
# Instruction set -> the core whose emulation runs it; None is this machine.
WHERE = {"portable": None, "dsp": "cortex-m4", "mve": "cortex-m55"}
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g")
MAX_BYTES = 1 << 20  # of one input file; the harness has room for two in memory
KERNELS = tuple(sources.USES)


@dataclass(frozen=True)
class Failure:
    """A case whose result differs, with the harness's status."""

    case: Case
    status: int
    got: np.ndarray

    def __str__(self) -> str:
        case = self.case
        different = np.flatnonzero(self.got != case.expected.reshape(-1))
        where = ", ".join(
            f"[{i}] {self.got[i]} for {case.expected.reshape(-1)[i]}" for i in different[:6]
        )
        return f"{case.kernel} ({case.profile}) status {self.status}, {len(different)} of {self.got.size} differ: {where}; {case.about}"


def kernel_files() -> list[Path]:
    """All kernels with their 4-bit companions."""
    return [*sources.kernel_sources(KERNELS), *(sources.FOLDER / f"{name}.c" for name in sources.INT4)]


def build_host(out: Path, profile: str, sanitize: bool = True) -> list[str]:
    """Compile for the host; the command that runs it, taking the files' names."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise RuntimeError("needs a C compiler; on Debian: apt-get install gcc libc6-dev")
    program = out / f"harness-{profile}"
    extra = SANITIZERS if sanitize else ()
    command = [compiler, "-std=c99", "-O2", *WARNINGS, "-Wpedantic", *extra, *_defines(profile), "-o", str(program)]
    subprocess.run([*command, str(HERE / "harness.c"), *map(str, kernel_files())], check=True)
    return [str(program)]


def build_core(out: Path, profile: str, core: str) -> list[str]:
    """Link for the emulated board of a core; the command that runs it in the folder with the files.

    Raises:
        RuntimeError: no cross compiler or no emulator, naming the Debian package.
    """
    for program in (f"{PREFIX}gcc", "qemu-system-arm"):
        if shutil.which(program) is None:
            package = "qemu-system-arm" if program.startswith("qemu") else "gcc-arm-none-eabi libnewlib-arm-none-eabi"
            raise RuntimeError(f"needs {program}; on Debian: apt-get install {package}")
    board = CORES[core].board
    assert board is not None
    image, script = out / f"harness-{profile}-{core}.elf", out / f"{core}.ld"
    script.write_text(jinja2.Template((BOARD / "board.ld.j2").read_text()).render(board=board))
    command = [f"{PREFIX}gcc", *CORES[core].flags, *ARM, *WARNINGS, *_defines(profile), "-I", str(BOARD), "-T", str(script)]
    command += ["-Wl,--no-warn-rwx-segments", "--specs=nano.specs", "--specs=nosys.specs", "-o", str(image)]
    files = [HERE / "harness.c", BOARD / "startup.c", BOARD / "semihosting.c", *kernel_files()]
    subprocess.run([*command, *map(str, files)], check=True)
    return [
        "qemu-system-arm", "-M", board.machine, "-kernel", str(image), "-nographic", "-monitor", "none", "-serial", "none",
        "-semihosting-config", "enable=on,target=native",
    ]  # fmt: skip


def build(out: Path, profile: str, isa: str) -> list[str]:
    """The harness for an instruction set: on this machine with sanitizers, or on an emulated core."""
    core = WHERE[isa]
    return build_host(out, profile) if core is None else build_core(out, profile, core)


def _defines(profile: str) -> list[str]:
    return [f"-DQC_PROFILE={PROFILES[profile]}", "-DQC_INT4=1", "-I", str(sources.FOLDER), "-I", str(HERE)]


def run_cases(command: Sequence[str], cases: Sequence[Case], isa: str, folder: Path) -> list[Failure]:
    """Run cases in files of at most `MAX_BYTES`; those that differ from the reference."""
    failures: list[Failure] = []
    for part, data in _files(cases, isa):
        (folder / "cases.bin").write_bytes(data)
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"the harness ended with status {done.returncode}:\n{done.stdout[-1500:]}{done.stderr[-3000:]}")
        failures += _compare(part, (folder / "results.bin").read_bytes())
    return failures


def _files(cases: Iterable[Case], isa: str) -> Iterable[tuple[list[Case], bytes]]:
    part: list[Case] = []
    records: list[bytes] = []
    size = 0
    for case in cases:
        record = case.encode(isa)
        if part and size + len(record) + case.expected.nbytes > MAX_BYTES:
            yield part, struct.pack("<2i", len(part), 0) + b"".join(records)
            part, records, size = [], [], 0
        part.append(case)
        records.append(record)
        size += len(record) + case.expected.nbytes
    if part:
        yield part, struct.pack("<2i", len(part), 0) + b"".join(records)


def _compare(cases: Sequence[Case], data: bytes) -> list[Failure]:
    failures = []
    at = 0
    for case in cases:
        status, size = struct.unpack_from("<2i", data, at)
        got = np.frombuffer(data, case.expected.dtype, case.expected.size, at + 8)
        at += 8 + size + -size % 8
        if status != 0 or not np.array_equal(got, case.expected.reshape(-1)):
            failures.append(Failure(case, status, got))
    return failures
