"""Running programs that are not Python: compilers, simulators, synthesis."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from qcompiler.errors import InternalError

SECONDS = 300.0


def call(command: Sequence[str | Path], folder: Path, what: str, seconds: float = SECONDS) -> str:
    """Standard output of a command that has to succeed.

    Args:
        command: program and arguments.
        folder: to run it in.
        what: is being done, for the message.
        seconds: after which it is stopped.

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
