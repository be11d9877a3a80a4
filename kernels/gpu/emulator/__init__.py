"""The CPU emulator: CUDA sources compiled by g++, threads as fibers, every memory access checked.

`build` compiles kernels into a library; `EmulatedLibrary.launch` runs one. Out-of-bounds accesses, races in shared
memory or between threads on global memory, reads of shared memory that nobody wrote, misaligned vector accesses,
warp-wide instructions that a part of the warp reaches, and results that were not written are `EmulationError`s that
name kernel, thread and buffer. What it does not model: time, caches, and the order of the hardware's additions in
float16 products.
"""

from __future__ import annotations

import atexit
import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from qcompiler.errors import InternalError, MissingToolError, QCError

SOURCES = Path(__file__).parent
CUDA = SOURCES.parent / "cuda"
RUNTIME = ("scheduler.cpp", "memory.cpp", "warp.cpp")
MOST_KEPT = 200
"""Libraries in the cache."""

GAP = 1 << 16
"""Bytes between the buffers of a launch that belong to none."""


class EmulationError(QCError):
    """A kernel did what a GPU does not promise; the message names kernel, thread and buffer."""

    exit_code = 5


class _Window(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("data", ctypes.c_void_p), ("size", ctypes.c_int64), ("mode", ctypes.c_int))


@dataclass(frozen=True)
class Region:
    """Bytes that a launch may touch, as a flat uint8 array that is changed in place.

    Attributes:
        access: `read`; `write`: every byte has to be written; `part`: some may be.
    """

    name: str
    data: np.ndarray
    access: str


_MODES = {"read": 0, "write": 1, "part": 2}


class EmulatedLibrary:
    """Compiled kernels."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        self._launch = self._library.qc_emu_launch
        self._launch.restype = ctypes.c_int
        self._one_at_a_time = threading.Lock()
        self._conflicts = self._library.qc_emu_bank_conflicts
        self._conflicts.restype = ctypes.c_uint64

    @property
    def bank_conflicts(self) -> int:
        """Rows of matrix loads that found their bank of shared memory taken, in all launches so far."""
        return int(self._conflicts())

    def launch(
        self, kernel: str, grid: Sequence[int], block: Sequence[int], parameters: bytes | Callable[[Sequence[int]], bytes], regions: Sequence[Region]
    ) -> None:
        """Run a kernel over its grid.

        Args:
            kernel: name.
            grid, block: three sizes each.
            parameters: bytes of its struct, or a function of the regions' addresses that gives them.
            regions: all global memory that it may touch; copied to places far from each other, and back.

        Raises:
            EmulationError: see the module.
        """
        total = sum(-(-r.data.size // 256) * 256 + GAP for r in regions) + GAP
        memory = np.empty(total + 256, np.uint8)
        base = memory.ctypes.data + (-memory.ctypes.data) % 256
        at, places = base + GAP, []
        for region in regions:
            places.append(at)
            ctypes.memmove(at, region.data.ctypes.data, region.data.size)
            at += -(-region.data.size // 256) * 256 + GAP
        raw = parameters if isinstance(parameters, bytes) else parameters(places)
        held = np.zeros(len(raw) // 8 + 2, np.int64)  # aligned
        ctypes.memmove(held.ctypes.data, raw, len(raw))
        windows = (_Window * max(1, len(regions)))(
            *[_Window(r.name.encode(), place, r.data.size, _MODES[r.access]) for r, place in zip(regions, places)]
        )
        text = ctypes.create_string_buffer(1000)
        three = ctypes.c_uint32 * 3
        body = ctypes.cast(getattr(self._library, kernel), ctypes.c_void_p)
        with self._one_at_a_time:
            failed = self._launch(
                body, kernel.encode(), three(*grid), three(*block), ctypes.c_void_p(held.ctypes.data), ctypes.c_int64(len(raw)),
                windows, len(regions), text, len(text),
            )  # fmt: skip
        if failed:
            raise EmulationError(text.value.decode())
        for region, place in zip(regions, places):
            if region.access != "read":
                ctypes.memmove(region.data.ctypes.data, place, region.data.size)


_FLAGS = ("-std=c++17", "-fPIC", "-Wall", "-Wextra", "-Wno-unknown-pragmas", "-Wno-unused-variable")
_built: dict[str, EmulatedLibrary] = {}


def build(source: str, headers: Path = CUDA) -> EmulatedLibrary:
    """Compile CUDA C++; the library is kept in the user's cache folder, named by the hash of all that it is made of.

    Raises:
        MissingToolError: there is no g++.
        InternalError: the source does not compile.
    """
    compiler = shutil.which("g++")
    if compiler is None:
        raise MissingToolError("the CUDA emulator compiles kernels for this machine with g++, which is not installed: apt-get install g++")
    files = [*sorted(SOURCES.glob("*.cpp")), *sorted(SOURCES.glob("*.h")), *sorted(headers.glob("*.cuh"))]
    digest = hashlib.sha256(source.encode() + b"".join(f.read_bytes() for f in files) + compiler.encode()).hexdigest()[:32]
    if digest not in _built:
        path = cache_folder() / f"{digest}.so"
        if not path.is_file():
            _compile(compiler, source, headers, path)
        _built[digest] = EmulatedLibrary(path)
    return _built[digest]


def cache_folder() -> Path:
    """Where compiled kernels are kept: `$XDG_CACHE_HOME/qcompiler/emulator`, `~/.cache` by default.

    A folder of this process where that cannot be written.
    """
    root = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(root) / "qcompiler" / "emulator"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    return _private_folder()


@cache
def _private_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="qcompiler-emulator-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _compile(compiler: str, source: str, headers: Path, path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="qcompiler-emulator-") as folder:
        work = Path(folder)
        (work / "kernels.cpp").write_text(source, encoding="utf-8")
        include = ("-I", str(SOURCES), "-I", str(headers))
        checked = ("-O2", "-fsanitize=thread", "-fno-exceptions", "-DQC_EMULATOR")
        _call((compiler, *_FLAGS, *checked, *include, "-c", "kernels.cpp"), work)
        _call((compiler, "-shared", "-Wl,--no-undefined", "kernels.o", str(_runtime(compiler)), "-o", "library.so"), work)
        _keep(work / "library.so", path)


def _runtime(compiler: str) -> Path:
    """The emulator itself as one object file, compiled once."""
    files = [*sorted(SOURCES.glob("*.cpp")), *sorted(SOURCES.glob("*.h"))]
    digest = hashlib.sha256(b"".join(f.read_bytes() for f in files) + compiler.encode()).hexdigest()[:32]
    path = cache_folder() / f"{digest}.o"
    if not path.is_file():
        with tempfile.TemporaryDirectory(prefix="qcompiler-emulator-") as folder:
            work = Path(folder)
            _call((compiler, *_FLAGS, "-O3", "-fvisibility=hidden", "-c", *(str(SOURCES / f) for f in RUNTIME)), work)
            _call((compiler, "-r", *(Path(f).stem + ".o" for f in RUNTIME), "-o", "runtime.o"), work)
            _keep(work / "runtime.o", path)
    return path


def _keep(made: Path, path: Path) -> None:
    """Put a file into the cache at once, whole, whoever else does the same; the oldest files make room."""
    others = sorted(path.parent.glob("*.so"), key=lambda f: f.stat().st_mtime if f.exists() else 0.0)
    for old in others[: -MOST_KEPT or None]:
        old.unlink(missing_ok=True)
    new = path.with_name(f"{path.name}.{os.getpid()}")
    shutil.copyfile(made, new)
    os.replace(new, path)


def _call(command: Sequence[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InternalError(f"CUDA kernels do not compile for the emulator:\n{done.stderr[-3000:]}")
