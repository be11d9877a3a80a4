"""Learn the rounding of weights so that units of a network, layers or whole blocks, give what they give in float.

    minimise  sum over the unit's outputs of  |Y' - Y|^2 / |Y|^2   (+ what the method adds)

Y' is computed on the quantized prefix with the unit's weights rounded (activations too, if asked), Y by the float
network (Nagel et al., arXiv:2004.10568, for layers; Li et al., "BRECQ", arXiv:2102.05426, section 3.2, for blocks). A
step looks at one part of the calibration samples; the last part is never learned from. It judges, several times on
the way, and the unit takes the codes with the least error there: none, where that is those it began with. Outputs of a
block count all alike, and to the network they may not be: what a block has learned is taken only if on that part the
outputs of the whole network are nearer to the float ones too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from qcompiler.errors import UsageError
from qcompiler.executors.reference import last_uses
from qcompiler.executors.torch_executor import TorchExecutor
from qcompiler.ir import Graph, Node, Value
from qcompiler.passes.base import Context, Note, Pass, Result
from qcompiler.passes.quantize.plan import QuantPlan, WeightCodes
from qcompiler.passes.quantize.sample_batches import choose_samples
from qcompiler.passes.rounding.blocks import block_of
from qcompiler.passes.rounding.checkpoint import Checkpoint
from qcompiler.passes.rounding.correct_bias import channel_axis
from qcompiler.passes.rounding.learned_weight import LearnedWeight
from qcompiler.passes.rounding.side_by_side import Part, SideBySide, Unit
from qcompiler.passes.rounding.sites import weight_of, weighted_nodes

PARTS = 4
"""The least number of parts, so that a quarter of the samples at most is kept for judging."""
JUDGED = 8
"""How often the codes are judged while they are learned."""

Learn = Callable[[Node, np.ndarray, WeightCodes], LearnedWeight]
"""Parameters of one layer, from its real weight and the codes it begins with."""


@dataclass(frozen=True)
class Schedule:
    """steps: of one unit. penalty: factor of what the method adds to the loss, which begins at 1."""

    steps: int
    penalty: float = 0.0


def layer_units(nodes: Sequence[Node]) -> list[Unit]:
    """Every layer by itself, its result before any activation."""
    return [Unit(n.where(), (n,), (n,), n.outputs) for n in nodes]


def block_units(graph: Graph, layers: Sequence[Node]) -> list[Unit]:
    """Runs of nodes of one block (see `blocks.block_of`) that hold some of `layers`.

    A run begins with its first layer and ends with the last node of its block, so that a residual sum belongs to it.
    """
    wanted, units = set(layers), []
    for name, run in groupby(graph.nodes, block_of):
        nodes = list(run)
        own = tuple(n for n in nodes if n in wanted)
        if not own:
            continue
        members = tuple(nodes[nodes.index(own[0]) :])
        inside = set(members)
        outputs = tuple(
            v
            for n in members
            for v in n.outputs
            if v.dtype.is_float
            and (graph.is_output(v) or any(user not in inside for user, _ in graph.uses(v)))
        )
        units.append(Unit(name or "(top level)", members, own, outputs))
    return units


class Reconstruction:
    """Learns unit after unit, each on the quantized prefix.

    Args:
        graph: at level FLOAT.
        plan: gets the learned codes; with real activations in it, only weights are rounded.
        samples: to learn from and to judge by.
        learn: makes the parameters of one layer.
        schedule: how long.
        seed: of the order of parts.
        checkpoint: keeps finished units.
        progress: called as progress(unit, done, total).
        corrected: mean errors of layers will be taken out by bias correction.
        ask_network: take only what lowers the error of the network's outputs too.
    """

    def __init__(
        self,
        graph: Graph,
        plan: QuantPlan,
        samples: Sequence[Any],
        learn: Learn,
        schedule: Schedule,
        seed: int,
        checkpoint: Checkpoint,
        progress: Callable[[str, int, int], None],
        corrected: bool = False,
        ask_network: bool = False,
    ) -> None:
        self.graph, self.plan, self.learn, self.schedule, self.seed = graph, plan, learn, schedule, seed
        self.checkpoint, self.progress, self.corrected = checkpoint, progress, corrected
        self.walk = SideBySide(graph, plan, samples, PARTS)
        self.executor = TorchExecutor(graph, autograd=True)
        self.notes: list[Note] = []
        self.expected: list[Tensor] | None = None
        if ask_network:
            judge = self.walk.parts[-1]
            self.expected = TorchExecutor(graph).run([judge.real[v] for v in graph.inputs])

    def run(self, units: Sequence[Unit]) -> tuple[Note, ...]:
        """Learn all units; one note per layer."""
        # A unit behind one that is not finished was learned on another prefix.
        saved: dict[Unit, list[WeightCodes]] = {}
        for unit in units:
            known = self.checkpoint.read(unit.name)
            if known is None:
                break
            saved[unit] = known

        def visit(unit: Unit) -> None:
            index = units.index(unit)
            self.progress(unit.name, index, len(units))
            if unit in saved:
                self.plan.weights.update(zip(unit.layers, saved[unit], strict=True))
                self.notes += [Note(n.where(), True, "read from the checkpoint") for n in unit.layers]
                return
            self._learn(unit, torch.Generator().manual_seed(self.seed + index))
            self.checkpoint.write(unit.name, [self.plan.weights[n] for n in unit.layers])

        self.walk.run_units(units, visit)
        return tuple(self.notes)

    def _learn(self, unit: Unit, generator: torch.Generator) -> None:
        parts = self.walk.parts
        taught, judge = (parts[:-1], parts[-1]) if len(parts) > 1 else (parts, parts[0])
        start = {n: self.plan.weights[n] for n in unit.layers}
        before = best = self._judge(unit, judge, start)
        chosen, learned = start, {n: self.learn(n, weight_of(n), start[n]) for n in unit.layers}
        steps = self.schedule.steps
        marks = {round((i + 1) * steps / JUDGED) - 1 for i in range(JUDGED)}
        first: float | None = None
        for step in range(steps):
            with torch.enable_grad():
                part = taught[int(torch.randint(len(taught), (1,), generator=generator))]
                loss = self._error(unit, part, {n: w.real() for n, w in learned.items()})
                first = float(loss.detach()) or 1.0 if first is None else first
                loss = loss / first
                extra = [p for w in learned.values() if (p := w.penalty(step / steps)) is not None]
                if extra:
                    loss = loss + self.schedule.penalty * torch.stack(extra).mean()
                for weight in learned.values():
                    weight.start_step()
                loss.backward()  # type: ignore[no-untyped-call]
            for weight in learned.values():
                weight.step(step / steps)
            if step in marks:
                codes = {n: w.codes() for n, w in learned.items()}
                now = self._judge(unit, judge, codes)
                if now < best:
                    best, chosen = now, codes
        figures = {"error_ratio": best / before if before > 0 else 1.0}
        reason = "" if chosen is not start else "learned codes are no better on data they were not learned from"
        if chosen is not start and self.expected is not None:
            with_nearest, learned_error = self._network_error(unit, judge, start), self._network_error(unit, judge, chosen)
            figures["network_ratio"] = learned_error / with_nearest if with_nearest > 0 else 1.0
            if not learned_error < with_nearest:
                chosen, reason = start, "with learned codes the network's outputs are no nearer to the float ones"
        self.plan.weights.update(chosen)
        self.notes += [Note(n.where(), chosen is not start, reason, figures) for n in unit.layers]

    def _judge(self, unit: Unit, part: Part, codes: dict[Node, WeightCodes]) -> float:
        with torch.no_grad():
            return float(self._error(unit, part, {n: torch.from_numpy(c.real()) for n, c in codes.items()}))

    def _network_error(self, unit: Unit, part: Part, codes: dict[Node, WeightCodes]) -> float:
        """Error of the network's outputs relative to their power; layers behind the unit have the codes of the plan."""
        assert self.expected is not None
        rest = self.graph.nodes[self.graph.nodes.index(unit.nodes[0]) :]
        weights = {n: torch.from_numpy(c.real()) for n, c in codes.items()}
        with torch.no_grad():
            values = self._values(rest, part, weights, last_uses(self.graph))
        found = 0.0
        for value, expected in zip(self.graph.outputs, self.expected, strict=True):
            if value.dtype.is_float and value in values:
                error = values[value].double() - expected.double()
                found += float(error.square().sum() / expected.double().square().sum().clamp_min(1e-20))
        return found

    def _error(self, unit: Unit, part: Part, weights: dict[Node, Tensor]) -> Tensor:
        """Error of the unit's outputs relative to their power, for these weights."""
        values = self._values(unit.nodes, part, weights)
        return torch.stack([self._relative(v, values[v], part) for v in unit.outputs]).sum()

    def _values(
        self, nodes: Sequence[Node], part: Part, weights: dict[Node, Tensor], last: Mapping[Node, Sequence[Value]] | None = None
    ) -> dict[Value, Tensor]:
        """What some nodes give on the quantized prefix, with other weights for some of them.

        last: values that are freed behind each node; nothing is, by default.
        """
        values = dict(part.rounded)
        for node in nodes:
            given = [
                self.executor.constants.get(v, values.get(v)) if v is not None else None for v in node.inputs
            ]
            operands = self.executor.quantized_operands(node, given, self.plan)
            if node in weights:
                operands[1] = weights[node]
            results = self.executor.run_node(node, operands, part.bindings)
            if node in weights and self.corrected:
                results = (self._corrected(node, results[0], part),)
            for value, tensor in zip(node.outputs, results, strict=True):
                values[value] = self.executor.stored(value, tensor, self.plan)
            for value in () if last is None else last.get(node, ()):
                values.pop(value, None)
        return values

    def _relative(self, value: Value, got: Tensor, part: Part) -> Tensor:
        """Power of the error over that of the float value, padding left out."""
        expected = part.real[value]
        error, tokens = got - expected, self.walk.token_axes(value, part)
        if tokens is not None and part.keep is not None:
            error, expected = (t.movedim(tokens, (0, 1))[part.keep] for t in (error, expected))
        return error.square().sum() / expected.square().sum().clamp_min(1e-20)

    def _corrected(self, node: Node, got: Tensor, part: Part) -> Tensor:
        """A layer's result without the mean error of every channel, as bias correction will leave it.

        Learned weights would otherwise spend their freedom on means, and have nothing left once these are corrected.
        """
        expected = part.real[node.output]
        axis = channel_axis(node.op) % expected.ndim
        error, tokens = expected - got, self.walk.token_axes(node.output, part)
        shape = [-1 if a == axis else 1 for a in range(error.ndim)]
        if tokens is not None and part.keep is not None and axis not in tokens:
            order = [*tokens, *(a for a in range(error.ndim) if a not in tokens)]
            error, axis = error.permute(order)[part.keep], order.index(axis) - 1
        rest = [a for a in range(error.ndim) if a != axis]
        return got + error.mean(rest).reshape(shape) if rest else got


class LearnedRounding(Pass):
    """Base of the passes whose layers, those that name the pass as their rounding, are reconstructed.

    Class attributes:
        by_block: units are blocks, else layers.

    Attributes:
        corrected: bias correction follows, and takes out the mean error of every layer.
    """

    by_block: ClassVar[bool]
    config: Any
    corrected: bool = False

    def reconstruct(self, graph: Graph, context: Context, learn: Learn, schedule: Schedule) -> Result:
        """Run the engine.

        Raises:
            UsageError: there is no calibration data, or a checkpoint of another run.
        """
        plan: QuantPlan = context.tables["plan"]
        method = self.name.removeprefix("round_")
        nodes = [n for n in weighted_nodes(plan) if plan.nodes[n].rounding == method]
        if not nodes:
            return Result(graph, False)
        if context.samples is None:
            raise UsageError(
                f"rounding: {method} needs calibration data; give some, or choose rounding: nearest"
            )
        samples = choose_samples(graph, context.samples, self.config.samples, self.config.memory)
        side = plan if self.config.activations else plan.with_real_activations()
        engine = Reconstruction(
            graph, side, samples, learn, schedule, int(context.rng(self.name).integers(1 << 31)),
            Checkpoint(context, self.name, self.config),
            lambda unit, done, total: context.progress(f"{self.name}: {unit}", done, total), self.corrected, self.by_block,
        )  # fmt: skip
        return Result(
            graph, False, engine.run(block_units(graph, nodes) if self.by_block else layer_units(nodes))
        )
