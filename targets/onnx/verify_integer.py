"""Verification of an integer program: every layer and every output equal to the reference, to the last bit.

The program is emitted once more with every value that rounds as an output, and run with ONNX Runtime's graph
optimizations off and on; the artefact itself gives the outputs that are compared as well.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qcompiler.executors.reference import run_reference
from qcompiler.ir import OPS, Graph, Node, Value

from .emit import emit_model
from .emitter import Style
from .runtime import OnnxSession
from .verify import OpCheck, Verification

ROUNDING = ("requantize", "requantize_sum", "conv", "linear", "matmul", "reduce_mean", "reduce_sum")


def tapped_nodes(graph: Graph) -> list[Node]:
    """Nodes whose results are compared: products, rescaling, functions. Movement of codes cannot round."""
    return [n for n in graph.nodes if n.op in ROUNDING or OPS[n.op].category == "integer"]


def with_taps(graph: Graph, values: Sequence[Value]) -> Graph:
    """The program with further outputs."""
    taken = set(graph.output_names)
    names = []
    for index, _ in enumerate(values):
        name = f"tap_{index}"
        while name in taken:
            name += "_"
        names.append(name)
    outputs, output_names = (*graph.outputs, *values), (*graph.output_names, *names)
    return Graph(graph.name, graph.inputs, graph.nodes, outputs, output_names, graph.level)


def differing(got: np.ndarray, expected: np.ndarray) -> tuple[int, float]:
    """How many elements differ, and by how much at most."""
    steps = np.abs(got.astype(np.int64) - expected.astype(np.int64))
    return int((steps > 0).sum()), float(steps.max(initial=0))


def verify_program(
    graph: Graph, style: Style, session: OnnxSession, samples: Sequence[Sequence[np.ndarray]], threads: int = 1
) -> Verification:
    """Compare layers on the first sample, outputs on all of them."""
    nodes = [n for n in tapped_nodes(graph) if not graph.is_output(n.output)]
    tapped = with_taps(graph, [n.output for n in nodes])
    model = emit_model(tapped, style).proto.SerializeToString()
    expected = run_reference(tapped, samples[0])
    count = len(graph.outputs)
    ops: dict[str, tuple[OpCheck, ...]] = {}
    failures: list[str] = []
    for setting in ("off", "on"):
        got = OnnxSession(model, threads, optimize=setting == "on").run(samples[0])
        checks = [_check(n.where(), a, b) for n, a, b in zip(nodes, got[count:], expected[count:], strict=True)]
        ops[setting] = tuple(checks)
        failures += [_failure(c, f"optimizations {setting}") for c in checks if not c.passed][:3]
    total, worst = 0, 0.0
    for index, arrays in enumerate(samples):
        wanted = run_reference(graph, arrays) if index else expected[:count]
        for name, a, b in zip(graph.output_names, session.run(arrays), wanted, strict=True):
            check = _check(f"output {name!r} of sample {index}", a, b)
            total, worst = total + check.differing, max(worst, check.max_lsb)
            if not check.passed:
                failures.append(_failure(check, "the artefact"))
    sqnr = float("inf") if total == 0 else float("-inf")
    return Verification(graph.level.value, len(samples), ops, sqnr, total, worst, tuple(failures))


def _check(where: str, got: np.ndarray, expected: np.ndarray) -> OpCheck:
    count, most = differing(got, expected)
    return OpCheck(where, expected.size, count, 0, most, count == 0)


def _failure(check: OpCheck, what: str) -> str:
    return f"{check.where}, {what}: {check.differing} of {check.values} integers differ, by up to {check.max_lsb:g}"
