"""Random cases in the emulator: one library for all of them, compared with the reference; integers `==`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.gpu_kernels import generators, real_generators
from qcompiler.executors.reference import run_reference
from qcompiler.kernels.gpu import weight_only
from qcompiler.kernels.gpu.emulator import EmulationError, build
from qcompiler.kernels.gpu.launch import Buffer, Launch, in_order, source
from qcompiler.kernels.gpu.run import Memory, emulate, read
from qcompiler.targets.cuda.emit import lower
from qcompiler.targets.cuda.lower import Program
from qcompiler.targets.cuda.verify import HALF_TOLERANCE, TOLERANCE, real_difference

WEIGHT_ONLY = "weight_only"
ALL_FAMILIES = (*generators.FAMILIES, *real_generators.FAMILIES, WEIGHT_ONLY)
FLOAT_TOLERANCE = 2e-3
"""Largest error of a float16 product beside the largest result: weights are rounded to 11 bits once."""


@dataclass(frozen=True)
class Case:
    """A drawn case.

    Attributes:
        launches: what it runs.
        differing: function of memory after the run: results that are wrong.
    """

    family: str
    seed: int
    launches: tuple[Launch, ...]
    memory: Memory
    expected: tuple[np.ndarray, ...]
    program: Program | None = None

    def differing(self) -> int:
        """Wrong results after a run."""
        if self.program is None:
            got = read(in_order(self.launches[-1].pointers[-1].buffer, np.dtype(np.float32), self.expected[0].shape), self.memory)
            gap = np.abs(got - self.expected[0])
            return int((gap > FLOAT_TOLERANCE * np.abs(self.expected[0]).max(initial=1e-9)).sum())
        results = [read(view, self.memory) for view in self.program.outputs]
        tolerance = HALF_TOLERANCE if any(n.op == "weight_only_linear" for n in self.program.graph.nodes) else TOLERANCE
        return sum(real_difference(got, want, tolerance)[0] for got, want in zip(results, self.expected, strict=True))


def draw_case(family: str, seed: int) -> Case:
    """A case of a family."""
    if family == WEIGHT_ONLY:
        return _weight_only(seed)
    graph, arrays = (real_generators if family in real_generators.FAMILIES else generators).draw_graph(family, seed)
    program = lower(graph, (80, 86, 89, 90)[seed % 4])
    memory: Memory = {v.buffer: a.reshape(-1).view(np.uint8).copy() for v, a in zip(program.inputs, arrays)}
    launches = tuple(step.launch for step in program.steps)
    return Case(family, seed, launches, memory, tuple(run_reference(graph, arrays)), program)


def _weight_only(seed: int) -> Case:
    rng = np.random.default_rng(seed)
    group, bits = int(rng.choice([16, 32, 64, 128])), 4 if seed % 5 else 8
    most = 1 << (bits - 1)
    m, n, k = int(rng.integers(1, 9) if seed % 2 else rng.integers(9, 90)), int(rng.integers(1, 90)), group * int(rng.integers(1, 6))
    codes = rng.integers(-most, most, (n, k)).astype(np.int8)
    scale = rng.uniform(0.01, 0.1, (n, k // group)).astype(np.float16)
    zero = rng.integers(-2, 3, (n, k // group))
    bias = rng.standard_normal(n).astype(np.float32) if seed % 3 else None
    weights = weight_only.pack_weights("w", codes, scale, zero, group, bits)
    x = np.zeros((m, weights.padded_k), np.float16)
    x[:, :k] = rng.standard_normal((m, k))
    given = in_order(Buffer("x", x.nbytes), np.dtype(np.int16), x.shape)
    result = in_order(Buffer("y", 4 * m * n), np.dtype(np.float32), (m, n))
    real = (codes - zero.repeat(group, 1)) * scale.repeat(group, 1).astype(np.float64)
    expected = (x[:, :k].astype(np.float64) @ real.T + (0 if bias is None else bias)).astype(np.float32)
    launch = weight_only.linear(given, weights, bias, result)
    return Case(WEIGHT_ONLY, seed, (launch,), {given.buffer: x.reshape(-1).view(np.uint8)}, (expected,))


def one_of_each() -> list[Launch]:
    """A launch of every kernel, in one rounding profile and type of result each.

    Elementwise functions of real numbers are one kernel by number of operands. Of products on tensor cores there is every
    pair of operands, in one tile and width of loads.
    """
    found: dict[str, Launch] = {}
    for family in ALL_FAMILIES:
        for case in (draw_case(family, seed) for seed in range(12)):
            for launch in case.launches:
                plain = re.sub(r"_(dyadic_double|dyadic|shift_half_even|float32_half_even|to_real|none|float32|u?int\d+)", "", launch.kernel.name)
                if launch.kernel.header == "qc_real.cuh":
                    plain = launch.kernel.body.partition("(")[0]
                if plain.startswith("gemm"):
                    plain = re.sub(r"gemm_\w+?_s\d_|(?<=matrix|indows|ows_3d)\d+|_(table_after|sum_\w+)", "", plain)
                found.setdefault(plain, launch)
    return [found[name] for name in sorted(found)]


def run_cases(cases: Sequence[Case]) -> list[tuple[Case, str]]:
    """Run cases; those that are wrong, with what is wrong."""
    library = build(source([launch for case in cases for launch in case.launches]))
    failures = []
    for case in cases:
        try:
            emulate(case.launches, case.memory, library)
            wrong = case.differing()
            if wrong:
                failures.append((case, f"{wrong} results differ"))
        except EmulationError as error:
            failures.append((case, str(error)))
    return failures
