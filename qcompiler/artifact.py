"""The artefact folder: written beside its final place and renamed at the end, so it is whole or absent."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qcompiler.errors import UsageError
from qcompiler.lock import LOCK_NAME

GRAPH_NAME = "graph.txt"
WEIGHTS_NAME = "weights.safetensors"
FLOAT_FOLDER = "float"
"""Holds the float program, in the same two files."""

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def check_output(out: str | Path, *, force: bool) -> Path:
    """The final path of an output folder, checked before any work is done.

    Raises UsageError if it exists (without `force`), if it exists and is not an artefact folder, or if
    nothing can be written beside it.
    """
    path = Path(os.path.abspath(out))
    if path.is_symlink() or path.exists():
        _check_existing(path, force)
    with writing(path):
        _scratch_beside(path)
    return path


def _check_existing(path: Path, force: bool) -> None:
    if not path.is_dir() or path.is_symlink():
        raise UsageError(f"output {path} exists and is not a folder: name another one")
    if not force:
        raise UsageError(f"output folder {path} exists: name another one, or pass --force to replace it")
    if any(path.iterdir()) and not (path / LOCK_NAME).is_file():
        raise UsageError(
            f"output folder {path} holds something else than an artefact (no {LOCK_NAME} in it): "
            "it is not replaced, even with --force"
        )


def _scratch_beside(path: Path) -> None:
    """Make and remove a folder where the work will go, to fail before the work rather than after it."""
    made = _make_parents(path)
    work = _work_path(path)
    try:
        work.mkdir()
        work.rmdir()
    finally:
        _remove_empty(made)


@contextmanager
def output_folder(out: str | Path, *, force: bool = False) -> Iterator[Path]:
    """A new folder to write into, renamed to `out` on success and removed on any error or interrupt.

    With `force` an existing artefact is replaced only once the new one is complete. Raises UsageError for an
    `out` that exists, and where the place is read-only or full.
    """
    path = Path(os.path.abspath(out))
    if path.is_symlink() or path.exists():
        _check_existing(path, force)
    work = _work_path(path)
    made: list[Path] = []
    try:
        with writing(path):
            made = _make_parents(path)
            work.mkdir()
            yield work
            _sync_tree(work)
            _replace(work, path)
    except BaseException:  # Ctrl-C included: nothing half-written may stay
        shutil.rmtree(work, ignore_errors=True)
        _remove_empty(made)
        raise


def _replace(work: Path, path: Path) -> None:
    old = path.with_name(f"{path.name}.old-{secrets.token_hex(4)}") if path.exists() else None
    if old is not None:
        path.rename(old)
    try:
        work.rename(path)
    except BaseException:
        if old is not None:
            old.rename(path)
        raise
    _sync(path.parent)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


def _work_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.tmp-{secrets.token_hex(4)}")


def _make_parents(path: Path) -> list[Path]:
    """Create the missing parents of `path`; returns those created, innermost first."""
    missing = []
    parent = path.parent
    while not parent.exists():
        missing.append(parent)
        parent = parent.parent
    path.parent.mkdir(parents=True, exist_ok=True)
    return missing


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return


def _sync_tree(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def writing(path: Path, what: str = "output folder") -> Iterator[None]:
    """Operating-system errors of writing as UsageError that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in _DISK:
            hint = "the disk is full, or a file-size limit was reached: free some space or name another place"
        elif error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            hint = "the place is read-only: name a folder you may write to"
        else:
            hint = "name another place"
        raise UsageError(f"cannot write {what} {path}: {error.strerror or error} ({hint})") from error
