"""GPTQ: weights rounded layer after layer under the second moment of what each layer reads.

Per layer, with H = sum of x x^T over the tokens x of the quantized prefix, and x_f what the float model reads there:

    target    W' = W + t W D (H' + d I)^-1, D = sum of (x_f - x) x^T      t = 0: W itself, 1: what best reproduces W x_f
    grid      signed group scales (or minimum and maximum) of least squared error weighted by diag H
    codes     `gptq.round_columns`, columns by falling H_jj, groups static: no index at run time
    refit     scales by least squares under H for these codes; codes again on the new grid, where that helps

Linear layers, and convolutions of one pixel, whose tokens are pixels. t is 0 for these, and where D is of fewer tokens
than channels.

(Frantar et al., arXiv:2210.17323; the target follows Li et al., "GPTAQ", arXiv:2504.02692, damped to a share t, since
all of it overfits few tokens. D is summed over a part of the tokens, and H' is H over these: a D of half of the tokens
under an H of all of them would be as wrong as the halves differ.) Layers that read the same value share H. The prefix advances node by node over all
samples, so what is in memory is the values alive at one place of the network, not a network of them.

With a checkpoint folder, the codes of every finished block are kept; a run that was killed continues behind them and
ends in the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from qcompiler.errors import CalibrationError, UsageError
from qcompiler.ir import Graph, Node, Value
from qcompiler.passes.base import Context, Kind, Note, Pass, PassConfig, Result
from qcompiler.passes.quantize.plan import QuantPlan, WeightCodes
from qcompiler.passes.rounding.blocks import block_of
from qcompiler.passes.rounding.checkpoint import Checkpoint
from qcompiler.passes.rounding.gptq import (
    Factor,
    GramSum,
    Grid,
    factorize,
    objective,
    refit_scales,
    round_columns,
    solve_damped,
)
from qcompiler.passes.rounding.group_grid import group_grid, nearest_codes, weight_codes
from qcompiler.passes.rounding.progressive import refitted_rows, row_steps, snapped
from qcompiler.passes.rounding.round_nearest import RoundNearest
from qcompiler.passes.rounding.side_by_side import SideBySide
from qcompiler.passes.rounding.sites import is_matrix, matrix_of, weight_of, weighted_nodes
from qcompiler.targets.saturation import neighbours

DRIFT_EVERY = 2
"""D is taken over half of the parts; the others need no float side."""

JUDGED_EVERY = 8
"""The note compares with nearest codes on every so many rows of a weight."""


class GptqConfig(PassConfig):
    """How layers are rounded.

    damping: share of the mean diagonal added to H. act_order: columns by falling H_jj. float_target: t above.
    target_damping: d above, as a share of the mean diagonal of H'; part of the tokens needs more than all of them.
    rounds: most times that codes are found again on refitted scales. samples: most samples used, evenly spaced.
    next_norm: count the tokens of a layer that adds to a residual stream relative to their size there, as the norm behind
    the sum divides by it.
    """

    damping: float = Field(0.01, gt=0, json_schema_extra={"search": [0.005, 0.01, 0.05]})
    act_order: bool = True
    float_target: float = Field(0.75, ge=0, le=1, json_schema_extra={"search": [0.0, 0.5, 0.75]})
    target_damping: float = Field(0.05, gt=0, json_schema_extra={"search": [0.01, 0.05, 0.1]})
    rounds: int = Field(1, ge=0)
    samples: int = Field(128, ge=1)
    next_norm: bool = False


@dataclass
class _Moments:
    """Of one value: H, the factor of its inverse, and W D (H' + d I)^-1 of the layers that still want them, 0 without D.

    In float32: weights and codes have fewer digits; what needs float64, the inverses, is done.
    """

    second: Tensor
    factor: Factor
    drifts: dict[Node, Tensor | float]

    @staticmethod
    def of(second: Tensor, factor: Factor, drifts: dict[Node, Tensor | float]) -> _Moments:
        return _Moments(second.to(torch.float32), replace(factor, upper=factor.upper.to(torch.float32)), drifts)


class RoundGptq(Pass):
    """Fills `weights` of the plan for linear layers and convolutions of one pixel whose rounding is `gptq`."""

    name = "round_gptq"
    kind = Kind.LOSSY
    must_follow = ("assign_precision", "calibrate_activations", "round_nearest")

    def __init__(self, config: GptqConfig | None = None) -> None:
        self.config = config or GptqConfig()

    def run(self, graph: Graph, context: Context) -> Result:
        """Round.

        Raises:
            UsageError: no calibration data, or a checkpoint of another run.
            CalibrationError: a layer reads NaN or infinite values, or its second moment cannot be factorised.
        """
        plan: QuantPlan = context.tables["plan"]
        nodes = [n for n in weighted_nodes(plan) if plan.nodes[n].rounding == "gptq"]
        taken = [n for n in nodes if is_matrix(n)]
        left = [n for n in nodes if not is_matrix(n)]
        notes = [Note(n.where(), False, "gptq rounds linear layers and convolutions of one pixel") for n in left]
        if not taken:
            return Result(graph, False, tuple(notes))
        if context.samples is None:
            raise UsageError("rounding: gptq needs calibration data; give some, or choose rounding: nearest")
        work = _Rounding(graph, plan, taken, context, self.config)
        work.run()
        return Result(graph, False, (*notes, *work.notes))


class _Rounding:
    def __init__(self, graph: Graph, plan: QuantPlan, nodes: Sequence[Node], context: Context, config: GptqConfig) -> None:
        self.plan, self.nodes, self.context, self.config = plan, nodes, context, config
        self.notes: list[Note] = []
        self.moments: dict[tuple[Any, ...], _Moments] = {}
        samples = context.samples
        count = min(len(samples), config.samples)
        self.walk = SideBySide(graph, plan, [samples[i * len(samples) // count] for i in range(count)])
        for index, part in enumerate(self.walk.parts):
            part.both = bool(config.float_target) and index % DRIFT_EVERY == 0
        self.checkpoint = Checkpoint(context, RoundGptq.name, config)
        blocks = [block_of(n) for n in nodes]
        self.last_of_block = {name: i for i, name in enumerate(blocks)}
        self.saved: dict[Node, WeightCodes] = {}
        for name in dict.fromkeys(blocks):
            members = [n for n, b in zip(nodes, blocks, strict=True) if b == name]
            known = self.checkpoint.read(name)
            if known is None:
                break
            self.saved.update(zip(members, known, strict=True))

    def run(self) -> None:
        self.walk.run_before(self.nodes, self._visit)

    def _visit(self, node: Node) -> None:
        done = self.nodes.index(node)
        self.context.progress(f"{RoundGptq.name}: {node.origin.module}", done, len(self.nodes))
        if node in self.saved:
            self.plan.weights[node] = self.saved[node]
            self.notes.append(Note(node.where(), True, "read from the checkpoint"))
            return
        key = self._reads(node)
        moments = self._moments(node, key)
        self.plan.weights[node], note = self._round(node, moments)
        self.notes.append(note)
        del moments.drifts[node]
        if not moments.drifts:
            del self.moments[key]
        block = block_of(node)
        if done == self.last_of_block[block]:
            self.checkpoint.write(block, [self.plan.weights[n] for n in self.nodes if block_of(n) == block])

    def _reads(self, node: Node) -> tuple[Any, ...]:
        """What a layer reads, and how that is rounded: equal for layers that share their moments."""
        plan = self.plan.nodes[node]
        return node.inputs[0], plan.scheme, plan.granularity, plan.activation_dtype, plan.group_size, node.attrs.get("strides"), self._stream(node)

    def _stream(self, node: Node) -> Value | None:
        """The residual stream that a layer adds to, where its tokens are to be counted relative to that."""
        user = self.walk.graph.sole_user(node.output) if self.config.next_norm else None
        if user is None or user.op != "add" or any(v.shape != node.output.shape or v.is_const for v in user.operands):
            return None
        return next(v for v in user.operands if v is not node.output)

    def _moments(self, node: Node, key: tuple[Any, ...]) -> _Moments:
        if key not in self.moments:
            same = [n for n in self.nodes if self._reads(n) == key and n not in self.saved]
            channels = matrix_of(node).shape[1]
            compared, others, rows = GramSum(channels), GramSum(channels), 0
            for real, rounded in self.walk.rows_before(node, self._stream(node)):
                (others if real is None else compared).add(rounded)
                if real is not None:
                    compared.add_drift(real - rounded, rounded)
                    rows += len(real)
            part, drift = compared.totals()
            second = part + others.totals()[0]
            try:
                factor = factorize(second, self.config.damping, self.config.act_order)
                # What a few photographs say about the drift of a convolution does not hold for others.
                known = node.op == "linear" and rows >= channels
                wanted = known and bool(self.config.float_target) and bool(drift.any())
                drifts = self._drifts(same, part, drift) if wanted else dict.fromkeys(same, 0.0)
            except ValueError as error:
                raise CalibrationError(
                    f"{node.where()}: {error}. Look at the calibration data, or set rounding: nearest for this module"
                ) from None
            self.moments[key] = _Moments.of(second, factor, drifts)
        return self.moments[key]

    def _drifts(self, nodes: Sequence[Node], part: Tensor, drift: Tensor) -> dict[Node, Tensor | float]:
        """W D (H' + d I)^-1 of layers that read one value; the cheaper product first."""
        weights = torch.cat([torch.tensor(matrix_of(n), dtype=torch.float64) for n in nodes])
        if len(weights) < len(part):
            moved = solve_damped(part, weights @ drift, self.config.target_damping).to(torch.float32)
        else:
            moved = weights.to(torch.float32) @ solve_damped(part, drift, self.config.target_damping).to(torch.float32)
        return dict(zip(nodes, moved.split([len(matrix_of(n)) for n in nodes]), strict=True))

    def _round(self, node: Node, moments: _Moments) -> tuple[WeightCodes, Note]:
        plan = self.plan.nodes[node]
        assert plan.weight_dtype is not None
        weight, h = torch.tensor(matrix_of(node), dtype=torch.float32), moments.second
        target = weight + self.config.float_target * moments.drifts[node]
        grid, refit = self._grid(node, target, h)
        step = row_steps(grid) if plan.progressive else None
        if step is not None:
            grid = snapped(grid, step)
        first = grid
        best, error = round_columns(target, moments.factor, grid)
        product = target @ h
        for _ in range(self.config.rounds if refit else 0):
            again = replace(grid, scale=refit_scales(target, best, h, grid, product))
            if step is not None:
                again = snapped(again, step)
            codes, found = round_columns(target, moments.factor, again)
            if found >= error:
                break
            grid, best, error = again, codes, found
        if step is not None:
            grid = refitted_rows(target, best, h, grid, step, product)
        elif refit:
            grid = replace(grid, scale=refit_scales(target, best, h, grid, product))
        ratio = _ratio_to_nearest(target, h, first, grid, best)
        data = {"damping": moments.factor.damping, "error_ratio_to_nearest": round(ratio, 4)}
        found = weight_codes(best, grid, plan.weight_dtype, plan.group_size is not None)
        found = replace(found, codes=found.codes.reshape(weight_of(node).shape))
        return found, Note(node.where(), True, "gptq", data)

    def _grid(self, node: Node, target: Tensor, h: Tensor) -> tuple[Grid, bool]:
        """The grid to start from, and whether its scales are free to be refitted."""
        plan = self.plan.nodes[node]
        assert plan.weight_dtype is not None
        if plan.scheme == "weight_only" or plan.group_size is not None:
            search = plan.weight_range == "mse"
            return group_grid(target.float(), plan.weight_dtype, plan.group_size, search, h.diagonal()), True
        start = RoundNearest().round(self.plan, node).quant
        scale = torch.from_numpy(start.scale.copy()).reshape(-1, 1).expand(len(target), 1).contiguous()
        top = plan.weight_dtype.max
        # nearest codes add up in 16 bits on the target, and codes that are moved further are to do so too
        sets = torch.from_numpy(neighbours(target.shape, plan.summed)) if plan.summed > 1 else None
        return Grid(scale, torch.zeros_like(scale), -top, top, target.shape[1], sets), False


def _ratio_to_nearest(target: Tensor, h: Tensor, first: Grid, grid: Grid, codes: Tensor) -> float:
    """Error of codes on a grid over that of nearest codes on the first grid, on every JUDGED_EVERY-th row."""
    rows = slice(None, None, JUDGED_EVERY)
    some, first, grid = target[rows], first.of_rows(rows), grid.of_rows(rows)
    nearest = objective(some, first.real(nearest_codes(some, first)), h)
    return objective(some, grid.real(codes[rows]), h) / nearest if nearest > 0 else 1.0
