"""Empirical bias correction, layer after layer on the quantized prefix.

    b += mean(W x_float) - mean(Wq x_quant)     per output channel, before the activation function

(Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", arXiv:1906.04721, section
4.2 and appendix D, with means over data.) x_quant comes from the layers before, their weights already rounded and
corrected, so each layer also makes up for the mean error that reaches it. Activations stay real on that side unless
asked: the mean error of rounding them belongs to the data it is measured on (on EfficientNet-Lite0, photographs other
than the calibration's come out 0.4 to 4 dB better without).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from qcompiler.ir import Graph
from qcompiler.passes.base import Context, Kind, Note, Pass, PassConfig, Result
from qcompiler.passes.quantize.plan import QuantPlan
from qcompiler.passes.quantize.sample_batches import choose_samples
from qcompiler.passes.rounding.side_by_side import Layer, SideBySide
from qcompiler.passes.rounding.sites import bias_of, weighted_nodes


class BiasConfig(PassConfig):
    """Data of the means.

    prefix: what x_quant above comes from. "float": from the float network, so that a layer makes up for its own error only;
    less of what is corrected belongs to the samples. activations: round activations on the quantized side as well. samples: most samples used; the statistic is a
    mean, more do not help. memory: bytes that they may take.
    """

    prefix: Literal["quantized", "float"] = "quantized"
    activations: bool = Field(False, json_schema_extra={"search": [False, True]})
    samples: int = Field(32, ge=1, json_schema_extra={"search": [16, 32, 64]})
    memory: int = Field(512 << 20, ge=1 << 20)


class CorrectBias(Pass):
    """Fills `biases` of the plan."""

    name = "correct_bias"
    kind = Kind.LOSSY
    must_follow = (
        "round_nearest", "round_hessian", "round_gptq", "round_adaround", "round_brecq", "round_autoround"
    )  # fmt: skip

    def __init__(self, config: BiasConfig | None = None) -> None:
        self.config = config or BiasConfig()

    def run(self, graph: Graph, context: Context) -> Result:
        plan: QuantPlan = context.tables["plan"]
        nodes = [n for n in weighted_nodes(plan) if n in plan.weights]
        if not nodes:
            return Result(graph, False)
        if context.samples is None:
            return Result(graph, False, (Note("all layers", False, "there is no calibration data"),))
        samples = choose_samples(graph, context.samples, self.config.samples, self.config.memory)
        side = plan if self.config.activations else plan.with_real_activations()
        walk = SideBySide(graph, side, samples)
        notes: list[Note] = []

        def correct(layer: Layer) -> None:
            context.progress(self.name, len(notes), len(nodes))
            notes.append(correct_layer(walk, layer))
            if self.config.prefix == "float":
                layer.outputs[:] = [target.clone() for target in layer.targets]

        walk.run(nodes, correct)
        return Result(graph, False, tuple(notes))


def correct_layer(walk: SideBySide, layer: Layer) -> Note:
    """Set the layer's bias in the plan, and bring its outputs up to date."""
    node, plan = layer.node, walk.plan
    shift = mean_difference(walk, layer)
    bias = bias_of(plan, node)
    plan.biases[node] = (shift if bias is None else bias + shift).astype(np.float32)
    axis = channel_axis(node.op)
    for output in layer.outputs:
        output += torch.from_numpy(shift.astype(np.float32)).reshape([-1 if i == axis % output.ndim else 1 for i in range(output.ndim)])
    return Note(node.where(), True, "", {"largest_shift": float(np.abs(shift).max(initial=0))})


def channel_axis(op: str) -> int:
    """Axis of the output channels."""
    return 1 if op == "conv" else -1


def mean_difference(walk: SideBySide, layer: Layer) -> np.ndarray:
    """mean(float output) - mean(quantized output) per output channel over all samples, padding left out; float64 [O]."""
    total, count = 0.0, 0
    for part, target, output in zip(layer.parts, layer.targets, layer.outputs, strict=True):
        rows = _rows(target, output, channel_axis(layer.node.op), walk.token_axes(layer.node.output, part), part.keep)
        total = total + rows[0]
        count += rows[1]
    return np.asarray(total, np.float64) / max(count, 1)


def _rows(target: Tensor, output: Tensor, axis: int, tokens: tuple[int, int] | None, keep: Tensor | None) -> tuple[np.ndarray, int]:
    """Sum over everything but the channels, and how many numbers each channel had."""
    axis = axis % target.ndim
    difference = target - output
    if tokens is not None and keep is not None and axis not in tokens:
        rest = [a for a in range(difference.ndim) if a not in tokens]
        difference = difference.permute(*tokens, *rest)[keep]
        axis = 1 + rest.index(axis)
    sums = difference.sum([a for a in range(difference.ndim) if a != axis]) if difference.ndim > 1 else difference
    return sums.double().numpy(), difference.numel() // max(1, difference.shape[axis])
