"""What to look at while a compile runs, by environment variables.

QC_DEBUG=1  one line per pass on stderr: name, kind, whether it changed the graph, seconds, sites
QC_DEBUG=2  and every site refused, with the reason
QC_DEBUG=3  and every site taken
QC_DEBUG=4  and the graph after every pass that changed it; the verifier runs after every pass
QC_DUMP=dir the graph after every pass, `NNN_pass.txt` and `NNN_pass.safetensors`; `load_dump` reads them
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from qcompiler.errors import UsageError
from qcompiler.graph_files import read_graph, write_graph

if TYPE_CHECKING:
    from qcompiler.ir import Graph
    from qcompiler.passes.base import Step


def debug_level() -> int:
    """The value of QC_DEBUG, 0 if it is not set. Raises UsageError for anything but 0 to 4."""
    text = os.environ.get("QC_DEBUG", "0") or "0"
    if text not in {"0", "1", "2", "3", "4"}:
        raise UsageError(f"QC_DEBUG={text}: expected 0, 1, 2, 3 or 4")
    return int(text)


def after_pass() -> Callable[[Graph, Step], None]:
    """What the pass runner calls after each pass: prints and dumps what the environment asks for.

    Raises UsageError where QC_DEBUG is not a level or QC_DUMP cannot be written.
    """
    level = debug_level()
    folder = os.environ.get("QC_DUMP")
    count = 0

    def after(graph: Graph, step: Step) -> None:
        nonlocal count
        if level:
            print(describe_step(graph, step, level), file=sys.stderr)
        if folder:
            write_dump(graph, Path(folder) / f"{count:03d}_{step.name}.txt")
        count += 1

    return after


def describe_step(graph: Graph, step: Step, level: int) -> str:
    """The lines that QC_DEBUG prints for one pass."""
    taken = [note for note in step.notes if note.taken]
    refused = [note for note in step.notes if not note.taken]
    state = "changed" if step.changed else "unchanged"
    lines = [
        f"[{step.kind.value}] {step.name}: {state} in {step.seconds:.3f} s, "
        f"{len(taken)} taken, {len(refused)} refused"
    ]
    if level >= 2:
        lines += [f"    refused {note.site}: {note.reason}" for note in refused]
    if level >= 3:
        lines += [f"    taken {note.site}: {note.reason}" for note in taken]
    if level >= 4 and step.changed:
        lines.append(str(graph))
    return "\n".join(lines)


def write_dump(graph: Graph, path: Path) -> None:
    """Write a graph as text beside its constants. Raises UsageError where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_graph(graph, path, path.with_suffix(".safetensors"))
    except OSError as error:
        raise UsageError(f"cannot write dump {path}: {error.strerror or error}") from error


def load_dump(path: str | Path) -> Graph:
    """Read back a graph from its text file and the `.safetensors` beside it. Raises UsageError."""
    path = Path(path)
    return read_graph(path, path.with_suffix(".safetensors"))
