"""Round short filters under the covariance of what they read: depthwise filters, stems.

The output error of a filter w with codes q and scale s is e^T H e, e = w - s q, where H is the covariance of the
patches it reads (Nagel et al., "Up or Down?", arXiv:2004.10568, section 3.2, with the exact H instead of a relaxation
of it). Centred, because a constant error goes into the bias. With few weights per filter, errors do not average out:
an edge filter whose rounding errors all point one way adds a constant to a signal that had none.

Every scale of a grid is tried, and for each
    K <= 10   all 2^K ways to round up or down: e^T H e = e0^T H e0 - 2 s e0^T H b + s^2 b^T H b, b in {0, 1}^K,
              e0 = w - s floor(w / s); b^T H b is shared by all scales
    larger    cyclic coordinate descent between floor and ceiling, from the nearest codes, for the scales whose nearest
              codes do best.
The result is never worse, by this measure, than the codes it starts from.
"""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from qcompiler.calibration import Statistics
from qcompiler.ir import Graph, Node
from qcompiler.passes.base import Context, Kind, Note, Pass, PassConfig, Result
from qcompiler.passes.quantize.plan import QuantPlan, WeightCodes
from qcompiler.passes.rounding.filter_covariance import FilterCovariance
from qcompiler.passes.rounding.round_nearest import quantize_weight, scale_floor
from qcompiler.passes.rounding.sites import (
    filter_length,
    layer_input,
    wants_hessian,
    weight_of,
    weighted_nodes,
)

EXHAUSTIVE = 10
"""Longest filter of which all 2^K roundings are tried."""

KEPT = 6
"""Scales per channel that coordinate descent is run for."""

LEAST_GAIN = 1e-4
"""Share of the error that must go for new codes to be taken: less is the rounding of scales to float32."""


class HessianConfig(PassConfig):
    """Search of scales and roundings.

    damping: share of the mean diagonal added to H. scales: number of scales tried, from `smallest` times the
    largest weight's to 1. sweeps: of coordinate descent.
    """

    damping: float = Field(0.01, ge=0, json_schema_extra={"search": [0.003, 0.01, 0.03]})
    scales: int = Field(21, ge=1)
    smallest: float = Field(0.6, gt=0, le=1, json_schema_extra={"search": [0.5, 0.6, 0.8]})
    sweeps: int = Field(8, ge=1)


class RoundHessian(Pass):
    """Replaces the codes of short filters in the plan."""

    name = "round_hessian"
    kind = Kind.LOSSY
    must_follow = ("calibrate_activations", "round_nearest")

    def __init__(self, config: HessianConfig | None = None) -> None:
        self.config = config or HessianConfig()

    def run(self, graph: Graph, context: Context) -> Result:
        plan: QuantPlan = context.tables["plan"]
        statistics: Statistics | None = context.tables.get("statistics")
        notes = []
        for node in weighted_nodes(plan):
            if not wants_hessian(plan, node):
                notes.append(Note(node.where(), False, f"rounding is {plan.nodes[node].rounding}, filter length {filter_length(node)}"))
                continue
            covariance = covariance_of(statistics, node)
            if covariance is None:
                notes.append(Note(node.where(), False, "no covariance of its input was collected"))
                continue
            floor = scale_floor(plan, node)
            codes, gain = self.round(weight_of(node), plan.weights[node], covariance, floor)
            if gain > LEAST_GAIN:
                plan.weights[node] = codes
            notes.append(Note(node.where(), gain > LEAST_GAIN, "" if gain > LEAST_GAIN else "no rounding is better", {"error_ratio": 1 - gain}))
        return Result(graph, False, tuple(notes))

    def round(self, weight: np.ndarray, start: WeightCodes, covariance: np.ndarray, floor: np.ndarray) -> tuple[WeightCodes, float]:
        """Better codes for a weight [O, ...], and the share of the error they remove, summed over channels.

        covariance: [groups, K, K]; output channel o reads group o // (O / groups).
        """
        outputs, dtype = weight.shape[0], start.quant.dtype
        rows = torch.from_numpy(weight.reshape(outputs, -1).astype(np.float64))
        hessian = torch.from_numpy(covariance).to(torch.float64)
        size = hessian.shape[-1]
        damping = self.config.damping * torch.diagonal(hessian, dim1=1, dim2=2).mean(1)
        damping = torch.where(damping > 0, damping, torch.ones_like(damping))  # a dead input: plain least squares
        hessian = hessian + damping[:, None, None] * torch.eye(size, dtype=torch.float64)
        hessian = hessian.repeat_interleave(outputs // len(hessian), 0)
        base = np.maximum(np.abs(rows.numpy()).max(1, initial=0) / dtype.max, floor)
        grid = np.linspace(1.0, self.config.smallest, self.config.scales)[:, None] * base
        grid = np.maximum(grid, floor).astype(np.float32)
        started = rows - torch.from_numpy(start.real().reshape(outputs, -1).astype(np.float64))
        before = _error(started, hessian)
        search = _Exhaustive(hessian) if size <= EXHAUSTIVE else _Descent(hessian, self.config.sweeps)
        scales = torch.from_numpy(grid.astype(np.float64))
        if size > EXHAUSTIVE:
            scales = _promising(rows, scales, hessian, dtype.max)
        codes, errors = search(rows, scales, dtype.max)
        error, choice = errors.min(0)
        better = error < before
        picked = codes[choice, torch.arange(outputs)]
        first = torch.from_numpy(start.codes.reshape(outputs, -1).astype(np.float64))
        first_scale = torch.from_numpy(np.broadcast_to(start.quant.scale, (outputs,)).astype(np.float64))
        best_codes = torch.where(better[:, None], picked, first)
        best_scale = torch.where(better, scales[choice, torch.arange(outputs)], first_scale)
        best_error = torch.where(better, error, before)
        total = float(before.sum())
        gain = 1 - float(best_error.sum()) / total if total > 0 else 0.0
        params = quantize_weight(weight, best_scale.numpy(), dtype).quant
        return WeightCodes(best_codes.numpy().reshape(weight.shape).astype(dtype.numpy), params), gain


class _Exhaustive:
    """All roundings up or down. hessian [O, K, K]; call: rows [O, K], scales [S, O] -> codes [S, O, K], errors [S, O]."""

    def __init__(self, hessian: Tensor) -> None:
        size = hessian.shape[-1]
        patterns = (torch.arange(1 << size)[:, None] >> torch.arange(size)) & 1
        self.patterns = patterns.to(torch.float64)
        self.hessian = hessian
        pairs = (self.patterns[:, :, None] * self.patterns[:, None, :]).flatten(1)
        self.quadratic = hessian.flatten(1) @ pairs.T

    def __call__(self, rows: Tensor, scales: Tensor, qmax: int) -> tuple[Tensor, Tensor]:
        codes, errors = [], []
        for scale in scales[..., None]:
            down = (rows / scale).floor_().clamp_(-qmax, qmax - 1)
            rest = rows - scale * down
            pull = (self.hessian @ rest[..., None])[..., 0]
            change = torch.addcmul((-2 * scale * pull) @ self.patterns.T, self.quadratic, scale**2)
            least, choice = change.min(1)
            codes.append(down + self.patterns[choice])
            errors.append(least + (pull * rest).sum(1))
        return torch.stack(codes), torch.stack(errors)


class _Descent:
    """Coordinate descent between floor and ceiling, all scales at once; arguments and result as `_Exhaustive`."""

    def __init__(self, hessian: Tensor, sweeps: int) -> None:
        self.hessian, self.sweeps = hessian, sweeps
        self.diagonal = torch.diagonal(hessian, dim1=1, dim2=2)

    def __call__(self, rows: Tensor, scales: Tensor, qmax: int) -> tuple[Tensor, Tensor]:
        steps = scales[..., None]
        exact = rows / steps
        low, high = exact.floor().clamp_(-qmax, qmax), exact.ceil().clamp_(-qmax, qmax)
        codes = exact.round_().clamp_(-qmax, qmax)
        pull = torch.einsum("okl,sol->sok", self.hessian, rows - steps * codes)
        for _ in range(self.sweeps):
            moved = False
            for j in range(rows.shape[1]):
                step = (pull[..., j] / (scales * self.diagonal[:, j])).round_()
                wanted = torch.minimum(torch.maximum(codes[..., j] + step, low[..., j]), high[..., j])
                step = wanted - codes[..., j]
                if bool(step.any()):
                    moved = True
                    codes[..., j] = wanted
                    pull -= (scales * step)[..., None] * self.hessian[:, j]
            if not moved:
                break
        rest = rows - steps * codes
        return codes, (rest * pull).sum(-1)


def _promising(rows: Tensor, scales: Tensor, hessian: Tensor, qmax: int) -> Tensor:
    """The scales [KEPT, O] whose nearest codes have the least errors, channel by channel."""
    steps = scales[..., None]
    rest = rows - steps * (rows / steps).round_().clamp_(-qmax, qmax)
    errors = (torch.einsum("okl,sol->sok", hessian, rest) * rest).sum(-1)
    return scales.gather(0, errors.topk(min(KEPT, len(scales)), 0, largest=False).indices)


def _error(rest: Tensor, hessian: Tensor) -> Tensor:
    return torch.einsum("ok,okl,ol->o", rest, hessian, rest)


def covariance_of(statistics: Statistics | None, node: Node) -> np.ndarray | None:
    """Of what a layer reads [groups, K, K]; None if nobody collected it."""
    layer, value = layer_input(node), node.inputs[0]
    for observer in statistics.observers.get(value, ()) if statistics is not None and value is not None else ():
        if isinstance(observer, FilterCovariance) and observer.rows and (layer is None or observer.layer == layer):
            return np.asarray(observer.covariance)
    return None
