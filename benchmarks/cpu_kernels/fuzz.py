"""Random integer programs of one op each, many of them compiled into one library, compared with the reference by ==."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.gpu_kernels.generators import FAMILIES, draw_graph
from qcompiler.errors import UnsupportedError
from qcompiler.executors.reference import run_reference
from qcompiler.ir import Graph, Level

Case = tuple[str, int]
"""Family and seed."""


def cases_of(first: int, count: int) -> list[Case]:
    """`count` cases from number `first` on, the families in turns."""
    names = list(FAMILIES)
    return [(names[i % len(names)], i // len(names)) for i in range(first, first + count)]


def refused(cases: Sequence[Case], machine: Any) -> list[Case]:
    """Cases that no kernel is for: products of two computed operands of which one leaves 16 bits without its zero point."""
    from qcompiler.kernels.cpu.library import CpuLibrary
    from qcompiler.targets.tvm.lower import lower

    found = []
    for case in (c for c in cases if c[0] == "matmul"):  # others are never refused
        try:
            lower(draw_graph(*case)[0], CpuLibrary(machine.isa))
        except UnsupportedError as error:
            if "do not fit 16 bits" not in str(error):
                raise
            found.append(case)
    return found


def differing(cases: Sequence[Case], machine: Any) -> dict[Case, int]:
    """Integers that differ, by case, for cases compiled into one library; cases without a difference are not in it.

    `machine` is what they are compiled for: this one, or one whose instructions it has.
    """
    from qcompiler.kernels.cpu.library import CpuLibrary
    from qcompiler.targets.tvm.build import VmSession, compile_module
    from qcompiler.targets.tvm.lower import lower
    from qcompiler.targets.tvm.threads import use_threads

    use_threads(1)
    drawn = [draw_graph(family, seed) for family, seed in cases]
    graphs = [graph for graph, _ in drawn]
    names = [f"{family} {seed}" for family, seed in cases]
    joined = Graph(
        "random", [v for g in graphs for v in g.inputs], [n for g in graphs for n in g.nodes],
        [v for g in graphs for v in g.outputs], names, Level.INTEGER,
    )  # fmt: skip
    lowered = lower(joined, CpuLibrary(machine.isa))
    inputs = [(v.name, v.dtype.numpy.name, len(v.shape)) for v in joined.inputs]
    session = VmSession(compile_module(lowered.module, machine.tvm_target()), lowered.constants, inputs)
    found = {}
    results = session.run([array for _, arrays in drawn for array in arrays])
    for case, (graph, arrays), got in zip(cases, drawn, results, strict=True):
        (wanted,) = run_reference(graph, arrays)
        same_kind = got.shape == wanted.shape and got.dtype == wanted.dtype
        count = int((got != wanted).sum()) if same_kind else max(int(np.size(wanted)), 1)
        if count:
            found[case] = count
    return found
