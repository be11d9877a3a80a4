"""Values of a graph that depend on constants only, computed when asked for."""

from __future__ import annotations

import numpy as np

from qcompiler.ir import Graph, Value, get_op

from .reference import run_node

LARGEST = 1 << 28
"""Elements of the largest value that is computed."""


class Constants:
    """Looks through real and movement ops; codes and what is made of them are nobody's constants here."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._known: dict[Value, np.ndarray | None] = {}

    def of(self, value: Value | None) -> np.ndarray | None:
        """Elements, None if they depend on inputs."""
        if value is None or value.data is not None:
            return None if value is None else value.data
        if value not in self._known:
            self._known[value] = self._compute(value)
        return self._known[value]

    def _compute(self, value: Value) -> np.ndarray | None:
        node = self.graph.producer(value)
        if node is None or get_op(node.op).category in ("quantized", "integer") or len(node.outputs) != 1:
            return None
        if not all(isinstance(d, int) for d in value.shape) or int(np.prod(value.shape)) > LARGEST:
            return None
        operands = [None if v is None else self.of(v) for v in node.inputs]
        if any(a is None and v is not None for a, v in zip(operands, node.inputs, strict=True)):
            return None
        with np.errstate(all="ignore"):
            return np.asarray(run_node(node, operands, {})[0])
