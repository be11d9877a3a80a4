"""The shared cases of every op against its reference body, or refused with a reason.

Integers are `==`; real numbers within the tolerance that verification has.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from op_cases import CASES, OpCase
from qcompiler.errors import ConstraintError, GraphError, UnsupportedError
from qcompiler.executors.reference import run_reference
from qcompiler.ir import OPS, DType, Graph, Level, verify_graph
from qcompiler.kernels.gpu.emulator import EmulatedLibrary, build
from qcompiler.kernels.gpu.launch import source
from qcompiler.kernels.gpu.run import emulate, read
from qcompiler.targets.cuda.emit import lower
from qcompiler.targets.cuda.lower import Program
from qcompiler.targets.cuda.op_table import RULES
from qcompiler.targets.cuda.verify import HALF_TOLERANCE, TOLERANCE, real_difference
from support.tools import requires_tool

MOVES = ("movement", "pool")


def in_integers(case: OpCase) -> OpCase:
    """Data movement of real numbers as that of codes; attributes stay."""
    if OPS[case.op].category not in MOVES:
        return case
    whole = [
        replace(o, dtype=DType.int8, low=-128, high=127) if o is not None and o.dtype is DType.float32 else o for o in case.operands
    ]
    return replace(case, operands=tuple(whole))


def built_cases() -> dict[str, tuple[OpCase, Graph, list[np.ndarray]]]:
    """Every case at level INTEGER if it may stand there, data movement in codes too, else at level QUANTIZED."""
    found = {}
    for level, cases in ((Level.QUANTIZED, CASES), (Level.INTEGER, map(in_integers, CASES))):
        for case in cases:
            graph, arrays = case.build()
            graph = graph.with_level(level)
            try:
                verify_graph(graph)
            except GraphError:
                continue
            name = f"{case.id}-codes" if level is Level.INTEGER and case.op in {c.op for c in CASES if OPS[c.op].category in MOVES} else case.id
            found[name] = (case, graph, arrays)
    return found


BUILT = built_cases()
PROGRAMS: dict[str, Program] = {}
REFUSED: dict[str, str] = {}
for name, (_, program_graph, _) in BUILT.items():
    try:
        PROGRAMS[name] = lower(program_graph, 80)
    except (UnsupportedError, ConstraintError) as problem:
        REFUSED[name] = str(problem)


@pytest.fixture(scope="module")
def library() -> EmulatedLibrary:
    requires_tool("g++")
    return build(source([step.launch for program in PROGRAMS.values() for step in program.steps]))


@pytest.mark.parametrize("name", PROGRAMS)
def test_case(name: str, library: EmulatedLibrary) -> None:
    _, graph, arrays = BUILT[name]
    program = PROGRAMS[name]
    memory = {v.buffer: a.reshape(-1).view(np.uint8).copy() for v, a in zip(program.inputs, arrays, strict=True)}
    emulate([step.launch for step in program.steps], memory, library)
    for view, expected in zip(program.outputs, run_reference(graph, arrays), strict=True):
        if expected.size == 0:
            assert view.shape == expected.shape
            continue
        got = read(view, memory)
        half = HALF_TOLERANCE if graph.nodes[0].op == "weight_only_linear" or got.dtype == np.float16 else TOLERANCE
        assert real_difference(got, expected, half)[0] == 0


def test_ops_of_integer_programs_are_computed() -> None:
    """Every rule has a case that it computes; products end in accumulators and are tested with their rescale,
    casts and minima in a mask.
    """
    computed = Counter(BUILT[name][0].op for name in PROGRAMS)
    products = {"conv", "linear", "matmul", "integer_mul", "reduce_mean", "reduce_sum", "shift_sigmoid", "requantize", "cast", "minimum"}
    assert RULES.keys() - computed.keys() <= products
    integer = {case.op for case, _, _ in BUILT.values() if case.integer}
    assert integer - computed.keys() <= products


def test_refusals_say_why() -> None:
    for name, message in REFUSED.items():
        assert "\n  " in message or "need fixed sizes" in message, name
