"""Sums of an artefact's files."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from qcompiler.checksums import SUMS_NAME, changed_files, write_checksums
from qcompiler.errors import UsageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "float").mkdir()
    for name in ("model.onnx", "float/graph.txt", "report.html"):
        (tmp_path / name).write_text(name)
    write_checksums(tmp_path)
    return tmp_path


def test_untouched_files_pass_here_and_by_sha256sum(folder: Path) -> None:
    assert changed_files(folder) == []
    subprocess.run(["sha256sum", "--check", "--strict", SUMS_NAME], cwd=folder, check=True, capture_output=True)


def test_changed_and_missing_files_are_named(folder: Path) -> None:
    (folder / "model.onnx").write_text("other")
    (folder / "float" / "graph.txt").unlink()
    (folder / "report.html").unlink()  # no part of what computes
    (folder / "notes.txt").write_text("mine")
    assert changed_files(folder) == ["float/graph.txt is missing", "model.onnx was changed after it was compiled"]


@pytest.mark.parametrize("text", [None, "no sum", "00  ../outside"])
def test_sums_that_cannot_be_used(folder: Path, text: str | None) -> None:
    (folder / SUMS_NAME).unlink()
    if text is not None:
        (folder / SUMS_NAME).write_text(text)
    with pytest.raises(UsageError, match=SUMS_NAME):
        changed_files(folder)
