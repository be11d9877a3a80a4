"""Programs that are not Python: compilers, binutils, the emulator. Missing ones are named with their package."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from qcompiler.errors import InternalError, MissingToolError

PREFIX = "arm-none-eabi-"
PACKAGES = {
    f"{PREFIX}gcc": "gcc-arm-none-eabi libnewlib-arm-none-eabi",
    "qemu-system-arm": "qemu-system-arm",
    "cc": "gcc libc6-dev",
    "make": "make",
}
SECONDS = 300.0

WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wconversion")
ARM_FLAGS = (
    "-mthumb", "-O2", "-std=c99", *WARNINGS, "-ffreestanding", "-ffunction-sections", "-fdata-sections",
    "-fno-unwind-tables", "-fno-asynchronous-unwind-tables",
)  # fmt: skip
HOST_FLAGS = ("-O2", "-std=c99", *WARNINGS)


def find(program: str, what_for: str) -> str:
    """Path of a program.

    Raises:
        MissingToolError: naming the Debian package.
    """
    names = (program, "gcc", "clang") if program == "cc" else (program,)
    for name in names:
        if path := shutil.which(name):
            return path
    package = PACKAGES.get(program, PACKAGES[f"{PREFIX}gcc"])
    raise MissingToolError(f"{program} is needed to {what_for}, and is not installed: apt-get install {package}")


def call(command: Sequence[str | Path], folder: Path, what: str, seconds: float = SECONDS) -> str:
    """Standard output of a command that has to succeed.

    Raises:
        InternalError: with the end of what it said.
    """
    done = subprocess.run(
        [str(part) for part in command], cwd=folder, capture_output=True, text=True, errors="replace", check=False,
        timeout=seconds, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if done.returncode != 0:
        raise InternalError(f"{what} failed ({' '.join(map(str, command[:1]))}, status {done.returncode}):\n{done.stderr[-3000:]}")
    return done.stdout
