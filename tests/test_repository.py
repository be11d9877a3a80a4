"""The promises about the repository itself: layout, packaging, who imports what, nothing of one machine."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("qcompiler", "passes", "targets", "kernels")
TRACKED = subprocess.run(
    ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
    cwd=ROOT, check=True, capture_output=True, text=True,
).stdout.rstrip("\0").split("\0")  # fmt: skip
SOURCES = [ROOT / name for name in TRACKED if name.startswith(PACKAGES) and (ROOT / name).is_file()]
PYTHON = [ROOT / name for name in TRACKED if name.endswith(".py") and (ROOT / name).is_file()]

# Framework -> the folders that may import it.
SCRIPTS = ("tests", "benchmarks", "examples", "docs")
MAY_IMPORT = {
    "torch": (
        "qcompiler/frontend", "qcompiler/executors", "qcompiler/calibration", "qcompiler/search/sensitivity",
        "passes/transform", "passes/rounding", *SCRIPTS,
    ),
    "onnx": ("targets/onnx", "qcompiler/frontend", *SCRIPTS),
    "onnxruntime": ("targets/onnx", *SCRIPTS),
    "tvm": ("targets/tvm", "kernels/cpu", "kernels/gpu", *SCRIPTS),
    **dict.fromkeys(("passes", "targets", "kernels"), ()),
}  # fmt: skip


def _imports(path: Path) -> set[str]:
    """Top-level names that a Python file imports, wherever in the file it does so."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return found


def _beneath(path: Path, folders: tuple[str, ...]) -> bool:
    """Whether `path` lies in one of `folders` or is the module of that name."""
    name = path.relative_to(ROOT).with_suffix("").as_posix()
    return any(name == folder or name.startswith(f"{folder}/") for folder in folders)


def test_top_level_names() -> None:
    for name in (*PACKAGES, "tests", "examples", "benchmarks", "docs"):
        assert (ROOT / name).is_dir(), name
    for name in ("Makefile", "README.md", "LICENSE", "pyproject.toml", "constraints.txt", ".ci/run"):
        assert (ROOT / name).is_file(), name


def test_files_hold_one_idea() -> None:
    code = [path for path in SOURCES if path.suffix in (".py", ".c", ".h", ".cu", ".cpp")]
    lengths = {str(p.relative_to(ROOT)): len(p.read_text(encoding="utf-8").splitlines()) for p in code}
    assert {name: lines for name, lines in lengths.items() if lines > 400} == {}


def test_nothing_of_one_machine() -> None:
    pattern = re.compile(r"/(?:work|home|tmp|root|Users)/[\w.]+|https?://(?:localhost|127\.|10\.|192\.168\.)")
    found = []
    for name in TRACKED:
        path = ROOT / name
        if path.suffix in (".py", ".md", ".toml", ".yaml", ".txt", ".c", ".h", ".j2") or "." not in path.name:
            text = path.read_text(encoding="utf-8") if path.is_file() else ""
            found += [f"{name}: {match.group()}" for match in pattern.finditer(text) if name != "LICENSE"]
    assert found == []


@pytest.mark.parametrize("framework", MAY_IMPORT)
def test_imports_stay_behind_their_packages(framework: str) -> None:
    using = [path for path in PYTHON if framework in _imports(path)]
    assert [str(path.relative_to(ROOT)) for path in using if not _beneath(path, MAY_IMPORT[framework])] == []


def test_targets_do_not_import_each_other() -> None:
    for path in PYTHON:
        if not _beneath(path, ("targets",)) or path.parent == ROOT / "targets":
            continue
        family = path.relative_to(ROOT / "targets").parts[0]
        named = set(re.findall(r"qcompiler\.targets\.(\w+)", path.read_text(encoding="utf-8")))
        others = {folder.name for folder in (ROOT / "targets").iterdir() if folder.is_dir()} - {family}
        assert named & others == set(), path


def test_wheel_holds_every_file(tmp_path: Path) -> None:
    """Every tracked file of the packages, new folders included, at the path it is imported from."""
    copy = tmp_path / "source"
    for name in TRACKED:
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    build = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
    result = subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)], cwd=copy, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    with zipfile.ZipFile(tmp_path / result.stdout.splitlines()[-1]) as wheel:
        installed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    expected = {path.relative_to(ROOT).as_posix() for path in SOURCES if path.suffix != ".md"}
    assert installed == {name if name.startswith("qcompiler/") else f"qcompiler/{name}" for name in expected}


def test_every_folder_is_a_package() -> None:
    folders = {path.parent for path in SOURCES if path.suffix == ".py"}
    assert [str(f.relative_to(ROOT)) for f in folders if not (f / "__init__.py").is_file()] == []


def test_no_large_files() -> None:
    """What runs leave behind (exported weights, say) is not part of the source; small trained networks are."""
    large = {name: size for name in TRACKED if (ROOT / name).is_file() and (size := (ROOT / name).stat().st_size) > 2e6}
    assert large == {}
