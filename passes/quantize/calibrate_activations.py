"""Choose scale and zero point of every value that integer nodes read or write: one sweep over the calibration data.

Ranges known without data (after ReLU6, softmax) are not measured. Values that must share their parameters get the
union of their ranges. What the rounding passes need of the data (covariances of layer inputs) is collected by the
same sweep and left in `context.tables["statistics"]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import Field
from qcompiler.passes.base import Context, Kind, Note, Pass, PassConfig, Result
from qcompiler.passes.quantize.assign_precision import PLAN, fixed_range
from qcompiler.passes.quantize.op_roles import JOINS, MOVEMENT
from qcompiler.passes.quantize.plan import STATIC, QuantPlan, RangeRule
from qcompiler.passes.rounding.sites import covariance_requests

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

STATISTICS = "statistics"


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
        roots = [v for v in plan.ranges if fixed_range(plan, v) is None and not _moved(plan, v)]
        requests: dict[Value, list[Observer]] = {v: [observer(self._rule(plan, v))] for v in roots}
        for value, observers in covariance_requests(plan, len(context.samples or ())).items():
            requests.setdefault(value, []).extend(observers)
        statistics = Statistics({}, 0)
        if requests:
            if context.samples is None:
                raise UsageError("static quantization needs calibration data; give some, or use dynamic ranges")
            executor = TorchExecutor(graph)
            statistics = collect(graph, context.samples, requests, executor, lambda i, n: context.progress(self.name, i, n))
        context.tables[STATISTICS] = statistics
        measured = {v: statistics.range(v, plan.ranges[v][0], plan.ranges[v][0].is_signed) for v in roots}
        self._set_parameters(plan, measured)
        notes = [Note(_where(graph, v), True, _describe(plan, v), _figures(plan.activations[v])) for v in plan.ranges]
        return Result(graph, False, (*notes, *(Note("calibration data", True, n) for n in statistics.notes)))

    def _rule(self, plan: QuantPlan, value: Value) -> RangeRule:
        rule = plan.ranges[value][1]
        return RangeRule(self.config.method or rule.method, rule.percentile)

    def _set_parameters(self, plan: QuantPlan, measured: dict[Value, tuple[Any, Any]]) -> None:
        grouped = {v: group for group in plan.groups for v in group}
        for value, (dtype, _) in plan.ranges.items():
            if value in plan.activations:
                continue
            members = grouped.get(value, (value,))
            bounds = [measured[v] for v in members if v in measured]
            bounds += [fixed for v in members if v not in measured and (fixed := fixed_range(plan, v)) is not None]
            factor = self.config.headroom if any(v in measured for v in members) else 1.0
            low, high = min(b[0] for b in bounds) * factor, max(b[1] for b in bounds) * factor
            scale, zero_point = quant_params_from_range(low, high, dtype, symmetric=dtype.is_signed)
            params = QuantParams(dtype, scale, np.int32(zero_point))
            plan.activations.update(dict.fromkeys(members, params))


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


def _moved(plan: QuantPlan, value: Value) -> bool:
    """True for the result of movement on codes: its range is that of the operand."""
    node = plan.graph.producer(value)
    return node is not None and plan.nodes[node].scheme == STATIC and node.op in MOVEMENT | JOINS


def _where(graph: Graph, value: Value) -> str:
    node = graph.producer(value)
    return node.where() if node is not None else f"input {value.name}"


def _describe(plan: QuantPlan, value: Value) -> str:
    return "range known without data" if fixed_range(plan, value) is not None else plan.ranges[value][1].method


def _figures(quant: QuantParams) -> dict[str, Any]:
    return {"scale": float(quant.scale), "zero_point": int(quant.zero_point), "dtype": quant.dtype.name}


def calibration_subset(samples: Sequence[Any], count: int) -> list[Any]:
    """At most `count` samples, evenly spaced."""
    size = len(samples)
    return [samples[i] for i in sorted({i * size // count for i in range(count)})] if size > count else list(samples)
