"""Learn to round up or down, layer by layer: AdaRound.

    code = clip(floor(w / s) + h(v)),  h(v) = clip(1.2 sigmoid(v) - 0.1, 0, 1)
    minimise  mean (y - y_float)^2 + weight sum(1 - |2 h(v) - 1|^beta)

(Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization", arXiv:2004.10568, section 3.3; rectified
sigmoid and annealed beta as there.) y is what the layer gives on the quantized prefix, y_float what it gives in the
float network; their mean difference per channel is left out, bias correction removes it. Scales stay those of the
codes the layer starts from. Where the learned codes are not better on the layer's data, they are not taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from qcompiler.executors.torch_executor import TorchExecutor
from qcompiler.ir import Graph
from qcompiler.passes.base import Context, Kind, Note, Pass, PassConfig, Result
from qcompiler.passes.quantize.plan import STATIC, QuantPlan, WeightCodes
from qcompiler.passes.quantize.sample_batches import choose_samples
from qcompiler.passes.rounding.correct_bias import channel_axis
from qcompiler.passes.rounding.side_by_side import Layer, SideBySide
from qcompiler.passes.rounding.sites import weight_of, weighted_nodes


class AdaroundConfig(PassConfig):
    """Training of the rounding.

    steps: per layer. rate: of Adam. weight: of the term that makes h binary, per weight. warm_up: share of the steps
    without it. samples, memory: data side by side, as in `correct_bias`. activations: round them on the quantized side.
    """

    steps: int = Field(400, ge=1, json_schema_extra={"search": [200, 400, 1000]})
    rate: float = Field(0.02, gt=0)
    weight: float = Field(0.01, ge=0)
    warm_up: float = Field(0.2, ge=0, lt=1)
    samples: int = Field(32, ge=1)
    memory: int = Field(512 << 20, ge=1 << 20)
    activations: bool = False


class RoundAdaround(Pass):
    """Replaces the codes of layers whose recipe says `rounding: adaround`."""

    name = "round_adaround"
    kind = Kind.LOSSY
    must_follow = ("calibrate_activations", "round_nearest", "round_hessian")

    def __init__(self, config: AdaroundConfig | None = None) -> None:
        self.config = config or AdaroundConfig()

    def run(self, graph: Graph, context: Context) -> Result:
        plan: QuantPlan = context.tables["plan"]
        nodes = [n for n in weighted_nodes(plan) if plan.nodes[n].rounding == "adaround" and plan.nodes[n].scheme == STATIC]
        if not nodes:
            return Result(graph, False)
        if context.samples is None:
            return Result(graph, False, tuple(Note(n.where(), False, "there is no calibration data") for n in nodes))
        samples = choose_samples(graph, context.samples, self.config.samples, self.config.memory)
        side = plan if self.config.activations else plan.with_real_activations()
        notes: list[Note] = []
        rng = context.rng(self.name)

        def learn(layer: Layer) -> None:
            context.progress(self.name, len(notes), len(nodes))
            generator = torch.Generator().manual_seed(int(rng.integers(1 << 31)))
            notes.append(self.learn(graph, side, layer, generator))

        SideBySide(graph, side, samples).run(nodes, learn, keep_inputs=True)
        return Result(graph, False, tuple(notes))

    def learn(self, graph: Graph, plan: QuantPlan, layer: Layer, generator: torch.Generator) -> Note:
        """Round one layer; its codes in the plan change if that lowers the error on the layer's data."""
        node, start = layer.node, plan.weights[layer.node]
        runner = _LayerRunner(graph, layer)
        before = runner.error(torch.from_numpy(start.real()))
        with torch.enable_grad():  # the walk itself records nothing
            codes = self._train(runner, start, generator)
        learned = WeightCodes(codes, start.quant)
        after = runner.error(torch.from_numpy(learned.real()))
        figures = {"error_ratio": after / before if before > 0 else 1.0}
        if not after < before:
            return Note(node.where(), False, "learned codes are no better on its data", figures)
        plan.weights[node] = learned
        layer.stale = True
        return Note(node.where(), True, "", figures)

    def _train(self, runner: _LayerRunner, start: WeightCodes, generator: torch.Generator) -> np.ndarray:
        weight, qmax = weight_of(runner.node), start.quant.dtype.max
        scale = torch.from_numpy(np.array(np.broadcast_to(start.quant.broadcast(start.quant.scale, weight.shape), weight.shape)))
        exact = torch.from_numpy(weight.astype(np.float32)) / scale
        down = exact.floor().clamp_(-qmax, qmax - 1)
        part = (exact - down).clamp_(0.01, 0.99)
        v = torch.log((part + 0.1) / (1.1 - part)).requires_grad_()
        optimizer = torch.optim.Adam([v], self.config.rate)
        first = int(self.config.warm_up * self.config.steps)
        unit: float | None = None
        for step in range(self.config.steps):
            h = (1.2 * torch.sigmoid(v) - 0.1).clamp(0, 1)
            loss = runner.batch_error((down + h) * scale, generator)
            unit = float(loss.detach()) or 1.0 if unit is None else unit
            loss = loss / unit
            if step >= first:
                share = (step - first) / max(1, self.config.steps - first)
                beta = 2 + 9 * (1 + math.cos(share * math.pi))
                loss = loss + self.config.weight * (1 - (2 * h - 1).abs().pow(beta)).mean() * 100
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        up = (v.detach() > 0).to(torch.float32)
        return np.asarray((down + up).clamp_(-qmax, qmax).numpy().astype(start.quant.dtype.numpy))


class _LayerRunner:
    """Runs one layer on its inputs with other weights and compares with the float outputs."""

    def __init__(self, graph: Graph, layer: Layer) -> None:
        self.node, self.parts = layer.node, layer.parts
        self.executor = TorchExecutor(graph, autograd=True)
        self.axis = channel_axis(layer.node.op)
        self.inputs, self.targets = layer.inputs, layer.targets

    def error(self, weight: Tensor) -> float:
        """Mean squared error over all parts, the mean per channel left out."""
        with torch.no_grad():
            total = sum(float(self._part_error(i, weight)) * self.targets[i].numel() for i in range(len(self.parts)))
        return total / max(1, sum(t.numel() for t in self.targets))

    def batch_error(self, weight: Tensor, generator: torch.Generator) -> Tensor:
        """The same on one part drawn at random, differentiable."""
        return self._part_error(int(torch.randint(len(self.parts), (1,), generator=generator)), weight)

    def _part_error(self, index: int, weight: Tensor) -> Tensor:
        operands: Sequence[Tensor | None] = [self.inputs[index], weight, None]
        difference = self.executor.run_node(self.node, operands, self.parts[index].bindings)[0] - self.targets[index]
        axis = self.axis % difference.ndim
        rest = [a for a in range(difference.ndim) if a != axis]
        return (difference - difference.mean(rest, keepdim=True)).square().mean() if rest else difference.square().mean()
