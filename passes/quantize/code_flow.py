"""Which values of a graph exist as codes.

Products (conv, linear, matmul) begin integer computation; other ops follow where all their operands are codes and
somebody wants codes of the result. Solved by a forward sweep (what could be codes), then backward and forward
sweeps that only ever take codes away, until nothing changes.

A product whose kernel can give real numbers gives codes only if every reader takes codes: a real reader then sees
the accumulator itself, not a rounded copy. One whose kernel cannot gives codes always, and real readers dequantize.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from qcompiler.ir import Graph, Node, Value
from qcompiler.passes.quantize.op_roles import (
    CHEAP,
    FOLLOWERS,
    LIMITS,
    MEANS,
    MOVEMENT,
    data_operands,
    is_global_mean,
    movement_on_codes,
)


class CodeFlow:
    """The solution: `codes` (values stored as codes), `followers` (non-products on codes), `fused` (see NodePlan).

    Args:
        graph: level FLOAT.
        products: nodes that take quantized operands with calibrated ranges.
        gives_real: True for a product whose kernel can give real results.
        has_kernel: True for a node that the target can compute on codes.
    """

    def __init__(
        self,
        graph: Graph,
        products: Collection[Node],
        gives_real: Callable[[Node], bool],
        has_kernel: Callable[[Node], bool],
    ) -> None:
        self.graph = graph
        self.products = set(products)
        self.gives_real = gives_real
        self.has_kernel = has_kernel
        self.read_as_codes = {
            v for n in self.products for i in data_operands(n) if (v := n.inputs[i]) is not None and not v.is_const
        }
        self.codes: set[Value] = self._possible()
        while self._shrink():
            pass
        self.fused = {p: a for p, a in self._fusions().items() if a.output in self.codes}
        for producer in self.fused:
            self.codes.discard(producer.output)
        self.followers = {
            n for n in graph.nodes
            if n not in self.products and len(n.outputs) == 1 and (n.output in self.codes or n in self.fused)
        }

    def _possible(self) -> set[Value]:
        codes: set[Value] = set()
        fusions = set(self._fusions().values())
        for node in self.graph.nodes:
            if node in self.products:
                codes.add(node.output)
            elif node.op in FOLLOWERS and self._operands_ready(node, codes) and self._takes_codes(node, fusions):
                codes.add(node.output)
        return codes

    def _takes_codes(self, node: Node, fusions: set[Node]) -> bool:
        if node in fusions:
            return True
        if not self.has_kernel(node):
            return False
        if node.op in MEANS:
            return is_global_mean(node)
        return node.op not in MOVEMENT or movement_on_codes(node)

    def _operands_ready(self, node: Node, codes: set[Value]) -> bool:
        """All data operands are codes, or (all but one) real values that are quantized for a product anyway."""
        operands = [node.inputs[i] for i in data_operands(node)]
        if not operands or any(v is None or v.is_const or not v.dtype.is_float for v in operands):
            return False
        return any(v in codes for v in operands) and all(v in codes or v in self.read_as_codes for v in operands)

    def _fusions(self) -> dict[Node, Node]:
        """Producer -> the activation that could become the limits of its requantize."""
        found = {}
        for node in self.graph.nodes:
            value = node.inputs[0] if node.op in LIMITS else None
            source = self.graph.producer(value) if value is not None else None
            if source is None or value is None or self.graph.sole_user(value) is not node:
                continue
            if source in self.products or source.op in ("add", *MEANS):
                found[source] = node
        return found

    def _shrink(self) -> bool:
        before = len(self.codes)
        fusions = self._fusions()
        for node in reversed(self.graph.nodes):
            if len(node.outputs) == 1 and node.output in self.codes and not self._stays(node, fusions):
                self.codes.discard(node.output)
        for node in self.graph.nodes:
            if node not in self.products and any(v in self.codes for v in node.outputs):
                if not self._operands_ready(node, self.codes):
                    self.codes.difference_update(node.outputs)
        return len(self.codes) != before

    def _stays(self, node: Node, fusions: dict[Node, Node]) -> bool:
        value = node.output
        readers = self.graph.uses(value)
        integer = [self._reads_codes(n, i) for n, i in readers]
        if node in self.products:
            if not self.gives_real(node):
                # The activation after it is fused or works on codes; a real reader dequantizes.
                return True
            return bool(integer) and all(integer) and not self.graph.is_output(value)
        source = self.graph.producer(node.inputs[0])
        forced = node.op in CHEAP and source is not None and self._forced(source)
        return any(integer) or forced

    def _forced(self, node: Node) -> bool:
        """True if the node's result is codes whether anybody wants them or not."""
        if node in self.products:
            return not self.gives_real(node)
        source = self.graph.producer(node.inputs[0]) if node.inputs and node.inputs[0] is not None else None
        in_codes = len(node.outputs) == 1 and node.output in self.codes
        return in_codes and (node.op not in CHEAP or (source is not None and self._forced(source)))

    def _reads_codes(self, node: Node, index: int) -> bool:
        if index not in data_operands(node):
            return False
        return node in self.products or (node.op in FOLLOWERS and node.output in self.codes)
