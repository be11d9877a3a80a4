"""Put layers back to float where integers do not pay on this machine, decided by measurement.

1. The plan is lowered with stand-in ranges and weights (time does not depend on the numbers) and profiled beside
   the float model, run by run in turns.
2. A minimum cut over the per-layer times and the costs of conversion proposes the layers to put back.
3. The proposal is timed against the all-integer form and the float model. It is taken if it is faster by a margin.
   If even the best form is slower than float, nothing pays, and everything goes back.

The decision and its figures go to `context.decisions`; a lock replays it without measuring.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from pydantic import Field

from qcompiler.errors import UnsupportedError
from qcompiler.executors.reference import bind_inputs
from qcompiler.ir import DType, Graph, Node, QuantParams
from qcompiler.ir.dims import evaluate, product
from qcompiler.passes.base import Context, Kind, Note, Pass, PassConfig, Result
from qcompiler.passes.quantize.assign_precision import PLAN, AssignConfig, AssignPrecision
from qcompiler.passes.quantize.lower_to_quantized import LowerToQuantized
from qcompiler.passes.quantize.plan import FLOAT, NodePlan, QuantPlan, WeightCodes
from qcompiler.recipe import Recipe, Rule

from ..base import Measurement
from ..saturation import pair_safe_scale
from .emit import emit_model
from .isa import host_isa
from .profile import Profile, Profiler
from .region_choice import Layer, cheapest_real
from .runtime import OnnxSession, Runnable, measure_sessions

LAYERS = ("conv", "linear", "matmul")
# Convolutions compute channels-last on codes and in blocks of channels on real numbers: a value that crosses from one
# to the other changes layout as well (Transpose, Reorder). Both together take this many times the conversion alone
# (0.2 ns and 1.2 ns per element on Zen 3). Elementwise ops take any layout.
LAYOUT_FACTOR = 7.0
# Stands for all that is computed on real numbers anyway; module paths are strings.
REAL_REST = ("real",)
WHOLE = "whole model"
PUT_BACK = "put_back"


class NeverSlowerConfig(PassConfig):
    """How to decide.

    rounds: profiled runs of each form. seconds: of each comparison. margin: a proposal must be faster than
    all-integer by this share. shortest_ms: a model that takes less in float is left alone.
    """

    rounds: int = Field(10, ge=3)
    seconds: float = Field(1.0, gt=0)
    margin: float = Field(0.02, ge=0)
    shortest_ms: float = Field(1.0, ge=0)


class NeverSlower(Pass):
    """Replaces the plan by one in which layers that do not pay are FLOAT."""

    name = "never_slower"
    kind = Kind.EXACT
    must_follow = ("assign_precision",)

    def __init__(self, config: NeverSlowerConfig | None = None, recipe: Recipe | None = None) -> None:
        self.config = config or NeverSlowerConfig()
        self.recipe = recipe or Recipe()

    def run(self, graph: Graph, context: Context) -> Result:
        """Decide, or replay the decision of a lock."""
        decision = (context.locked or {}).get(self.name)
        if context.locked is None:
            why = _why_unmeasurable(context)
            if why:
                return Result(graph, False, (Note(WHOLE, False, why),))
            decision = _Trial(graph, context, self.config, self.recipe).decide()
        if decision is None:
            return Result(graph, False, (Note(WHOLE, False, "the lock holds no decision: nothing is put back"),))
        context.decisions[self.name] = decision
        rows = [row for row in decision if row["chosen"] == "float"]
        if rows:
            put_back(graph, context, self.recipe, rows)
        notes = [Note(row["site"], row["chosen"] == "float", row["why"], row["scores"]) for row in decision]
        return Result(graph, False, tuple(notes))


def _why_unmeasurable(context: Context) -> str:
    target = context.target
    if not target.can("measurable"):
        return "not measured: the target cannot be timed here"
    if target.isa is None:
        return "not measured: a portable file is meant for other machines and runtimes than this one"
    if target.isa != host_isa():
        return f"not measured: compiled for {target.isa}, this machine is {host_isa()}"
    if context.samples is None or len(context.samples) == 0:
        return "not measured: no sample to run"
    return ""


def put_back(graph: Graph, context: Context, recipe: Recipe, rows: Sequence[Mapping[str, Any]]) -> None:
    """Assign again with the layers of some rows kept real; the nodes are listed in `context.tables["put_back"]`.

    Raises:
        UnsupportedError: no quantized layer is left.
    """
    before: QuantPlan = context.tables[PLAN]
    if {n.origin.module for n in quantized_layers(before)} <= {row["site"] for row in rows}:
        raise UnsupportedError(
            "nothing is quantized: on this machine every quantized layer would be slower than in float. To have it"
            " all the same, set `never_slower: false` in the recipe."
        )
    scores = {row["site"]: row["scores"] for row in rows}
    rules = (*recipe.rules, *(Rule(match=_literal(site), ops=LAYERS, scheme="float") for site in scores))
    changed = recipe.model_copy(update={"rules": rules})
    AssignPrecision(AssignConfig(recipe=changed)).run(graph, context)
    plan: QuantPlan = context.tables[PLAN]
    returned = []
    for node, node_plan in plan.nodes.items():
        if node_plan.scheme == FLOAT and before.nodes[node].scheme != FLOAT:
            returned.append(node)
            if node.origin.module in scores and node.op in LAYERS:
                plan.nodes[node] = replace(node_plan, reason=_reason(scores[node.origin.module]))
    context.tables[PUT_BACK] = returned


def _reason(scores: Mapping[str, float]) -> str:
    text = f"never slower: {scores['integer']:.3f} ms in integers, {scores['float']:.3f} ms in float"
    return text if scores["integer"] > scores["float"] else f"{text}, which conversions beside layers in float outweigh"


def _literal(module: str) -> str:
    """A shell pattern that matches a module path only."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in module)


class _Trial:
    """One decision."""

    def __init__(self, graph: Graph, context: Context, config: NeverSlowerConfig, recipe: Recipe) -> None:
        self.graph, self.context, self.config, self.recipe = graph, context, config, recipe
        self.target = context.target
        self.arrays: Sequence[np.ndarray] = list(context.samples[0])
        self.bindings = bind_inputs(graph, [a.shape for a in self.arrays])
        self.layers: dict[Any, Layer] = {}

    def decide(self) -> list[dict[str, Any]]:
        plan: QuantPlan = self.context.tables[PLAN]
        lowered = self._lowered(plan)
        integer = Profiler(emit_model(lowered, self.target.style))
        real = Profiler(emit_model(self.graph, self.target.baseline_style))
        rows, promised = self._propose(plan, lowered, integer, real)
        whole = self._time(integer, real)
        ratios = {"all integer": round(whole.ratio, 4)}
        if whole.baseline_ms < self.config.shortest_ms:
            why = f"not decided: float takes {whole.baseline_ms:.2f} ms only, less than can be told apart"
            return [_whole("all integer", ratios, why)]
        why = "every quantized layer pays"
        if rows and promised < self.config.margin:
            why = f"putting {len(rows)} layers back to float promises {promised:.1%}: too little to try"
            rows = []
        elif rows and len(rows) < len(self.layers) - 1:
            mixed, gain = self._compare(rows, integer, real)
            ratios["mixed"] = round(mixed.ratio, 4)
            taken = gain >= self.config.margin
            why = f"putting {len(rows)} layers back to float gains {gain:.1%}" + ("" if taken else ": too little")
            rows, whole = (rows, mixed) if taken else ([], whole)
        elif rows:
            why, rows = "every layer seems faster in float, but the whole is not", []
        if whole.ratio * (1 - whole.spread / 2) > 1.0:  # the lower quartile is slower too
            rows = [_row(site, layer) for site, layer in self.layers.items() if layer.movable]
            why = f"no quantized form is faster than float ({whole.ratio:.2f} of its time)"
        return [_whole("mixed" if rows else "all integer", ratios, why), *rows]

    def _time(self, subject: Runnable, baseline: Runnable) -> Measurement:
        return measure_sessions(subject, baseline, self.arrays, self.config.seconds)

    def _compare(self, rows: list[dict[str, Any]], integer: Runnable, real: Runnable) -> tuple[Measurement, float]:
        """The proposal beside float, and its gain over all-integer."""
        before = self.context.tables[PLAN]
        put_back(self.graph, self.context, self.recipe, rows)
        mixed = emit_model(self._lowered(self.context.tables[PLAN]), self.target.style)
        self.context.tables[PLAN] = before
        del self.context.tables[PUT_BACK]
        session = OnnxSession(mixed.proto.SerializeToString())
        return self._time(session, real), 1 - self._time(session, integer).ratio

    def _propose(
        self, plan: QuantPlan, lowered: Graph, integer: Profiler, real: Profiler
    ) -> tuple[list[dict[str, Any]], float]:
        """Rows of the layers to put back, and the share of the time that should save."""
        for _ in range(self.config.rounds):
            for profiler in (integer, real):
                profiler.run(self.arrays)
        mine, other = integer.finish(), real.finish()
        self.layers, crossings = _Costs(self.graph, plan, lowered, mine, other, self.bindings).problem()
        chosen, saved = cheapest_real(self.layers, crossings)
        total = sum(mine.nodes.values())
        return [_row(m, layer) for m, layer in self.layers.items() if m in chosen], saved / total if total else 0.0

    def _lowered(self, plan: QuantPlan) -> Graph:
        """The program of a plan with stand-in ranges and weights."""
        trial = QuantPlan(plan.graph, dict(plan.nodes), set(plan.stored), groups=list(plan.groups))
        trial.activations = {v: QuantParams(dtype, 0.05, _middle(dtype)) for v, (dtype, _) in plan.ranges.items()}
        for node in quantized_layers(plan):
            if node.op != "matmul":
                trial.weights[node] = _stand_in(node, plan.nodes[node])
        context = Context(target=self.target, tables={PLAN: trial})
        return LowerToQuantized().run(plan.graph, context).graph


def _whole(chosen: str, ratios: dict[str, float], why: str) -> dict[str, Any]:
    return {"site": WHOLE, "chosen": chosen, "scores": ratios, "unit": "x of float", "why": why}


def _row(site: Hashable, layer: Layer) -> dict[str, Any]:
    scores = {"integer": round(layer.integer_ms, 4), "float": round(layer.real_ms, 4)}
    return {"site": str(site), "chosen": "float", "scores": scores, "unit": "ms", "why": "put back to float"}


def _middle(dtype: DType) -> int:
    return (dtype.min + dtype.max + 1) // 2


def _stand_in(node: Node, plan: NodePlan) -> WeightCodes:
    """Codes of the right kind: pair-safe, and with a scale that no bias overflows."""
    weight, dtype = node.inputs[1], plan.weight_dtype or DType.int8
    assert weight is not None and weight.data is not None
    if plan.group_size is not None:
        groups = np.full((weight.data.shape[0], weight.data.shape[1] // plan.group_size), 0.01)
        blocked = QuantParams(dtype, groups, np.full(groups.shape, _middle(dtype)), axis=1, group_size=plan.group_size)
        return WeightCodes(blocked.quantize(weight.data), blocked)
    scale = pair_safe_scale(weight.data, node.attrs.get("groups", 1), dtype.max)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None and bias.data is not None:
        scale = np.maximum(scale, np.abs(bias.data) / (0.05 * (1 << 28)))
    quant = QuantParams(dtype, np.maximum(scale, 1e-20), axis=0)
    return WeightCodes(quant.quantize(weight.data), quant)


def quantized_layers(plan: QuantPlan) -> list[Node]:
    """Products that compute on codes, in program order."""
    return [n for n in plan.graph.nodes if n.op in LAYERS and plan.is_integer(n)]


class _Costs:
    """Per-layer times and crossings, keyed by module path: layers of one module move together."""

    def __init__(
        self, graph: Graph, plan: QuantPlan, lowered: Graph, mine: Profile, other: Profile, bindings: dict[str, int]
    ) -> None:
        self.graph, self.plan, self.bindings = graph, plan, bindings
        self.border = mine.border_ms
        self.real, self.integer = other.nodes, mine.nodes
        self.layers = quantized_layers(plan)
        kernels = [n for n in lowered.nodes if n.op in ("dynamic_linear", "weight_only_linear") or (n.op in LAYERS and _on_codes(n))]
        self.kernel_of = dict(zip(self.layers, kernels, strict=True))
        self.lowered = lowered

    def problem(self) -> tuple[dict[Any, Layer], list[tuple[Any, Any, float]]]:
        """Arguments of `cheapest_real`; what is real anyway is one immovable layer."""
        layers: dict[Any, Layer] = {REAL_REST: Layer(0.0, 0.0, movable=False)}
        for node in self.layers:
            module = node.origin.module
            known = layers.get(module, Layer(0.0, 0.0))
            layers[module] = Layer(known.real_ms + self._real_ms(node), known.integer_ms + self._integer_ms(node))
        crossings = []
        for node in self.layers:
            for source, elements in self._sources(node):
                crossings.append((source, node.origin.module, elements * self._crossing(node, source)))
            result = self.plan.result_of(node)
            if result in self.plan.stored and self._leaves(result):
                crossings.append((node.origin.module, REAL_REST, self._elements(result) * self.border))
        return layers, [c for c in crossings if c[0] != c[1]]

    def _crossing(self, node: Node, source: Hashable) -> float:
        """Milliseconds per element of a value that crosses on its way to a layer."""
        return self.border * (LAYOUT_FACTOR if node.op == "conv" and source is not REAL_REST else 1.0)

    def _real_ms(self, node: Node) -> float:
        """Of the layer and the activation that its integer kernel takes over."""
        fused = self.plan.nodes[node].fused
        return self.real.get(node, 0.0) + (self.real.get(fused, 0.0) if fused is not None else 0.0)

    def _integer_ms(self, node: Node) -> float:
        kernel = self.kernel_of[node]
        tails = [user for user, _ in self.lowered.uses(kernel.output) if user.op in ("requantize", "dequantize")]
        return self.integer.get(kernel, 0.0) + sum(self.integer.get(t, 0.0) for t in tails)

    def _elements(self, value: Any) -> float:
        return float(evaluate(product(value.shape), self.bindings))

    def _sources(self, node: Node) -> list[tuple[Any, float]]:
        """(module of the layer, or REAL_REST, whose result reaches the node; elements), through ops on codes."""
        found, todo, seen = [], [v for v in node.inputs[:2] if v is not None and not v.is_const], set()
        while todo:
            value = todo.pop()
            if value in seen:
                continue
            seen.add(value)
            producer = self.graph.producer(value)
            if producer is not None:
                producer = self.plan.fused_into(producer) or producer
            if producer is None or value not in self.plan.stored:
                readers = max(1, len(self.graph.uses(value)))
                found.append((REAL_REST, self._elements(value) / readers))
            elif producer in self.kernel_of:
                found.append((producer.origin.module, self._elements(value)))
            else:
                todo += [v for v in producer.operands if not v.is_const]
        return found

    def _leaves(self, value: Any) -> bool:
        """True if a real reader needs the value."""
        return self.graph.is_output(value) or any(not self.plan.is_integer(user) for user, _ in self.graph.uses(value))


def _on_codes(node: Node) -> bool:
    return node.operands[0].quant is not None
