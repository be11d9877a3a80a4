"""Verification of an artefact against the reference interpreter.

Locally: every quantized op gets the reference's own operands and must give its integers to within one step, and
differ only next to ties, but for a declared share of the values; with ONNX Runtime's graph optimizations off and
on. (Kernels compute acc * (sx * sw / sy) in an order of their own, so ties may fall either way; steps compound
along a network, which is why whole outputs are not compared this way.)
End to end: signal-to-noise ratio of the artefact's outputs against the reference's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from qcompiler.errors import VerificationError
from qcompiler.executors.reference import bind_inputs, run_reference
from qcompiler.ir import Graph, Node, QuantParams, Value, make_node
from qcompiler.ir.builder import drop_dead_nodes
from qcompiler.ir.dims import substitute
from qcompiler.ir.ops.quantized import dynamic_codes, dynamic_terms
from qcompiler.ir.ops.spec import centred

from .emit import emit_model
from .emit_attention import plan_attention
from .emitter import Style
from .quantized_common import plan_fusions
from .runtime import OnnxSession

# Codes may differ by this many steps: where the exact result is this close to a tie (in steps), and elsewhere at
# this share of the values of an op.
MOST_LSB = 1
TIE_DISTANCE = 0.01
MOST_DIFFERING = 0.002
# Real results of integer kernels: difference allowed relative to the largest magnitude.
REAL_TOLERANCE = 1e-5
# Operands quantized at run time: kernels multiply by 1 / scale where the reference divides, so a code this close to a tie
# (in steps; 127 steps of float32 error twice) may fall either way, and its row may differ by what one step makes there.
OPERAND_TIE = 2e-5
# Operands of the ops that are checked in one session, in bytes.
CHUNK_BYTES = 256_000_000


@dataclass(frozen=True)
class OpCheck:
    """One op beside the reference.

    Attributes:
        where: op and module path.
        values: compared.
        differing: of them, not equal (codes) or beyond the tolerance (real results).
        at_ties: of the differing, those whose exact result lies next to a tie.
        max_lsb: largest difference of codes; for real results difference / tolerance.
        passed: within what is allowed.
    """

    where: str
    values: int
    differing: int
    at_ties: int
    max_lsb: float
    passed: bool


@dataclass(frozen=True)
class Verification:
    """What was compared and how it came out.

    Attributes:
        level: of the graph.
        samples: sets of inputs.
        ops: per optimization setting (`off`, `on`), every quantized op.
        sqnr_db: of the artefact's float outputs against the reference's; inf if equal.
        differing: output values that differ.
        max_lsb: largest difference of outputs that are dequantized codes, in their steps; None if there are none.
        failures: sentences; empty if all is well.
    """

    level: str
    samples: int
    ops: dict[str, tuple[OpCheck, ...]]
    sqnr_db: float
    differing: int
    max_lsb: float | None
    failures: tuple[str, ...] = field(default_factory=tuple)

    def check(self) -> None:
        """Raise if anything failed.

        Raises:
            VerificationError: listing the failures.
        """
        if self.failures:
            raise VerificationError("the artefact does not compute what the reference computes: " + "; ".join(self.failures))


def quantized_sites(graph: Graph, style: Style) -> list[tuple[Node, ...]]:
    """Nodes that become one kernel each, in program order; movement of codes is left out, it cannot round."""
    plan = plan_fusions(graph)
    attentions = plan_attention(graph) if style.runtime_kernels else {}
    sites: list[tuple[Node, ...]] = []
    for node in graph.nodes:
        fusion, attention = plan.get(node), attentions.get(node)
        if attention is not None:
            if node is attention.nodes[-1]:
                sites.append(attention.nodes)
        elif fusion is not None:
            if node is fusion.tail:
                sites.append((fusion.head, fusion.tail))
        elif node.op in ("quantize", "dequantize", "requantize", "requantize_sum", "dynamic_linear", "weight_only_linear") or (
            node.op in ("linear", "matmul", "conv", "reduce_sum", "reduce_mean") and node.output.quant is not None
        ):
            sites.append((node,))
    return sites


def cut_graph(graph: Graph, sites: Sequence[tuple[Node, ...]], bindings: dict[str, int]) -> tuple[Graph, list[Value]]:
    """A graph in which every site stands alone: its operands are inputs, its result is an output.

    Returns the graph and, per input, the value of `graph` that feeds it. Shapes are those of `bindings`.
    """
    inputs: dict[Value, Value] = {}
    nodes, outputs = [], []
    for site in sites:
        inner: dict[Value, Value] = {}
        for node in site:
            operands: list[Value | None] = []
            for value in node.inputs:
                if value is None or value.is_const:
                    operands.append(value)
                elif value in inner:
                    operands.append(inner[value])
                else:
                    if value not in inputs:
                        shape = tuple(substitute(d, bindings) for d in value.shape)
                        inputs[value] = Value(value.dtype, shape, value.quant, f"operand_{len(inputs)}")
                    operands.append(inputs[value])
            attrs = {k: _bound(v, bindings) for k, v in node.attrs.items()}
            copy = make_node(node.op, operands, attrs, node.origin)
            inner.update(zip(node.outputs, copy.outputs, strict=True))
            nodes.append(copy)
        outputs.append(nodes[-1].output)
    cut = Graph(graph.name, inputs.values(), nodes, outputs, level=graph.level)
    return drop_dead_nodes(cut), list(inputs)


def _bound(attr: object, bindings: dict[str, int]) -> object:
    if isinstance(attr, tuple):
        return tuple(_bound(a, bindings) for a in attr)
    return substitute(attr, bindings) if hasattr(attr, "free_symbols") else attr


def check_ops(
    graph: Graph, style: Style, arrays: Sequence[np.ndarray], threads: int = 1
) -> tuple[dict[str, tuple[OpCheck, ...]], list[np.ndarray]]:
    """Every quantized op fed the reference's operands, optimizations off and on.

    Returns:
        Checks per optimization setting, and the outputs of the reference.
    """
    sites = quantized_sites(graph, style)
    bindings = bind_inputs(graph, [a.shape for a in arrays])
    wanted = {v for site in sites for node in site for v in (*node.operands, *node.outputs) if not v.is_const}
    results: dict[str, list[OpCheck]] = {"off": [], "on": []}
    tapped: dict[Value, np.ndarray] = {}

    def flush(chunk: list[tuple[Node, ...]]) -> None:
        cut, sources = cut_graph(graph, chunk, bindings)
        feeds = [tapped[v] for v in sources]
        model = emit_model(cut, style).proto.SerializeToString()
        for setting in ("off", "on"):
            got = OnnxSession(model, threads, optimize=setting == "on").run(feeds)
            results[setting] += [_compare(s, a, tapped) for s, a in zip(chunk, got, strict=True)]

    outputs = run_reference(graph, arrays, taps=wanted, on_value=tapped.__setitem__)
    for chunk in _chunks(sites, tapped):
        flush(chunk)
    return {setting: tuple(checks) for setting, checks in results.items()}, outputs


def _chunks(sites: list[tuple[Node, ...]], tapped: dict[Value, np.ndarray]) -> list[list[tuple[Node, ...]]]:
    chunks: list[list[tuple[Node, ...]]] = []
    size = CHUNK_BYTES
    for site in sites:
        need = sum(tapped[v].nbytes for n in site for v in (*n.operands, *n.outputs) if v in tapped)
        if size + need > CHUNK_BYTES:
            chunks.append([])
            size = 0
        chunks[-1].append(site)
        size += need
    return chunks


def _compare(site: tuple[Node, ...], got: np.ndarray, tapped: Mapping[Value, np.ndarray]) -> OpCheck:
    where, expected = site[0].where(), tapped[site[-1].output]
    if expected.dtype.kind == "f":
        allowed = REAL_TOLERANCE * max(float(np.abs(expected).max(initial=0)), 1e-30)
        error = np.abs(got - expected)
        differing = error > allowed
        excused = differing & (error <= allowed + operand_ties(site[-1], tapped)) if differing.any() else differing
        worst = float((error * ~excused).max(initial=0)) / allowed
        passed = not (differing & ~excused).any()
        return OpCheck(where, expected.size, int(differing.sum()), int(excused.sum()), worst, passed)
    steps = np.abs(got.astype(np.int64) - expected.astype(np.int64))
    differing, worst = int((steps > 0).sum()), float(steps.max(initial=0))
    exact = exact_result(site[-1], tapped)
    if exact is None:  # accumulators
        return OpCheck(where, expected.size, differing, 0, worst, differing == 0)
    tie = np.abs(exact - np.floor(exact) - 0.5) < TIE_DISTANCE
    unexplained = int(((steps > 0) & ~tie).sum())
    passed = worst <= MOST_LSB and unexplained <= max(1, int(MOST_DIFFERING * expected.size))
    return OpCheck(where, expected.size, differing, differing - unexplained, worst, passed)


def operand_ties(node: Node, tapped: Mapping[Value, np.ndarray]) -> np.ndarray:
    """How far a dynamic_linear may be off because operand codes lie next to a tie, [..., N]; 0 for other ops."""
    if node.op != "dynamic_linear":
        return np.zeros(())
    x, w = node.operands[:2]
    assert w.quant is not None and w.data is not None
    rounded = tapped[x]
    if node.attrs["bits"] == 16:  # a tie of the first term is made up for by the second
        rounded = dynamic_terms(rounded, w.quant.group_size or rounded.shape[-1])[1]
    array = rounded.astype(np.float64)
    _, scale, _ = dynamic_codes(rounded, node.attrs["granularity"], w.quant.group_size)
    if node.attrs["granularity"] == "group":
        scale = np.repeat(scale, w.quant.group_size or 1, axis=-1)[..., : x.shape[-1]]
    steps = array / scale
    near = np.abs(steps - np.floor(steps) - 0.5) < OPERAND_TIE
    return np.asarray((near * scale) @ np.abs(w.quant.dequantize(w.data).astype(np.float64)).T)


def exact_result(node: Node, tapped: Mapping[Value, np.ndarray]) -> np.ndarray | None:
    """What a rounding node rounds, in steps of its result, float64; None for ops that do not round."""
    operands = [tapped.get(v, v.data) for v in node.operands]
    quants = [v.quant for v in node.operands]
    if node.op == "quantize":
        quant: QuantParams = node.attrs["quant"]
        assert operands[0] is not None
        return np.asarray(operands[0].astype(np.float64) / quant.broadcast(quant.scale, operands[0].shape))
    if node.op == "requantize":
        acc, multiplier = operands[:2]
        assert acc is not None and multiplier is not None and quants[0] is not None
        return np.asarray(centred(acc, quants[0]) * quants[0].broadcast(multiplier.astype(np.float64), acc.shape))
    if node.op == "requantize_sum":
        terms = zip(operands, quants, node.attrs["real_multipliers"], strict=True)
        return np.asarray(sum(centred(x, quant) * float(m) for x, quant, m in terms))  # type: ignore[arg-type]
    return None


def sqnr_db(got: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float:
    """10 log10 of signal over noise energy, over all float arrays together; inf if they are equal."""
    signal = sum(float((b.astype(np.float64) ** 2).sum()) for b in expected)
    noise = sum(
        float(((a.astype(np.float64) - b.astype(np.float64)) ** 2).sum()) for a, b in zip(got, expected, strict=True)
    )
    if noise == 0:
        return float("inf")
    return float(10 * np.log10(signal / noise)) if signal > 0 else float("-inf")


def output_steps(graph: Graph) -> list[float | None]:
    """Per output, the step of the codes it shows (1 for codes themselves); None for other real numbers."""
    steps: list[float | None] = []
    for value in graph.outputs:
        producer = graph.producer(value)
        if value.quant is not None:
            steps.append(1.0)
        elif producer is not None and producer.op == "dequantize":
            source = producer.operands[0]
            fine = source.dtype.bits > 16 or source.quant is None or not source.quant.per_tensor
            steps.append(None if fine or source.quant is None else float(source.quant.scale))
        else:
            steps.append(None)
    return steps


def verify_artefact(
    graph: Graph, style: Style, session: OnnxSession, samples: Sequence[Sequence[np.ndarray]], threads: int = 1
) -> Verification:
    """Check ops on the first sample, and whole outputs on all of them."""
    ops, first = check_ops(graph, style, samples[0], threads)
    failures = [
        f"{check.where}, optimizations {setting}: {check.differing} of {check.values} values differ ({check.at_ties} next to"
        f" ties), by up to {check.max_lsb:g} steps"
        for setting, checks in ops.items()
        for check in checks
        if not check.passed
    ]
    steps = output_steps(graph)
    results, references, differing, max_lsb = [], [], 0, None
    for index, arrays in enumerate(samples):
        got, expected = session.run(arrays), run_reference(graph, arrays) if index else first
        for step, a, b in zip(steps, got, expected, strict=True):
            error = np.abs(a.astype(np.float64) - b.astype(np.float64))
            if step is not None:
                lsb = error / step
                max_lsb = max(max_lsb or 0.0, float(lsb.max(initial=0)))
                differing += int((lsb > 0.5).sum())
            else:
                differing += int((error > REAL_TOLERANCE * np.abs(b).max(initial=0)).sum())
        results += got
        references += expected
    return Verification(
        graph.level.value, len(samples), ops, sqnr_db(results, references), differing, max_lsb, tuple(failures)
    )


