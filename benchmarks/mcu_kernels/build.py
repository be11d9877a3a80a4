"""Compiles the harness for an instruction set and runs cases through it."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qcompiler.kernels.mcu import sources
from qcompiler.kernels.mcu.pack import PROFILES

from .case import Case

HERE = Path(__file__).parent
WARNINGS = (
    "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-Wconversion", "-Wshadow", "-Wstrict-prototypes", "-Wmissing-prototypes",
)  # fmt: skip
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
    command = [compiler, "-std=c99", "-O2", *WARNINGS, *extra, *_defines(profile), "-o", str(program)]
    subprocess.run([*command, str(HERE / "harness.c"), *map(str, kernel_files())], check=True)
    return [str(program)]


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
