"""Compiling small graphs with TVM inside a test, once per process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qcompiler.executors.reference import run_reference
from qcompiler.ir import Graph


def run_on_cpu(graph: Graph, arrays: Sequence[np.ndarray], isa: str | None = None) -> list[np.ndarray]:
    """Outputs of a graph compiled for this machine's CPU."""
    return session_of(graph, isa).run(arrays)


def session_of(graph: Graph, isa: str | None = None) -> Any:
    """A graph compiled for this machine's CPU, with the kernels of its own or another instruction set."""
    from qcompiler.targets.tvm.version import require_tvm

    require_tvm()
    from qcompiler.kernels.cpu.isa import isa_named
    from qcompiler.kernels.cpu.library import CpuLibrary
    from qcompiler.targets.tvm.build import VmSession, compile_module
    from qcompiler.targets.tvm.lower import lower
    from qcompiler.targets.tvm.machine import host_machine
    from qcompiler.targets.tvm.threads import use_threads

    use_threads(1)
    machine = host_machine()
    lowered = lower(graph, CpuLibrary(machine.isa if isa is None else isa_named(isa)))
    inputs = [(v.name, v.dtype.numpy.name, len(v.shape)) for v in graph.inputs]
    session = VmSession(compile_module(lowered.module, machine.tvm_target()), lowered.constants, inputs)
    session.lowered = lowered
    return session


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


def built(graph: Graph, cpu: str) -> tuple[Any, Any]:
    """(machine code of the first kernel, how it was described)."""
    import tvm

    from qcompiler.kernels.cpu.codegen import register_pipeline
    from qcompiler.kernels.cpu.library import CpuLibrary
    from qcompiler.targets.tvm.lower import lower
    from qcompiler.targets.tvm.machine import machine_named

    machine = machine_named(cpu)
    lowered = lower(graph, CpuLibrary(machine.isa))
    function = lowered.module[lowered.kernels[0].name].with_attr("global_symbol", "kernel")
    return tvm.tirx.build(function, target=machine.tvm_target(), pipeline=register_pipeline()), lowered
