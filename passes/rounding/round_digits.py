"""Round weights to codes that are sums of few signed powers of two, under the second moment of what the layer reads.

Such codes lie ever further apart: with two digits 96, 80, 72, 68, ... 33, 32 are neighbours. What rounding one weight of a
filter loses, the weights that are not rounded yet make up for (`gptq`, with these codes in place of all), for scales over
one octave, after which the distances between codes repeat; the best scale of every filter is kept, and its codes are
improved one by one until none changes. Where scales are powers of two, the present one and twice it are tried.
"""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from qcompiler.calibration import Statistics
from qcompiler.ir import Graph, QuantParams
from qcompiler.ir.signed_digits import codes_of_digits
from qcompiler.passes.base import Context, Kind, Note, Pass, PassConfig, Result
from qcompiler.passes.quantize.plan import QuantPlan, WeightCodes
from qcompiler.passes.rounding.gptq import Factor, factorize
from qcompiler.passes.rounding.round_hessian import covariance_of
from qcompiler.passes.rounding.round_nearest import scale_floor, sqnr
from qcompiler.passes.rounding.sites import weight_of, weighted_nodes


class DigitsConfig(PassConfig):
    """Search of scales and codes.

    damping: share of the mean diagonal added to the second moment. scales: tried over an octave. sweeps: over all codes.
    """

    damping: float = Field(0.01, ge=0, json_schema_extra={"search": [0.003, 0.01, 0.03]})
    scales: int = Field(12, ge=1)
    sweeps: int = Field(8, ge=0)


class RoundDigits(Pass):
    """Replaces the codes of layers whose recipe has `weight_digits`."""

    name = "round_digits"
    kind = Kind.LOSSY
    must_follow = ("calibrate_activations", "round_nearest", "round_hessian", "snap_scales")

    def __init__(self, config: DigitsConfig | None = None) -> None:
        self.config = config or DigitsConfig()

    def run(self, graph: Graph, context: Context) -> Result:
        plan: QuantPlan = context.tables["plan"]
        statistics: Statistics | None = context.tables.get("statistics")
        notes = []
        for node in weighted_nodes(plan):
            digits = plan.nodes[node].digits
            if digits is None:
                continue
            weight, covariance = weight_of(node), covariance_of(statistics, node)
            found = self.round(weight, plan.weights[node].quant, covariance, scale_floor(plan, node), digits)
            plan.weights[node] = found
            measure = "" if covariance is not None else "no second moment of its input was collected; by squared weight error"
            notes.append(Note(node.where(), True, measure, {"digits": digits, "sqnr_db": sqnr(weight, found.real())}))
        return Result(graph, False, tuple(notes))

    def round(
        self, weight: np.ndarray, start: QuantParams, covariance: np.ndarray | None, floor: np.ndarray, digits: int
    ) -> WeightCodes:
        """Codes of a weight [O, ...].

        Args:
            start: of the codes so far; their scales are kept if they are powers of two, up to a factor of two.
            covariance: [groups, K, K], output channel o reads group o // (O / groups); None counts all weights alike.
            floor: smallest scale [O].
            digits: of a code, at most.
        """
        rows = torch.from_numpy(weight.reshape(len(weight), -1).astype(np.float64))
        hessians = torch.eye(rows.shape[1], dtype=torch.float64)[None] if covariance is None else torch.from_numpy(covariance).double()
        admissible = torch.from_numpy(codes_of_digits(start.dtype.bits, digits)).double()
        scales = torch.from_numpy(self._scales(rows.numpy(), start, floor, float(admissible[-1])))
        codes, errors = torch.zeros(len(scales), *rows.shape, dtype=torch.float64), torch.zeros_like(scales)
        share = len(rows) // len(hessians)
        for group, hessian in enumerate(hessians):
            part = slice(group * share, (group + 1) * share)
            codes[:, part], errors[:, part] = self._round(rows[part], scales[:, part], hessian, admissible)
        if start.per_tensor:
            errors = errors.sum(1, keepdim=True).expand_as(errors)
        choice, each = errors.argmin(0), torch.arange(len(rows))
        scale = scales[choice, each].numpy().astype(np.float32)
        quant = QuantParams(start.dtype, scale[0] if start.per_tensor else scale, axis=start.axis, digits=digits)
        return WeightCodes(codes[choice, each].numpy().reshape(weight.shape).astype(start.dtype.numpy), quant)

    def _scales(self, rows: np.ndarray, start: QuantParams, floor: np.ndarray, top: float) -> np.ndarray:
        """Scales to try [S, O], float32 numbers."""
        old = np.broadcast_to(start.scale, (len(rows),)).astype(np.float64)
        if (np.exp2(np.rint(np.log2(old))) == old).all():
            return np.stack([old, 2 * old])
        peak = np.abs(rows).max(1, initial=0)
        if start.per_tensor:
            peak, floor = np.full_like(peak, peak.max(initial=0)), np.full_like(peak, floor.max())
        octave = np.exp2(np.linspace(-0.5, 0.5, self.config.scales, endpoint=False))
        return np.maximum(octave[:, None] * peak / top, floor).astype(np.float32).astype(np.float64)

    def _round(self, rows: Tensor, scales: Tensor, hessian: Tensor, admissible: Tensor) -> tuple[Tensor, Tensor]:
        """Codes [S, N, K] and their errors [S, N] for rows [N, K] that read the same channels, and scales [S, N]."""
        many, flat = rows.repeat(len(scales), 1), scales.reshape(-1)
        codes = spread_errors(many, flat, factorize(hessian, self.config.damping), admissible)
        damped = hessian + self.config.damping * hessian.diagonal().mean().clamp(min=1e-30) * torch.eye(len(hessian), dtype=hessian.dtype)
        errors = improve(many, flat, codes, damped, admissible, self.config.sweeps)
        return codes.reshape(len(scales), *rows.shape), errors.reshape(len(scales), -1)


def nearest(values: Tensor, admissible: Tensor) -> Tensor:
    """The nearest of some ascending codes."""
    middles = (admissible[1:] + admissible[:-1]) / 2
    return admissible[torch.bucketize(values, middles)]


def spread_errors(rows: Tensor, scales: Tensor, factor: Factor, admissible: Tensor) -> Tensor:
    """Codes [N, K] of rows [N, K] with scales [N]: errors of a column are spread over those not rounded yet."""
    rest = rows.T[factor.order].contiguous()
    codes = torch.empty_like(rest)
    for j, row in enumerate(rest):
        codes[j] = nearest(row / scales, admissible)
        error = (row - codes[j] * scales) / factor.upper[j, j]
        rest[j + 1 :].addr_(factor.upper[j, j + 1 :], error, alpha=-1)
    found = torch.empty_like(codes)
    found[factor.order] = codes
    return found.T.contiguous()


def improve(rows: Tensor, scales: Tensor, codes: Tensor, hessian: Tensor, admissible: Tensor, sweeps: int) -> Tensor:
    """Cyclic coordinate descent on e^T H e, e = row - scale code, in place; the errors [N] that are left."""
    pull = (rows - scales[:, None] * codes) @ hessian
    for _ in range(sweeps):
        moved = False
        for j in range(codes.shape[1]):
            wanted = nearest(codes[:, j] + pull[:, j] / (scales * hessian[j, j]), admissible)
            step = wanted - codes[:, j]
            if bool(step.any()):
                moved = True
                codes[:, j] = wanted
                pull.addr_(scales * step, hessian[j], alpha=-1)
        if not moved:
            break
    return ((rows - scales[:, None] * codes) * pull).sum(1)
