"""Compiling small graphs with TVM inside a test, once per process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qcompiler.executors.reference import run_reference
from qcompiler.ir import Graph

CPUS = {"avx512vnni": "cascadelake", "avxvnni": "alderlake", "avx512": "skylake-avx512", "avx2": "haswell", "sse2": "x86-64"}
"""CPUs that have an instruction set of x86 and little beyond it, best first, by LLVM's names."""


def runnable() -> list[str]:
    """The instruction sets of `CPUS` that this machine can execute."""
    from qcompiler.targets.tvm.machine import machine_named, missing_features

    return [isa for isa, cpu in CPUS.items() if not missing_features(machine_named(cpu))]


def run_on_cpu(graph: Graph, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Outputs of a graph compiled for this machine's CPU."""
    return session_of(graph).run(arrays)


def session_of(graph: Graph, isa: str = "") -> Any:
    """A graph compiled for this machine's CPU, or for one that has an instruction set of `CPUS` and is no better."""
    from qcompiler.targets.tvm.version import require_tvm

    require_tvm()
    from qcompiler.kernels.cpu.library import CpuLibrary
    from qcompiler.targets.tvm.build import VmSession, compile_module
    from qcompiler.targets.tvm.lower import lower
    from qcompiler.targets.tvm.machine import machine_named
    from qcompiler.targets.tvm.threads import use_threads

    use_threads(1)
    machine = machine_named(CPUS[isa] if isa else "")
    lowered = lower(graph, CpuLibrary(machine.isa))
    inputs = [(v.name, v.dtype.numpy.name, len(v.shape)) for v in graph.inputs]
    session = VmSession(compile_module(lowered.module, machine.tvm_target()), lowered.constants, inputs)
    session.lowered = lowered
    return session


def built_for(graph: Graph, cpu: str, tile: Any = None) -> tuple[Any, Any]:
    """(machine code of a graph's first kernel for a CPU of LLVM's name, the lowered program); in a tile or the rule's."""
    import tvm

    from qcompiler.kernels.cpu.codegen import register_pipeline
    from qcompiler.kernels.cpu.library import CpuLibrary
    from qcompiler.targets.tvm.lower import lower
    from qcompiler.targets.tvm.machine import machine_named
    from qcompiler.targets.tvm.tune import tasks_of

    machine = machine_named(cpu)
    library = CpuLibrary(machine.isa, {} if tile is None else {tasks_of(graph, machine.isa)[1][0].key: tile})
    lowered = lower(graph, library)
    assert len(library.used) == (tile is not None)
    function = lowered.module[lowered.kernels[0].name].with_attr("global_symbol", "kernel")
    return tvm.tirx.build(function, target=machine.tvm_target(), pipeline=register_pipeline()), lowered


def differing(graph: Graph, arrays: Sequence[np.ndarray], got: Sequence[np.ndarray], tolerance: float = 2e-5) -> int:
    """Elements that differ from the reference: integers at all, real numbers by more than the tolerance.

    float32 sums are added in another order than NumPy's, and functions have other last bits.
    """
    count = 0
    for mine, wanted in zip(got, run_reference(graph, arrays), strict=True):
        assert mine.dtype == wanted.dtype and mine.shape == wanted.shape, (mine.dtype, mine.shape, wanted.dtype, wanted.shape)
        if wanted.dtype.kind == "f":
            count += int((~np.isclose(mine, wanted, rtol=tolerance, atol=tolerance, equal_nan=True)).sum())
        else:
            count += int((mine != wanted).sum())
    return count
