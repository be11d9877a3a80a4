"""Programs and data that a test needs and a machine may lack."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


def requires_tool(name: str, *alternatives: str) -> str:
    """The path of program `name`, or of the first of `alternatives` that is installed.

    Without any of them the calling test is skipped and the program named; with `QC_REQUIRE=all`, as in CI,
    that skip is a failure (see conftest.py).
    """
    for candidate in (name, *alternatives):
        if path := shutil.which(candidate):
            return path
    pytest.skip(f"needs {' or '.join((name, *alternatives))}; on Debian: apt-get install {name}")


def requires_file(path: str | Path, package: str) -> Path:
    """`path`, a file that Debian package `package` brings.

    Without it the calling test is skipped and the package named, as for `requires_tool`.
    """
    if not Path(path).is_file():
        pytest.skip(f"needs {path}; on Debian: apt-get install {package}")
    return Path(path)


def requires_nvcc() -> str:
    """The path of nvcc, from the Python packages of extra `cuda-build` or the system; skips as `requires_tool` does."""
    from qcompiler.kernels.gpu.nvcc import INSTALL, find_nvcc

    if path := find_nvcc():
        return path
    pytest.skip(f"needs nvcc: {INSTALL}")


def requires_nvrtc() -> None:
    """NVRTC with its Python bindings, of extra `cuda`; skips as `requires_tool` does."""
    try:
        from cuda.bindings import nvrtc

        nvrtc.nvrtcVersion()
    except (ImportError, RuntimeError):
        pytest.skip("needs NVRTC: pip install 'qcompiler[cuda]'")
