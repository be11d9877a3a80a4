"""Runs of single layers on the float model's own activations: what a layer's rounding does to its output."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from qcompiler.ir import Graph, Node, Value
    from qcompiler.passes.quantize.plan import QuantPlan


class LocalRuns:
    """Float inputs and outputs of some layers for a few samples, held in memory; each plan reruns the layers alone.

    Args:
        executor: of the graph.
        nodes: layers with one activation operand, the first.
        samples: inputs of the graph.
    """

    def __init__(self, executor: Any, nodes: Iterable[Node], samples: Iterable[list[np.ndarray]]) -> None:
        self.executor, self.nodes = executor, list(nodes)
        self.graph: Graph = executor.graph
        self.runs = 0
        self._inputs: list[dict[Value, Tensor]] = []
        self._power = dict.fromkeys(self.nodes, 0.0)
        wanted = {v for n in self.nodes for v in (n.operands[0], n.output)}
        for arrays in samples:
            seen: dict[Value, Tensor] = {}
            self.executor.run(arrays, wanted, lambda v, t, seen=seen: seen.update({v: t.clone()}))
            self._inputs.append(seen)
            self.runs += 1
            for node in self.nodes:
                self._power[node] += float(seen[node.output].double().square().sum())

    def noise(self, plan: QuantPlan, node: Node) -> float:
        """Energy of the layer's output error over the energy of its float output."""
        error = 0.0
        for seen in self._inputs:
            value = node.operands[0]
            operands = [seen[value], *(self.executor.constants.get(v) for v in node.inputs[1:])]
            if value in plan.stored:
                operands[0] = self.executor.stored(value, operands[0], plan)
            rounded = self.executor.quantized_operands(node, operands, plan)
            got = self.executor.run_node(node, rounded)[0]
            error += float((got - seen[node.output]).double().square().sum())
        return error / max(self._power[node], 1e-30)
