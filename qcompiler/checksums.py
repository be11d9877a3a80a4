"""`SHA256SUMS` in an artefact folder, as `sha256sum -c SHA256SUMS` reads it.

Verification of a runtime that rescales in real numbers compares each op closely and whole outputs loosely. That the
file that is shipped holds these ops is what the sums say.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from qcompiler.errors import UsageError

SUMS_NAME = "SHA256SUMS"
# Read by people; an artefact computes the same without them.
_NOT_SUMMED = frozenset({SUMS_NAME, "report.html", "report.json"})


def write_checksums(folder: Path) -> None:
    """Write the sums of all files that the artefact consists of."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in _NOT_SUMMED)
    lines = [f"{_sum(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    (folder / SUMS_NAME).write_text("".join(lines), encoding="utf-8")


def changed_files(folder: Path) -> list[str]:
    """A sentence per file that is missing, or is not as it was when the artefact was written.

    Raises:
        UsageError: the folder has no sums, or they cannot be read.
    """
    try:
        lines = (folder / SUMS_NAME).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {folder / SUMS_NAME} ({error}): compile again") from error
    found = []
    for line in lines:
        wanted, _, name = line.partition("  ")
        path = folder / name
        if not name or not path.resolve().is_relative_to(folder.resolve()):
            raise UsageError(f"{folder / SUMS_NAME} is damaged: {line[:100]!r} is no sum of a file in the folder")
        if not path.is_file():
            found.append(f"{name} is missing")
        elif _sum(path) != wanted:
            found.append(f"{name} was changed after it was compiled")
    return found


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
