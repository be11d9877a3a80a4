"""Compiling a project's C for this machine, once per content: verification, evaluation and `run` share one build."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from qcompiler.targets.mcu.toolchain import call

KEPT = 4
"""Libraries that this process remembers; the least recently used goes first."""

_built: OrderedDict[str, tempfile.TemporaryDirectory[str]] = OrderedDict()


def shared_library(command: Sequence[str], folder: Path, sources: Sequence[Path], target: Path) -> None:
    """Write the shared library that a command makes of some sources to `target`.

    A copy of its own for each caller: libraries have static memory, and two sessions must not share it.

    Args:
        command: compiler and options, without sources and output.
        folder: to run it in; headers below it count as part of the content.
        sources: C files.
        target: file to write.

    Raises:
        InternalError: the compiler refuses.
    """
    digest = hashlib.sha256("\0".join(command).encode())
    for path in [*sources, *sorted(folder.rglob("*.h"))]:
        digest.update(f"\0{path.name}\0".encode() + path.read_bytes())
    key = digest.hexdigest()
    if key not in _built:
        kept = tempfile.TemporaryDirectory(prefix="qcompiler-build-")
        call([*command, *map(str, sources), "-o", str(Path(kept.name) / "model.so")], folder, "compiling the C project for this machine")
        _built[key] = kept
    _built.move_to_end(key)
    while len(_built) > KEPT:
        _built.popitem(last=False)[1].cleanup()
    shutil.copyfile(Path(_built[key].name) / "model.so", target)
