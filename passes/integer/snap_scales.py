"""Powers of two as scales of every activation and weight, for the profile `shift_half_even`.

Activations: the next power of two that loses at most `clip` of the range. Weights are rounded anew, to the nearest
code, with the better of the two powers of two around their scale; never below the scale at which the bias, in the
accumulator's steps, takes a quarter of an accumulator that float32 holds exactly (2^22). Zero points are even, see `even_zero_point`.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from qcompiler.ir import DType, Graph, Node, QuantParams
from qcompiler.passes.base import Context, Kind, Note, Pass, PassConfig, Result
from qcompiler.passes.quantize.plan import STATIC, QuantPlan, WeightCodes
from qcompiler.passes.rounding.round_nearest import quantize_weight
from qcompiler.passes.rounding.sites import bias_of, weight_of

BIAS_ROOM = float(1 << 22)


class SnapConfig(PassConfig):
    """clip: share of an activation's range that may be cut off to keep a finer step."""

    clip: float = Field(0.05, ge=0, lt=0.5, json_schema_extra={"search": [0.0, 0.05, 0.15]})


class SnapScales(Pass):
    """Changes `activations` and `weights` of the plan."""

    name = "snap_scales"
    kind = Kind.LOSSY
    must_follow = ("calibrate_activations", "round_nearest", "round_hessian", "round_adaround")

    def __init__(self, config: SnapConfig | None = None) -> None:
        self.config = config or SnapConfig()

    def run(self, graph: Graph, context: Context) -> Result:
        """Snap."""
        plan: QuantPlan = context.tables["plan"]
        snapped = {quant: self._activation(quant) for quant in set(plan.activations.values())}
        plan.activations.update({value: snapped[quant] for value, quant in plan.activations.items()})
        notes = []
        for node, codes in list(plan.weights.items()):
            if plan.nodes[node].scheme == STATIC and codes.quant.group_size is None:
                plan.weights[node] = self._weight(plan, node, codes)
                notes.append(Note(node.where(), True, "scales are powers of two"))
        return Result(graph, False, tuple(notes))

    def _activation(self, quant: QuantParams) -> QuantParams:
        """The range of the old parameters in the new ones; its lower end decides the zero point."""
        scale, dtype = float(quant.scale), quant.dtype
        step = 2.0 ** np.ceil(np.log2(scale * (1 - self.config.clip)))
        if quant.symmetric and dtype.is_signed:
            return QuantParams(dtype, np.float32(step))
        low, high = ((end - int(quant.zero_point)) * scale for end in (dtype.min, dtype.max))
        # Codes that the range does not need are left over on both sides, but a range that starts at 0 keeps doing so.
        spare = max(0.0, (dtype.max - dtype.min) - (high - low) / step) / 2 if low < 0 < high else 0.0
        return QuantParams(dtype, np.float32(step), np.int32(even_zero_point(dtype.min + spare - low / step, dtype)))

    def _weight(self, plan: QuantPlan, node: Node, codes: WeightCodes) -> WeightCodes:
        weight, bias = weight_of(node), bias_of(plan, node)
        old = np.atleast_1d(codes.quant.scale).astype(np.float64)
        floor = np.zeros(len(old))
        value = node.inputs[0]
        if bias is not None and value is not None and value in plan.activations:
            floor = np.abs(bias).astype(np.float64) / (float(plan.activations[value].scale) * BIAS_ROOM)
            floor = floor if len(old) > 1 else floor.max(keepdims=True)
        tried = []
        for exponent in (np.floor(np.log2(old)), np.ceil(np.log2(old))):
            scale = np.maximum(2.0**exponent, _power_above(floor))
            found = quantize_weight(weight, scale, codes.quant.dtype, codes.quant.axis is not None)
            error = np.square(found.real() - weight, dtype=np.float64).reshape(len(weight), -1).sum(1)
            tried.append((scale, error if len(old) > 1 else error.sum(keepdims=True)))
        better = np.where(tried[0][1] < tried[1][1], tried[0][0], tried[1][0])
        return quantize_weight(weight, better, codes.quant.dtype, codes.quant.axis is not None)


def even_zero_point(at: float, dtype: DType) -> int:
    """The nearest even zero point: rounding half to even before and after adding it is then the same.

    Kernels for sums of codes add it before.
    """
    return int(np.clip(2 * np.rint(at / 2), dtype.min, dtype.max - 1))


def _power_above(values: np.ndarray) -> np.ndarray:
    """The least power of two that is not smaller; 0 for 0."""
    with np.errstate(divide="ignore"):
        return np.where(values > 0, 2.0 ** np.ceil(np.log2(values)), 0.0)
