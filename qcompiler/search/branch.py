"""One form of the model after the transforms, with everything about it that trials share: statistics, codes, biases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from qcompiler.passes.base import Context, run_passes
from qcompiler.passes.quantize.assign_precision import PLAN, AssignConfig, AssignPrecision, fixed_range
from qcompiler.passes.quantize.calibrate_activations import (
    AUTO,
    CANDIDATES,
    STATISTICS,
    CalibrateActivations,
    CalibrateConfig,
    is_moved,
    observer,
)
from qcompiler.passes.quantize.measured_error import ErrorMeter, split_samples
from qcompiler.passes.quantize.plan import DYNAMIC, NodePlan, QuantPlan, RangeRule, WeightCodes

if TYPE_CHECKING:
    from qcompiler.calibration import Observer, Samples
    from qcompiler.ir import Graph, Node, QuantParams, Value
    from qcompiler.passes.base import Pass
    from qcompiler.recipe import Recipe
    from qcompiler.search.workload import Workload

LAYER_LOCAL = ("round_nearest", "round_hessian")
"""Rounding steps whose result for a layer depends on that layer only, so that trials may share it."""
FITTED = ("round_gptq",)
"""Rounding steps whose result for a layer depends on the layers before it. Trials share that of the model without what the
search changes layer by layer."""
METHODS = ("minmax", "mse", "percentile", "entropy")


class Branch:
    """The graph after the transforms of one recipe, and caches over it.

    A plan made here differs from that of a full compile in three ways: layers are rounded by layer-local methods, or by
    GPTQ as if all others were as the search found them, biases absorb the mean error of a layer on float inputs (and not what earlier layers add to it), and
    nothing is put back to float for its speed. The full compile of the best configurations decides in the end.
    """

    def __init__(self, workload: Workload, recipe: Recipe) -> None:
        from qcompiler.compilation import build_passes, split_passes

        self.workload = workload
        passes = split_passes(build_passes(recipe, workload.target))[1]
        names = [p.name for p in passes]
        first = names.index(AssignPrecision.name)
        self.rounding: list[Pass] = [p for p in passes if p.name in LAYER_LOCAL]
        self.fitting: list[Pass] = [p for p in passes if p.name in FITTED]
        context = Context(target=workload.target, samples=workload.calibration, seed=workload.seed)
        before = passes[:first]
        self.graph: Graph = run_passes(workload.graph, before, context)[0] if before else workload.graph
        self._sweeps: dict[int, _Sweep] = {}
        self._codes: dict[Any, WeightCodes] = {}
        self._biases: dict[Any, np.ndarray] = {}
        self._auto: dict[int, str] = {}
        self._fitted: dict[tuple[str, int], dict[Node, tuple[NodePlan, WeightCodes]]] = {}

    def plan(self, recipe: Recipe) -> QuantPlan:
        """The plan that a recipe means: ranges, codes and biases filled in."""
        context = Context(target=self.workload.target, seed=self.workload.seed)
        AssignPrecision(AssignConfig(recipe=recipe)).run(self.graph, context)
        plan: QuantPlan = context.tables[PLAN]
        sweep = self.sweep(recipe.calibration.max_samples)
        self._set_ranges(plan, sweep, recipe.activation_range.method)
        self._set_weights(plan, sweep)
        fitted = self._set_fitted(plan, recipe, sweep)
        if recipe.bias_correction is not False:
            self._set_biases(plan, sweep, fitted)
        return plan

    def sweep(self, count: int) -> _Sweep:
        """Statistics over the first `count` calibration samples."""
        count = min(count, len(self.workload.calibration))
        if count not in self._sweeps:
            self._sweeps[count] = _Sweep(self.graph, self.workload.calibration, count)
        return self._sweeps[count]

    @property
    def swept(self) -> tuple[int, ...]:
        """Numbers of samples that statistics were collected over."""
        return tuple(self._sweeps)

    @property
    def fitted(self) -> tuple[tuple[str, int], ...]:
        """What `fitted_key` and how many samples codes were fitted for."""
        return tuple(self._fitted)

    def _set_ranges(self, plan: QuantPlan, sweep: _Sweep, method: str) -> None:
        roots = [v for v in plan.ranges if fixed_range(plan, v) is None and not is_moved(plan, v)]
        sweep.need_ranges(roots, plan)
        if method == AUTO:
            method = self._auto_method(plan, roots, sweep)
        plan.activations.update(_calibrated(plan, roots, method, sweep))

    def _auto_method(self, plan: QuantPlan, roots: Sequence[Value], sweep: _Sweep) -> str:
        """What `auto` stands for, by the first plan that asks: as in a compile, by error on held-back samples."""
        if sweep.count not in self._auto:
            held_back = split_samples(sweep.samples)[1] if sweep.count > 1 else sweep.samples
            meter = ErrorMeter(self.graph, held_back)
            trials = {m: replace(plan, activations=_calibrated(plan, roots, m, sweep)) for m in CANDIDATES}
            self._auto[sweep.count] = max(CANDIDATES, key=lambda m: meter.sqnr_db(trials[m]))
        return self._auto[sweep.count]

    def _set_weights(self, plan: QuantPlan, sweep: _Sweep) -> None:
        missing = {}
        for node in self.weighted(plan):
            key = self._key(plan, node, sweep)
            if key in self._codes:
                plan.weights[node] = self._codes[key]
            else:
                missing[node] = key
        if not missing:
            return
        settings = {n: plan.nodes[n] for n in missing}
        # Codes to start from, and for layers whose precision is not the one that GPTQ fits codes in.
        settings = {n: replace(p, rounding="auto") if p.rounding == "gptq" else p for n, p in settings.items()}
        part = QuantPlan(self.graph, settings, activations=plan.activations)
        sweep.need_covariances(part)
        tables = {PLAN: part, STATISTICS: sweep.statistics()}
        context = Context(target=self.workload.target, seed=self.workload.seed, tables=tables)
        for step in self.rounding:
            step.run(self.graph, context)
        for node, key in missing.items():
            self._codes[key] = plan.weights[node] = part.weights[node]

    def _set_fitted(self, plan: QuantPlan, recipe: Recipe, sweep: _Sweep) -> dict[Node, str]:
        """Codes by the steps of `FITTED` for layers that have the precision they were fitted in; the layers, and for what."""
        wanted = fitted_key(recipe, self.workload.recipe)
        if wanted is None:
            return {}
        if (wanted, sweep.count) not in self._fitted:
            self._fitted[wanted, sweep.count] = self._fit(recipe, sweep)
        found = {}
        for node, (as_planned, codes) in self._fitted[wanted, sweep.count].items():
            if node in plan.weights and _bare(plan.nodes[node]) == as_planned:
                plan.weights[node], found[node] = codes, wanted
        return found

    def _fit(self, recipe: Recipe, sweep: _Sweep) -> dict[Node, tuple[NodePlan, WeightCodes]]:
        """The steps of `FITTED` on the model without the rules of the search."""
        bare = _without_own_rules(recipe, self.workload.recipe)
        context = Context(target=self.workload.target, samples=sweep.samples, seed=self.workload.seed)
        AssignPrecision(AssignConfig(recipe=bare)).run(self.graph, context)
        plan: QuantPlan = context.tables[PLAN]
        self._set_ranges(plan, sweep, bare.activation_range.method)
        self._set_weights(plan, sweep)
        before = dict(plan.weights)
        for step in self.fitting:
            step.run(self.graph, context)
        return {n: (_bare(plan.nodes[n]), c) for n, c in plan.weights.items() if c is not before.get(n)}

    def _set_biases(self, plan: QuantPlan, sweep: _Sweep, fitted: Mapping[Node, str]) -> None:
        """b + (W - Wq) E[x], with the mean of the layer's float input per channel (padding counted as data)."""
        from qcompiler.passes.rounding.sites import bias_of, weight_of

        nodes = [n for n in self.weighted(plan) if plan.nodes[n].scheme != DYNAMIC]
        sweep.need_means(nodes)
        for node in nodes:
            key = self._key(plan, node, sweep), fitted.get(node)
            if key not in self._biases:
                error = weight_of(node) - plan.weights[node].real()
                mean = sweep.mean(node)
                groups = node.attrs.get("groups", 1)
                taps = error.reshape(groups, error.shape[0] // groups, error.shape[1], -1).sum(-1, dtype=np.float64)
                shift = np.einsum("goi,gi->go", taps, mean.reshape(groups, -1)).ravel()
                bias = bias_of(plan, node)
                self._biases[key] = (shift if bias is None else bias + shift).astype(np.float32)
            plan.biases[node] = self._biases[key]

    def weighted(self, plan: QuantPlan) -> list[Node]:
        """Layers with a weight to round."""
        from qcompiler.passes.rounding.sites import weighted_nodes

        return weighted_nodes(plan)

    def _key(self, plan: QuantPlan, node: Node, sweep: _Sweep) -> Any:
        """Everything that a layer's codes depend on."""
        value = node.inputs[0]
        quant = plan.activations.get(value) if value is not None else None
        scale = None if quant is None else float(quant.scale)
        return node, _bare(plan.nodes[node]), scale, sweep.count


def fitted_key(recipe: Recipe, base: Recipe) -> str | None:
    """Everything but the samples that codes by the steps of `FITTED` depend on, None where there are none.

    base: the recipe that the search changes.
    """
    return _without_own_rules(recipe, base).to_json() if recipe.rounding == "gptq" else None


def _without_own_rules(recipe: Recipe, base: Recipe) -> Recipe:
    rules = [rule.model_dump(mode="json", exclude_none=True) for rule in base.rules]
    return recipe.with_changes({"rules": rules, "name": base.name})


def _bare(plan: NodePlan) -> NodePlan:
    """What of a layer's plan its codes depend on."""
    return replace(plan, reason="", fused=None)


def _calibrated(plan: QuantPlan, roots: Sequence[Value], method: str, sweep: _Sweep) -> dict[Value, QuantParams]:
    calibrate = CalibrateActivations(CalibrateConfig(method=method))
    return calibrate.parameters(plan, roots, method, sweep)  # type: ignore[arg-type]


class _Sweep:
    """Statistics over a fixed number of samples, collected when first asked for; ranges are computed once."""

    def __init__(self, graph: Graph, calibration: Samples, count: int) -> None:
        self.graph, self.calibration, self.count = graph, calibration, count
        self._executor: Any = None
        self._observers: dict[Value, list[Observer]] = {}
        self._ranges: dict[Any, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_executor": None}  # made of closures; another process makes its own if it has to

    @property
    def samples(self) -> Samples:
        """The first `count` calibration samples."""
        return self.calibration.select(range(self.count))

    def need_ranges(self, values: Sequence[Value], plan: QuantPlan) -> None:
        """Observe values for every clipping method."""
        self._collect(
            {v: [observer(RangeRule(m, plan.ranges[v][1].percentile)) for m in METHODS] for v in values}
        )

    def need_covariances(self, plan: QuantPlan) -> None:
        """Observe what rounding asks for."""
        from qcompiler.passes.rounding.sites import covariance_requests

        self._collect(covariance_requests(plan, self.count))

    def need_means(self, nodes: Sequence[Node]) -> None:
        """Observe the channel means of what layers read."""
        from qcompiler.calibration.moments import ChannelMoments

        self._collect({n.operands[0]: [ChannelMoments(axis=1 if n.op == "conv" else -1)] for n in nodes})

    def mean(self, node: Node) -> np.ndarray:
        """Mean of each input channel of a layer, float64."""
        from qcompiler.calibration.moments import ChannelMoments

        axis = 1 if node.op == "conv" else -1
        found = self._observers[node.operands[0]]
        return next(o for o in found if isinstance(o, ChannelMoments) and o.axis == axis).mean

    def range(self, value: Value, dtype: Any, symmetric: bool, kind: Any) -> Any:
        """As `Statistics.range`."""
        key = (value, dtype, symmetric, kind)
        if key not in self._ranges:
            self._ranges[key] = self.statistics().range(value, dtype, symmetric, kind)
        return self._ranges[key]

    def statistics(self) -> Any:
        """Everything observed so far."""
        from qcompiler.calibration import Statistics

        return Statistics({v: tuple(o) for v, o in self._observers.items()}, self.count)

    def _collect(self, requests: dict[Value, list[Observer]]) -> None:
        from qcompiler.calibration import collect
        from qcompiler.executors.torch_executor import TorchExecutor

        new = {v: [o for o in found if o not in self._observers.get(v, ())] for v, found in requests.items()}
        new = {v: found for v, found in new.items() if found}
        if new:
            if self._executor is None:
                self._executor = TorchExecutor(self.graph)
            collect(self.graph, self.samples, new, self._executor)
            for value, found in new.items():
                self._observers.setdefault(value, []).extend(found)
