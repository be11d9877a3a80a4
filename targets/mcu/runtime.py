"""Running a project on the host: its own C, compiled by the host's compiler and called through ctypes.

Weights are packed for one instruction set, and the host has none of those, so for a core other than `host-c` the same
program is emitted once more with portable packing; the kernels compute the same integers from either.
"""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from qcompiler.artifact import GRAPH_NAME, WEIGHTS_NAME
from qcompiler.errors import UsageError
from qcompiler.graph_files import read_graph
from qcompiler.ir import Graph, Value
from qcompiler.targets.mcu.emit import Plan, plan_program, project_texts
from qcompiler.targets.mcu.emit_project import definitions, flatten, macs, unflatten, write_texts
from qcompiler.targets.mcu.host_build import shared_library
from qcompiler.targets.mcu.parts import HOST, Part, parse_part
from qcompiler.targets.mcu.toolchain import HOST_FLAGS, find

Tap = Callable[[Value, np.ndarray], None]
LARGE_MACS = 50_000_000
"""From here on optimizing longer pays: the portable loops run twice as fast when they are vectorized."""


def open_folder(folder: Path, part: Part) -> HostSession:
    """The project of a folder, which holds its graph as well."""
    graph = read_graph(folder / GRAPH_NAME, folder / WEIGHTS_NAME)
    return HostSession(graph, folder.absolute() if part.core.board is None else None)


class HostSession:
    """A program compiled for the host.

    Attributes:
        graph: the program.
        plan: the calls and memory of the C that runs.
    """

    def __init__(self, graph: Graph, project: Path | None = None, options: Sequence[str] = ()) -> None:
        """Compile.

        Args:
            graph: level INTEGER.
            project: its project for `host-c`, whose files are compiled; None emits them anew.
            options: for the compiler, besides its own (sanitizers in tests).

        Raises:
            MissingToolError: there is no C compiler.
        """
        self.graph = graph
        compiler = find("cc", "run the C project on this machine")
        self.plan: Plan = plan_program(graph, parse_part(HOST, ""))
        self._folder = tempfile.TemporaryDirectory(prefix="qcompiler-host-")
        build = Path(self._folder.name)
        folder = project or build
        if project is None:
            write_texts(build, project_texts(self.plan, {}))
        fast = ("-O3",) if macs(self.plan.program.steps) >= LARGE_MACS else ()
        flags = [*HOST_FLAGS, *fast, *definitions(self.plan.program), "-DQC_PORTABLE=1", "-DQC_TRACE=1", "-shared", "-fPIC"]
        sources = [folder / "model.c", folder / "model_data.c", *sorted((folder / "kernels").glob("*.c")), folder / "test/flat.c"]
        (build / "trace.c").write_text(_TRACE, encoding="utf-8")
        library = build / "model.so"
        command = [compiler, *flags, *options, "-I.", "-Ikernels", "-Itest"]
        shared_library(command, folder, [*sources, build / "trace.c"], library)
        self._library = ctypes.CDLL(str(library))
        self._run = self._library.qc_flat_run
        self._run.restype = None
        self._hook = _HOOK()

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Outputs, in codes, for inputs in codes."""
        return self._call(arrays)

    def run_tapped(self, arrays: Sequence[np.ndarray], on_value: Tap) -> list[np.ndarray]:
        """The same, with `on_value(value, array)` for every value of the graph that a call leaves in memory."""
        taps: dict[int, list[tuple[Value, object]]] = {}
        for index, value, tensor in self.plan.program.taps:
            taps.setdefault(index, []).append((value, tensor))

        def hook(step: int, data: int, size: int) -> None:
            raw = np.frombuffer(ctypes.string_at(data, size), np.uint8)
            for value, tensor in taps.get(step, ()):
                on_value(value, unflatten([tensor], raw)[0])  # type: ignore[list-item]

        return self._call(arrays, hook)

    def _call(self, arrays: Sequence[np.ndarray], hook: Callable[[int, int, int], None] | None = None) -> list[np.ndarray]:
        program = self.plan.program
        for tensor, array, name in zip(program.inputs, arrays, program.input_names, strict=True):
            if array.dtype != tensor.dtype.numpy or array.shape != tensor.shape:
                raise UsageError(
                    f"input {name!r} must be {tensor.dtype.name}{list(tensor.shape)}, got {array.dtype}{list(array.shape)}"
                )
        x = _aligned(flatten(program.inputs, arrays))
        y = _aligned(flatten(program.outputs, [np.zeros(t.shape, t.dtype.numpy) for t in program.outputs]))
        self._hook = _HOOK() if hook is None else _HOOK(hook)
        ctypes.c_void_p.in_dll(self._library, "qc_trace_hook").value = ctypes.cast(self._hook, ctypes.c_void_p).value
        self._run(x.ctypes.data_as(ctypes.c_void_p), y.ctypes.data_as(ctypes.c_void_p))
        return unflatten(program.outputs, y.view(np.uint8))


_HOOK = ctypes.CFUNCTYPE(None, ctypes.c_int32, ctypes.c_void_p, ctypes.c_int32)

_TRACE = """#include <stdint.h>
void (*qc_trace_hook)(int32_t step, const void *data, int32_t bytes);
void qc_trace(int32_t step, const void *data, int32_t bytes);
void qc_trace(int32_t step, const void *data, int32_t bytes)
{
    if (qc_trace_hook != 0) {
        qc_trace_hook(step, data, bytes);
    }
}
"""


def _aligned(raw: np.ndarray) -> np.ndarray:
    """The bytes as 64-bit words, which NumPy aligns."""
    return np.frombuffer(raw.tobytes(), np.int64).copy()
