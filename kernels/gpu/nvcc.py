"""nvcc from the Python packages of extra `cuda-build` or the system: one call makes the code for all architectures."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qcompiler.errors import InternalError, MissingToolError

ARCHITECTURES = (80, 86, 89, 90)
INSTALL = "pip install 'qcompiler[cuda-build]'"
PACKAGES = ("nvidia.cu13",)


def find_nvcc() -> str | None:
    """The path of nvcc: of the packages beside this Python, else on PATH; None if there is none."""
    for name in PACKAGES:
        try:
            spec = importlib.util.find_spec(name)
        except ModuleNotFoundError:
            continue
        for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
            path = Path(folder) / "bin" / "nvcc"
            if path.is_file():
                return str(path)
    return shutil.which("nvcc")


def fatbin(source: Path, headers: Path, output: Path, architectures: Sequence[int] = ARCHITECTURES) -> list[dict[str, Any]]:
    """Compile a source for every architecture into one file.

    Returns:
        For every kernel and architecture `kernel, arch, registers, spill_bytes, shared_bytes`, as ptxas reports them.

    Raises:
        MissingToolError: there is no nvcc.
        InternalError: the source does not compile.
    """
    nvcc = find_nvcc()
    if nvcc is None:
        raise MissingToolError(f"CUDA targets compile kernels with nvcc, which is not installed: {INSTALL}")
    targets = [f for a in architectures for f in ("-gencode", f"arch=compute_{a},code=sm_{a}")]
    command = [nvcc, "-std=c++17", "-O3", "-Xptxas", "-v", *targets, "-I", str(headers), "-fatbin", str(source), "-o", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InternalError(f"CUDA kernels do not compile:\n{(done.stdout + done.stderr)[-3000:]}")
    return parse_resources(done.stdout + done.stderr)


def parse_resources(text: str) -> list[dict[str, Any]]:
    """What ptxas says with -v, one row per kernel and architecture, sorted."""
    rows: list[dict[str, Any]] = []
    for part in text.split("Compiling entry function '")[1:]:
        head = re.match(r"(\w+)' for 'sm_(\d+)'", part)
        used = re.search(r"Used (\d+) registers", part)
        assert head and used, "ptxas writes in another form"
        spills = [int(v) for v in re.findall(r"(\d+) bytes spill", part)]
        shared = re.search(r"(\d+) bytes smem", part)
        rows.append(
            {
                "kernel": head[1], "arch": int(head[2]), "registers": int(used[1]), "spill_bytes": sum(spills),
                "shared_bytes": int(shared[1]) if shared else 0,
            }
        )  # fmt: skip
    return sorted(rows, key=lambda r: (r["kernel"], r["arch"]))
