"""Choose scale and zero point of every value that integer nodes read or write: one sweep over the calibration data.

Ranges known without data (after ReLU6, softmax) are not measured. Values that must share their parameters get the
union of their ranges. What the rounding passes need of the data (covariances of layer inputs) is collected by the
same sweep and left in `context.tables["statistics"]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from pydantic import Field

from qcompiler.calibration import (
    Entropy,
    HistogramMSE,
    MinMax,
    MovingAverage,
    Observer,
    Percentile,
    RangeObserver,
    Statistics,
    collect,
    quant_params_from_range,
)
from qcompiler.errors import UsageError
from qcompiler.executors.torch_executor import TorchExecutor
from qcompiler.ir import Graph, QuantParams, Value
from qcompiler.passes.base import Context, Kind, Note, Pass, PassConfig, Result
from qcompiler.passes.quantize.assign_precision import PLAN, fixed_range
from qcompiler.passes.quantize.measured_error import ErrorMeter, split_samples
from qcompiler.passes.quantize.op_roles import JOINS, MOVEMENT
from qcompiler.passes.quantize.plan import STATIC, QuantPlan, RangeRule
from qcompiler.passes.rounding.sites import covariance_requests

STATISTICS = "statistics"
AUTO = "auto"
CANDIDATES = ("minmax", "mse")
"""What "auto" chooses from, for all values together."""


class CalibrateConfig(PassConfig):
    """method: overrides the range method of every rule; "" keeps the recipe's. headroom: factor on every range."""

    method: str = Field("", json_schema_extra={"search": ["minmax", "mse", "percentile", "entropy"]})
    headroom: float = Field(1.0, gt=0, json_schema_extra={"search": [0.9, 1.0, 1.15]})


class CalibrateActivations(Pass):
    """Fills `activations` of the plan."""

    name = "calibrate_activations"
    kind = Kind.EXACT
    must_follow = ("assign_precision",)

    def __init__(self, config: CalibrateConfig | None = None) -> None:
        self.config = config or CalibrateConfig()

    def run(self, graph: Graph, context: Context) -> Result:
        """Fill the plan.

        Raises:
            UsageError: ranges have to be measured and there is no calibration data.
            CalibrationError: NaN or Inf in the data or in a value.
        """
        plan: QuantPlan = context.tables[PLAN]
        roots = [v for v in plan.ranges if fixed_range(plan, v) is None and not is_moved(plan, v)]
        methods = self._methods(plan, roots, context)
        requests: dict[Value, list[Observer]] = {v: [observer(r) for r in self._rules(plan, v, methods)] for v in roots}
        fitted, judged = context.samples, None
        if self._is_auto(plan, roots) and context.samples is not None:
            fitted, judged = split_samples(context.samples)  # a replayed decision fits on the same samples
        for value, observers in covariance_requests(plan, len(fitted or ())).items():
            requests.setdefault(value, []).extend(observers)
        statistics = Statistics({}, 0)
        if requests:
            if fitted is None:
                raise UsageError("static quantization needs calibration data; give some, or use dynamic ranges")
            executor = TorchExecutor(graph)
            statistics = collect(graph, fitted, requests, executor, lambda i, n: context.progress(self.name, i, n))
        context.tables[STATISTICS] = statistics
        method, note = self._choose(plan, roots, methods, statistics, judged)
        if self._is_auto(plan, roots):
            context.decisions[self.name] = {"method": method}
        plan.activations.update(self.parameters(plan, roots, method, statistics))
        notes = [Note(_where(graph, v), True, self._describe(plan, v, method), _figures(plan.activations[v])) for v in plan.ranges]
        notes += [Note("calibration data", True, n) for n in statistics.notes]
        return Result(graph, False, (*note, *notes))

    def _is_auto(self, plan: QuantPlan, roots: Sequence[Value]) -> bool:
        return not self.config.method and any(plan.ranges[v][1].method == AUTO for v in roots)

    def _methods(self, plan: QuantPlan, roots: Sequence[Value], context: Context) -> tuple[str, ...]:
        """What "auto" may stand for: one method where it is settled."""
        if not self._is_auto(plan, roots):
            return (self.config.method,)
        locked = (context.locked or {}).get(self.name)
        return (locked["method"],) if locked else CANDIDATES

    def _choose(
        self, plan: QuantPlan, roots: Sequence[Value], methods: Sequence[str], statistics: Statistics, judged: Any
    ) -> tuple[str, tuple[Note, ...]]:
        """The method whose ranges, with real weights, come nearest to the float graph on held-back data."""
        if len(methods) == 1 or judged is None:
            return methods[0], ()
        meter = ErrorMeter(plan.graph, judged)
        found = {}
        for method in methods:
            trial = replace(plan, activations=self.parameters(plan, roots, method, statistics), weights={}, biases={})
            found[method] = meter.sqnr_db(trial)
        best = max(methods, key=lambda m: found[m])
        figures = {f"{m}_sqnr_db": round(v, 2) for m, v in found.items()}
        return best, (Note("ranges of all activations", True, f"{best}, by measured error on held-back samples", figures),)

    def _rules(self, plan: QuantPlan, value: Value, methods: Sequence[str]) -> list[RangeRule]:
        """The rule of a value under each method that "auto" may stand for."""
        rule = plan.ranges[value][1]
        if self.config.method:
            return [RangeRule(self.config.method, rule.percentile)]
        return [RangeRule(m, rule.percentile) for m in methods] if rule.method == AUTO else [rule]

    def parameters(
        self, plan: QuantPlan, roots: Sequence[Value], method: str, statistics: Statistics
    ) -> dict[Value, QuantParams]:
        """Parameters of every value of `plan.ranges`, those of `roots` from their statistics by one method."""
        measured = {}
        for value in roots:
            dtype = plan.ranges[value][0]
            kind = type(observer(self._rules(plan, value, (method,))[0]))
            measured[value] = statistics.range(value, dtype, dtype.is_signed, kind)
        grouped = {v: group for group in plan.groups for v in group}
        found: dict[Value, QuantParams] = {}
        for value, (dtype, _) in plan.ranges.items():
            if value in found:
                continue
            members = grouped.get(value, (value,))
            bounds = [measured[v] for v in members if v in measured]
            bounds += [fixed for v in members if v not in measured and (fixed := fixed_range(plan, v)) is not None]
            factor = self.config.headroom if any(v in measured for v in members) else 1.0
            low, high = min(b[0] for b in bounds) * factor, max(b[1] for b in bounds) * factor
            scale, zero_point = quant_params_from_range(low, high, dtype, symmetric=dtype.is_signed)
            params = QuantParams(dtype, scale, np.int32(zero_point))
            found.update(dict.fromkeys(members, params))
        return found

    def _describe(self, plan: QuantPlan, value: Value, method: str) -> str:
        if fixed_range(plan, value) is not None:
            return "range known without data"
        return self._rules(plan, value, (method,))[0].method


def observer(rule: RangeRule) -> RangeObserver:
    """The observer of a range method.

    Raises:
        UsageError: unknown method.
    """
    if rule.method == "percentile":
        return Percentile(percentile=rule.percentile)
    kinds: dict[str, type[RangeObserver]] = {
        "minmax": MinMax, "mse": HistogramMSE, "entropy": Entropy, "moving_average": MovingAverage,
    }  # fmt: skip
    if rule.method not in kinds:
        raise UsageError(f"unknown range method {rule.method!r}; known: percentile, {', '.join(kinds)}")
    return kinds[rule.method]()


def is_moved(plan: QuantPlan, value: Value) -> bool:
    """True for the result of movement on codes: its range is that of the operand."""
    node = plan.graph.producer(value)
    return node is not None and plan.nodes[node].scheme == STATIC and node.op in MOVEMENT | JOINS


def _where(graph: Graph, value: Value) -> str:
    node = graph.producer(value)
    return node.where() if node is not None else f"input {value.name}"


def _figures(quant: QuantParams) -> dict[str, Any]:
    return {"scale": float(quant.scale), "zero_point": int(quant.zero_point), "dtype": quant.dtype.name}
