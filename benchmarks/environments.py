"""Environments of their own for peers whose packages do not go together with those of the project."""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path


def environment(folder: Path, pins: Sequence[str], *options: str) -> Path:
    """The Python of an environment with these packages; one that was made before is taken as it is.

    Args:
        folder: of the environment.
        pins: requirements, `name==version`.
        options: further ones of `pip install`.
    """
    python, done = folder / "bin" / "python", folder / "done"
    if not done.exists():
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *options, *pins], check=True, stdout=sys.stderr)
        done.touch()
    return python
