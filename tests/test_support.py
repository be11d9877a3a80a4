"""The rules of conftest.py, tried on small test files of their own, and the helpers in support/."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch

from qcompiler.frontend.torchvision_schemas import declare_torchvision_schemas
from support.tools import requires_tool
from support.vision import create_timm_model

SKIPS = """
import pytest
from support.tools import requires_tool
def test_missing(): requires_tool("no-such-program")
@pytest.mark.skip(reason="marked")
def test_marked(): pass
@pytest.mark.xfail(reason="known", strict=True)
def test_known(): assert False
def test_passes(): pass
"""


def _pytest(folder: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in `folder` under a copy of this conftest.py, as one of tests/."""
    here = Path(__file__).parent
    shutil.copy(here / "conftest.py", folder)
    environment = {k: v for k, v in os.environ.items() if k != "QC_REQUIRE" and not k.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-q", "-rsf", "-p", "no:cacheprovider", "-c", os.devnull]
    return subprocess.run(
        [*command, f"--rootdir={folder}", "-o", f"pythonpath={here}", *args],
        cwd=folder, env=environment | env, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_skips_name_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "test_skips.py").write_text(SKIPS)
    result = _pytest(tmp_path)
    assert result.returncode == 0, result.stdout
    assert "needs no-such-program" in result.stdout
    assert "1 passed, 2 skipped, 1 xfailed" in result.stdout


def test_required_skips_fail_under_xdist(tmp_path: Path) -> None:
    (tmp_path / "test_skips.py").write_text(SKIPS)
    (tmp_path / "test_module.py").write_text("import pytest\npytest.importorskip('no_such_module')\n")
    result = _pytest(tmp_path, "-n", "1", "--continue-on-collection-errors", QC_REQUIRE="all")
    assert result.returncode == 1, result.stdout
    assert "1 failed, 1 passed, 1 xfailed, 2 errors" in result.stdout
    assert "needs no-such-program" in result.stdout and "no_such_module" in result.stdout


def test_golden_file_is_written_then_compared(tmp_path: Path) -> None:
    test = tmp_path / "test_text.py"
    test.write_text("def test_a(golden):\n    golden('one')\n    golden('two', 'second')\n")
    assert "no golden/test_text/test_a.txt" in _pytest(tmp_path).stdout
    assert _pytest(tmp_path, "--update-golden").returncode == 0
    assert (tmp_path / "golden/test_text/test_a.txt").read_text() == "one\n"
    assert (tmp_path / "golden/test_text/test_a-second.txt").read_text() == "two\n"
    assert _pytest(tmp_path).returncode == 0
    test.write_text("def test_a(golden):\n    golden('other')\n")
    assert _pytest(tmp_path).returncode == 1


def test_requires_tool_takes_the_first_installed() -> None:
    assert requires_tool("no-such-program", "git") == shutil.which("git")


def test_timm_works_beside_a_cpu_torch() -> None:
    model = create_timm_model("resnet18", num_classes=3)
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 3)
    assert torch.equal(model.conv1.weight, create_timm_model("resnet18", num_classes=3).conv1.weight)


def test_transformers_import_beside_a_cpu_torch() -> None:
    declare_torchvision_schemas()
    from transformers import ViTModel

    assert issubclass(ViTModel, torch.nn.Module)
