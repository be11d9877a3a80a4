"""Runs that go on from values of an earlier one: solutions of a search differ from one another in few layers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from qcompiler.executors.torch_executor import TorchExecutor
from qcompiler.ir import Graph, Node, Value
from qcompiler.passes.quantize.plan import QuantPlan

KEPT_BYTES = 250_000
"""Most bytes of one sample's value that is kept: the layers of a few large ones are computed again."""


class EarlierRun:
    """Inputs of layers under one plan, by batch of samples.

    Args:
        executor: of the graph.
        plan: rounds weights and nothing else.
        batches: inputs of the runs.
        layers: whose inputs are kept.
    """

    def __init__(
        self, executor: TorchExecutor, plan: QuantPlan, batches: Sequence[Sequence[np.ndarray]], layers: Collection[Node]
    ) -> None:
        self.graph, self.weights = executor.graph, dict(plan.weights)
        inputs = {n.operands[0] for n in layers} - set(self.graph.inputs)
        self.values: list[dict[Value, Tensor]] = []
        for arrays in batches:
            found: dict[Value, Tensor] = {}

            def keep(value: Value, tensor: Tensor, found: dict[Value, Tensor] = found) -> None:
                if tensor.nbytes <= KEPT_BYTES * max(1, len(tensor)):
                    found[value] = tensor

            executor.run(arrays, inputs, keep, plan)
            self.values.append(found)

    def unchanged(self, plan: QuantPlan) -> set[Value]:
        """Kept values that are the same under another plan."""
        if not self.values:
            return set()
        changed = [n for n in self.graph.nodes if plan.weights.get(n) is not self.weights.get(n)]
        return set(self.values[0]) - reached(self.graph, changed)


def reached(graph: Graph, nodes: Collection[Node]) -> set[Value]:
    """Values that depend on nodes."""
    starts, found = set(nodes), set[Any]()
    for node in graph.nodes:
        if node in starts or any(v in found for v in node.operands):
            found.update(node.outputs)
    return found
