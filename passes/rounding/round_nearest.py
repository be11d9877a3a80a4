"""Round weights to the nearest code: symmetric scales per output channel, minimum-maximum or least squared error.

    code = clip(round(w / scale), -qmax, qmax)

(Groups along the input channels, and zero points, are `group_grid`'s.) The scale is max|w| / qmax, or of a grid of shrunken ones that with the least sum (w - scale code)^2 (clipping as in
GPTQ's and BRECQ's quantizers). It is then raised where that is needed:
- so that the bias stays a small part of int32: bias / (activation scale x weight scale) must fit. Channels of a
  folded batch norm may be all about 1e-9 beside an ordinary bias; their own scale would overflow it.
- to the target's floor: machines that add 16-bit pairs of products need smaller neighbours. Sums of four or eight would
  cost too much so; there the weights beyond the limit are cut instead (`limit_sums`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pydantic import Field

from qcompiler.ir import Graph, Node, QuantParams
from qcompiler.passes.base import Context, Kind, Note, Pass, PassConfig, Result
from qcompiler.passes.quantize.plan import QuantPlan, WeightCodes
from qcompiler.passes.rounding.group_grid import round_groups
from qcompiler.passes.rounding.limit_sums import limited_weights
from qcompiler.passes.rounding.sites import bias_of, is_matrix, weight_of, weighted_nodes
from qcompiler.targets.saturation import pair_safe_scale

BIAS_ROOM = float(1 << 29)
"""A bias may take a quarter of the positive int32 range at most; correction of the bias later moves it a little."""

SMALLEST = float(np.finfo(np.float32).tiny)


class NearestConfig(PassConfig):
    """shrink: smallest factor on the scale that the least-squares search tries, in `steps` steps."""

    shrink: float = Field(0.8, gt=0, lt=1, json_schema_extra={"search": [0.6, 0.7, 0.8, 0.9]})
    steps: int = Field(8, ge=1)


class RoundNearest(Pass):
    """Fills `weights` of the plan for every quantized layer; other rounding passes start from it."""

    name = "round_nearest"
    kind = Kind.LOSSY
    must_follow = ("assign_precision", "calibrate_activations")

    def __init__(self, config: NearestConfig | None = None) -> None:
        self.config = config or NearestConfig()

    def run(self, graph: Graph, context: Context) -> Result:
        plan: QuantPlan = context.tables["plan"]
        notes = []
        for node in weighted_nodes(plan):
            if plan.nodes[node].rounding == "gptq" and is_matrix(node):
                continue  # round_gptq needs no start
            codes = self.round(plan, node)
            plan.weights[node] = codes
            notes.append(Note(node.where(), True, plan.nodes[node].weight_range, {"sqnr_db": sqnr(weight_of(node), codes.real())}))
        return Result(graph, False, tuple(notes))

    def round(self, plan: QuantPlan, node: Node) -> WeightCodes:
        """Codes of one layer's weight."""
        node_plan, weight = plan.nodes[node], weight_of(node)
        assert node_plan.weight_dtype is not None
        if node_plan.group_size is not None or not node_plan.weight_symmetric:
            search = node_plan.weight_range == "mse"
            return round_groups(weight, node_plan.weight_dtype, node_plan.group_size, search, node_plan.progressive)
        qmax = node_plan.weight_dtype.max
        floor = scale_floor(plan, node)
        peak = np.abs(weight.reshape(weight.shape[0], -1)).max(1, initial=0).astype(np.float64)
        if not node_plan.per_channel:
            peak, floor = peak.max(keepdims=True), floor.max(keepdims=True)
        scale = np.maximum(peak / qmax, floor)
        if node_plan.summed > 2:
            codes, scale = limited_weights(weight, scale, node_plan.summed, qmax)
            return with_scale(codes, scale, node_plan.weight_dtype, node_plan.per_channel)
        if node_plan.weight_range == "mse":
            scale = self._least_squares(weight, scale, floor, qmax)
        return quantize_weight(weight, scale, node_plan.weight_dtype, node_plan.per_channel)

    def _least_squares(self, weight: np.ndarray, scale: np.ndarray, floor: np.ndarray, qmax: int) -> np.ndarray:
        rows = torch.from_numpy(np.array(weight.reshape(len(scale), -1), np.float32))
        best, error = scale, None
        for factor in np.linspace(1.0, self.config.shrink, self.config.steps + 1):
            tried = np.maximum(scale * factor, floor)
            step = torch.from_numpy(tried.astype(np.float32))[:, None]
            codes = (rows / step).round_().clamp_(-qmax, qmax).mul_(step).sub_(rows)
            now = codes.square_().sum(1).double().numpy()
            if error is None:
                error = now
                continue
            best = np.where(now < error, tried, best)
            error = np.minimum(now, error)
        return best


def scale_floor(plan: QuantPlan, node: Node) -> np.ndarray:
    """Smallest admissible weight scale per output channel, float64 [O]."""
    weight, bias = weight_of(node), bias_of(plan, node)
    floor = np.full(weight.shape[0], SMALLEST)
    if plan.nodes[node].summed > 1:
        floor = np.maximum(floor, pair_safe_scale(weight, node.attrs.get("groups", 1)))
    value = node.inputs[0]
    quant = plan.activations.get(value) if value is not None else None
    if quant is not None:
        if bias is not None:
            floor = np.maximum(floor, np.abs(bias).astype(np.float64) / (float(quant.scale) * BIAS_ROOM))
        floor = np.maximum(floor, SMALLEST / float(quant.scale) * 2)  # the accumulator's scale stays a normal number
    return floor


def quantize_weight(weight: np.ndarray, scale: np.ndarray, dtype: Any, per_channel: bool = True) -> WeightCodes:
    """Nearest codes, limited to [-qmax, qmax]; scale [O], or [1] per tensor."""
    params = with_scale(weight, scale, dtype, per_channel).quant
    codes = np.clip(np.rint(weight / params.broadcast(params.scale, weight.shape)), -dtype.max, dtype.max)
    return WeightCodes(codes.astype(dtype.numpy), params)


def with_scale(codes: np.ndarray, scale: np.ndarray, dtype: Any, per_channel: bool = True) -> WeightCodes:
    """Codes of a symmetric scale [O], or [1] per tensor."""
    single = scale.astype(np.float32)
    params = QuantParams(dtype, single, axis=0) if per_channel else QuantParams(dtype, single.reshape(()))
    return WeightCodes(codes.astype(dtype.numpy), params)


def sqnr(signal: np.ndarray, approximation: np.ndarray) -> float:
    """Signal to noise ratio in dB, capped at 200 (equal arrays); 0 for a signal of zeros."""
    noise = float(np.square(signal.astype(np.float64) - approximation).sum())
    power = float(np.square(signal.astype(np.float64)).sum())
    if power == 0:
        return 0.0
    return 200.0 if noise == 0 else min(200.0, 10 * float(np.log10(power / noise)))
