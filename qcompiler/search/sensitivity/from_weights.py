"""Providers that look at weights, or at one run of the float model: priors, nearly free."""

from __future__ import annotations

import numpy as np
import torch

from qcompiler.search.sensitivity.base import Provider, Subject, zeros
from qcompiler.search.sensitivity.local import LocalRuns


class WeightError(Provider):
    """Squared error of the rounded weights over the weights' energy, summed over a group's layers."""

    name = "weight_mse"
    needs = "weights"

    def rows(self, study: Subject) -> tuple[list[np.ndarray], list[np.ndarray], float]:
        from qcompiler.passes.rounding.sites import weight_of

        table = zeros(study.space)
        for row, group in zip(table, study.space.groups, strict=True):
            energy = sum(float(np.square(weight_of(n), dtype=np.float64).sum()) for n in study.nodes(group))
            for i in range(len(group.choices)):
                row[i] = study.weight_noise(group, i) / max(energy, 1e-30)
        return table, zeros(study.space), 0.0


class BlockSimilarity(Provider):
    """How much a block changes what flows through it, 1 - cos(input, output), times the noise of the bits.

    (Dumitru et al., "Layer-Wise Quantization", arXiv:2406.17415, call it LIM.) The block of a layer is the smallest
    module around it whose first input and last output have one shape; a layer without such a block counts as one
    that changes everything. The noise of b bits is taken as 4^-b.
    """

    name = "lim"
    needs = "data, one forward run"
    samples = 4

    def rows(self, study: Subject) -> tuple[list[np.ndarray], list[np.ndarray], float]:
        graph = study.branch.graph
        blocks = [_block(graph, study.nodes(g)) for g in study.space.groups]
        wanted = {v for block in blocks if block for v in block}
        cosines: dict[int, list[float]] = {i: [] for i in range(len(blocks))}
        executor = study.evaluator.executor(graph)
        count = 0
        for arrays in study.samples(self.samples):
            seen: dict[object, torch.Tensor] = {}
            executor.run(arrays, wanted, lambda v, t, seen=seen: seen.update({v: t}))
            count += 1
            for i, block in enumerate(blocks):
                if block:
                    x, y = (seen[v].flatten().double() for v in block)
                    cosines[i].append(float(torch.nn.functional.cosine_similarity(x, y, dim=0)))
        table = zeros(study.space)
        for i, (row, group) in enumerate(zip(table, study.space.groups, strict=True)):
            change = 1 - float(np.mean(cosines[i])) if cosines[i] else 1.0
            row[:] = [0.0 if c.scheme == "float" else change * 4.0**-c.weight_bits for c in group.choices]
        return table, zeros(study.space), count / max(1, len(study.evaluator.workload.judged))


def _block(graph, nodes):  # type: ignore[no-untyped-def]
    """(input, output) values of the smallest module around a group with equal shapes at both ends, or None."""
    path = nodes[0].origin.module
    while True:
        inside = [n for n in graph.nodes if n.origin.module == path or n.origin.module.startswith(f"{path}.")]
        made = {v for n in inside for v in n.outputs}
        enters = [v for n in inside for v in n.operands if not v.is_const and v not in made and v.dtype.is_float]
        if enters and inside[-1].output.shape == enters[0].shape and inside[-1].output.dtype.is_float:
            return enters[0], inside[-1].output
        if "." not in path:
            return None
        path = path.rpartition(".")[0]


class LayerOutput(Provider):
    """Noise-to-signal ratio of each layer's output when its own operands are rounded and its input is the float one.

    Weights, activations and biases are those of the plan. One forward run, and one run of each layer per choice.
    """

    name = "layer_sqnr"
    needs = "data, one forward run and local ones"
    samples = 4

    def rows(self, study: Subject) -> tuple[list[np.ndarray], list[np.ndarray], float]:
        nodes = {n: i for i, g in enumerate(study.space.groups) for n in study.nodes(g)}
        local = LocalRuns(study.evaluator.executor(study.branch.graph), nodes, study.samples(self.samples))
        table = zeros(study.space)
        for node, at in nodes.items():
            group = study.space.groups[at]
            for i in range(len(group.choices)):
                plan = study.plan_of(group, i)
                if plan is not None:
                    table[at][i] += local.noise(plan, node)
        return table, zeros(study.space), local.runs / max(1, len(study.evaluator.workload.judged))
