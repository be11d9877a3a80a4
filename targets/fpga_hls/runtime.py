"""C simulation: a project's own C++, compiled for this machine and called through ctypes.

With the native integers of kernels/fpga_hls for whole data sets, or with the vendor's ap_int types, some thirty times
slower, for the meaning of every bit.
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
from qcompiler.targets.fpga_hls.emit import Plan, plan_network, project_texts, write_texts
from qcompiler.targets.fpga_hls.order import flatten, unflatten
from qcompiler.targets.fpga_hls.parts import Option
from qcompiler.targets.fpga_hls.toolchain import FLAGS, NATIVE, compiler, vendor_options
from qcompiler.targets.integer_check import Tap
from qcompiler.targets.programs import call

BUILD_SECONDS = 600.0


def open_folder(folder: Path, option: Option, vendor: bool = False) -> SimulationSession:
    """The project of a folder, which holds its graph as well."""
    graph = read_graph(folder / GRAPH_NAME, folder / WEIGHTS_NAME)
    return SimulationSession(graph, option, folder.absolute(), vendor)


class SimulationSession:
    """A project compiled for this machine.

    Attributes:
        graph: the program.
        plan: the units of the C++ that runs.
    """

    def __init__(self, graph: Graph, option: Option, project: Path | None = None, vendor: bool = False, options: Sequence[str] = ()) -> None:
        """Compile.

        Args:
            graph: level INTEGER.
            option: part and clock it was emitted for.
            project: its project, whose files are compiled; None emits them anew.
            vendor: with the vendor's integers instead of native ones.
            options: for the compiler, besides its own (sanitizers in tests).

        Raises:
            MissingToolError: there is no C++ compiler, or no ap_int.h.
        """
        self.graph = graph
        program = compiler()
        types = vendor_options() if vendor else [NATIVE]
        self.plan: Plan = plan_network(graph, option)
        self._folder = tempfile.TemporaryDirectory(prefix="qcompiler-hls-")
        build = Path(self._folder.name)
        folder = project or build
        if project is None:
            write_texts(build, project_texts(graph, self.plan, {}))
        (build / "hook.cpp").write_text(_HOOK_SOURCE, encoding="utf-8")
        library = build / "network.so"
        sources = [folder / "top.cpp", folder / "test/flat.cpp", build / "hook.cpp"]
        command = [program, *FLAGS, *types, "-DQC_TRACE", *options, "-shared", "-fPIC", "-I.", "-Ikernels", "-Itest", *sources, "-o", library]
        call(command, folder, "compiling the HLS project for this machine", BUILD_SECONDS)
        self._library = ctypes.CDLL(str(library))
        self._run = self._library.qc_run
        self._run.restype = None
        self._hook = _HOOK()

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Outputs, in codes, for inputs in codes."""
        return self._call(arrays)

    def run_tapped(self, arrays: Sequence[np.ndarray], on_value: Tap) -> list[np.ndarray]:
        """The same, with `on_value(value, array)` for every value of the graph that flows between units."""
        shown = self._taps()

        def hook(edge: int, data: int, count: int) -> None:
            if edge not in shown:
                return
            elements = np.ctypeslib.as_array(ctypes.cast(data, ctypes.POINTER(ctypes.c_int32)), (count,))
            for value, positions in shown[edge]:
                array = np.empty(count, value.dtype.numpy)
                array[positions] = elements
                on_value(value, array.reshape([int(d) for d in value.shape]))  # type: ignore[call-overload]

        return self._call(arrays, hook)

    @property
    def taps(self) -> set[Value]:
        """Values of the graph that `run_tapped` shows."""
        return {value for found in self._taps().values() for value, _ in found}

    def _taps(self) -> dict[int, list[tuple[Value, np.ndarray]]]:
        edges = {(e.source, e.source_port): i for i, e in enumerate(self.plan.dataflow.edges)}
        shown: dict[int, list[tuple[Value, np.ndarray]]] = {}
        for value, stream in self.plan.legalized.taps.items():
            if stream.source:
                shown.setdefault(edges[stream.source, stream.port], []).append((value, stream.positions))
        return shown

    def _call(self, arrays: Sequence[np.ndarray], hook: Callable[[int, int, int], None] | None = None) -> list[np.ndarray]:
        network = self.plan.dataflow
        for terminal, array in zip(network.inputs, arrays, strict=True):
            if array.dtype != terminal.dtype.numpy or array.shape != terminal.shape:
                raise UsageError(
                    f"input {terminal.name!r} must be {terminal.dtype.name}{list(terminal.shape)}, got {array.dtype}{list(array.shape)}"
                )
        x = np.ascontiguousarray(flatten(network.inputs, arrays))
        y = np.zeros(sum(int(np.prod(t.shape)) for t in network.outputs), np.int32)
        self._hook = _HOOK() if hook is None else _HOOK(hook)
        ctypes.c_void_p.in_dll(self._library, "qc_trace_hook").value = ctypes.cast(self._hook, ctypes.c_void_p).value
        self._run(x.ctypes.data_as(ctypes.c_void_p), y.ctypes.data_as(ctypes.c_void_p), ctypes.c_int32(1))
        return unflatten(network.outputs, y)


_HOOK = ctypes.CFUNCTYPE(None, ctypes.c_int32, ctypes.c_void_p, ctypes.c_int32)

_HOOK_SOURCE = '#include "trace.h"\n\nvoid (*qc_trace_hook)(int32_t edge, const int32_t *elements, int32_t count);\n'
