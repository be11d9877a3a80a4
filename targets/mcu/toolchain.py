"""Programs that are not Python: compilers, binutils, the emulator. Missing ones are named with their package."""

from __future__ import annotations

import shutil

from qcompiler.errors import MissingToolError
from qcompiler.targets.programs import SECONDS, call

__all__ = ["ARM_FLAGS", "HOST_FLAGS", "PACKAGES", "PREFIX", "SECONDS", "WARNINGS", "call", "find"]

PREFIX = "arm-none-eabi-"
PACKAGES = {
    f"{PREFIX}gcc": "gcc-arm-none-eabi libnewlib-arm-none-eabi",
    "qemu-system-arm": "qemu-system-arm",
    "cc": "gcc libc6-dev",
    "make": "make",
}

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
