"""The artefact folder is whole or absent, whatever goes wrong while it is written."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from qcompiler.artifact import check_output, output_folder
from qcompiler.errors import UsageError
from qcompiler.lock import LOCK_NAME


def write(folder: Path, text: str) -> None:
    (folder / LOCK_NAME).write_text(text)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_new_folder_appears_whole(tmp_path):
    with output_folder(tmp_path / "deep" / "out") as folder:
        assert not (tmp_path / "deep" / "out").exists()
        write(folder, "1")
    assert names(tmp_path / "deep") == ["out"]
    assert (tmp_path / "deep" / "out" / LOCK_NAME).read_text() == "1"


def test_existing_folder_is_refused_then_replaced_with_force(tmp_path):
    out = tmp_path / "out"
    with output_folder(out) as folder:
        write(folder, "1")
    for check in (check_output, lambda o, force: output_folder(o, force=force).__enter__()):
        with pytest.raises(UsageError, match="--force"):
            check(out, force=False)
    assert check_output(out, force=True) == out
    with output_folder(out, force=True) as folder:
        write(folder, "2")
    assert (out / LOCK_NAME).read_text() == "2"
    assert names(tmp_path) == ["out"]


def test_force_never_replaces_what_is_not_an_artefact(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="not replaced, even with --force"):
        check_output(tmp_path / "home", force=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="not a folder"):
        check_output(tmp_path / "file", force=True)
    (tmp_path / "link").symlink_to(tmp_path / "home")
    with pytest.raises(UsageError, match="not a folder"):
        check_output(tmp_path / "link", force=True)
    assert names(tmp_path / "home") == ["thesis.txt"]


def test_an_empty_folder_may_be_replaced_with_force(tmp_path):
    (tmp_path / "out").mkdir()
    assert check_output(tmp_path / "out", force=True) == tmp_path / "out"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, SystemExit])
def test_any_error_leaves_nothing_and_keeps_the_old_artefact(tmp_path, error):
    out = tmp_path / "out"
    with output_folder(out) as folder:
        write(folder, "old")
    with pytest.raises(error), output_folder(out, force=True) as folder:
        write(folder, "half")
        raise error
    assert names(tmp_path) == ["out"]
    assert (out / LOCK_NAME).read_text() == "old"
    with pytest.raises(error), output_folder(tmp_path / "new" / "out") as folder:
        write(folder, "half")
        raise error
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "read-only"),
        (errno.EIO, "another"),
    ],
)
def test_errors_of_the_disk_are_usage_errors(tmp_path, code, expected):
    with pytest.raises(UsageError, match=expected), output_folder(tmp_path / "out") as folder:
        write(folder, "half")
        raise OSError(code, os.strerror(code))
    assert names(tmp_path) == []


def test_failing_rename_restores_the_old_artefact(tmp_path, monkeypatch):
    out = tmp_path / "out"
    with output_folder(out) as folder:
        write(folder, "old")
    rename = Path.rename

    def refuse_new(self, target):
        if ".tmp-" in self.name:
            raise OSError(errno.EIO, "input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse_new)
    with pytest.raises(UsageError), output_folder(out, force=True) as folder:
        write(folder, "new")
    assert (out / LOCK_NAME).read_text() == "old"
    assert names(tmp_path) == ["out"]


def test_a_place_that_cannot_be_written_is_found_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write output folder"):
        check_output(tmp_path / "file" / "out", force=False)
    if os.geteuid() == 0:  # root passes permission bits; the kernel's own file system refuses root too
        with pytest.raises(UsageError, match="cannot write output folder"):
            check_output("/proc/out", force=False)
    else:
        (tmp_path / "locked").mkdir(mode=0o500)
        with pytest.raises(UsageError, match="read-only"):
            check_output(tmp_path / "locked" / "out", force=False)
    assert check_output(tmp_path / "new" / "deep" / "out", force=False)
    assert not (tmp_path / "new").exists()


def test_a_real_write_limit_leaves_nothing(tmp_path):
    """The kernel refuses a write past the limit, as it does on a full disk."""
    code = (
        "import sys\n"
        "from qcompiler.artifact import output_folder\n"
        "with output_folder(sys.argv[1]) as folder:\n"
        "    (folder / 'weights').write_bytes(bytes(1 << 20))\n"
    )

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))

    done = subprocess.run(
        [sys.executable, "-B", "-c", code, str(tmp_path / "out")],
        check=False,
        preexec_fn=limit,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "the disk is full, or a file-size limit was reached" in done.stderr
    assert names(tmp_path) == []
