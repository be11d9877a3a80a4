"""The quantization plan: what a graph at level FLOAT will become, as side tables.

The plan is filled in stages and read by the fake-quant executor and by the lowering pass:

    assign     nodes: which nodes compute in integers, which stay real and why; which values are stored as codes
    calibrate  activations: quantization parameters of every value that integer nodes read or write
    round      weights: integer codes of every weight
    correct    biases: replaced real biases

Keys are the graph's own nodes and values, so a plan belongs to one graph object.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from qcompiler.ir import DType, Graph, Node, QuantParams, Value

STATIC, DYNAMIC, WEIGHT_ONLY, FLOAT = "static", "dynamic", "weight_only", "float"


KEPT_HEAD = "the recipe keeps layers real whose result the model returns (keep_head)"
"""Reason of a NodePlan."""


@dataclass(frozen=True)
class NodePlan:
    """How one node is computed.

    Attributes:
        scheme: STATIC (integer operands with calibrated ranges), DYNAMIC (dynamic_linear: range taken from the
            operand at run time), WEIGHT_ONLY (weight_only_linear: codes as weights, real operand) or FLOAT.
        reason: why the node stays FLOAT; shown in the coverage table.
        weight_dtype: integer type of the weight operand, None without one.
        weight_symmetric: zero point 0 for every channel.
        activation_dtype: integer type of the other operands (uint8 or int8; int16 for DYNAMIC in two terms).
        granularity: of DYNAMIC: "tensor", "token" or "group" (per token and weight group).
        rounding: rounding method asked for by the recipe for this node ("" = the recipe's default).
        fused: the activation node (relu, clip) that becomes the limits of this node's requantize.
        per_channel: one weight scale per output channel instead of one for the whole weight.
        weight_range: "minmax" or "mse": how the weight's scale is chosen.
        group_size: input channels that share a weight scale; None for all of them.
        progressive: scales of groups are integers times a scale of the row.
        digits: most signed powers of two that a weight's code is the sum of; None for any code.
        summed: neighbouring weights whose products with codes are to add up within 16 bits; 1 for no limit.
    """

    scheme: str
    reason: str = ""
    weight_dtype: DType | None = None
    weight_symmetric: bool = True
    activation_dtype: DType = DType.uint8
    granularity: str = "tensor"
    rounding: str = ""
    fused: Node | None = None
    per_channel: bool = True
    weight_range: str = "minmax"
    group_size: int | None = None
    progressive: bool = False
    digits: int | None = None
    summed: int = 1


@dataclass(frozen=True)
class RangeRule:
    """How the range of an activation is chosen: method of the recipe, and the percentile where it is that."""

    method: str = "minmax"
    percentile: float = 99.99


@dataclass(frozen=True)
class WeightCodes:
    """A rounded weight: codes in the weight's own shape, and their parameters."""

    codes: np.ndarray
    quant: QuantParams

    def real(self) -> np.ndarray:
        """The weight the codes stand for, float32."""
        return self.quant.dequantize(self.codes)


@dataclass
class QuantPlan:
    """See the module docstring.

    Attributes:
        graph: the graph the keys belong to.
        nodes: a NodePlan for every node of the graph.
        stored: values that exist as codes only, so every reader sees the rounded number. A value in
            `activations` but not in `stored` is real, and rounded only where an integer node reads it.
        activations: parameters per value.
        weights: codes per node (a weight shared by two nodes may be rounded twice).
        biases: real bias [O] per node, in place of the node's own.
        ranges: how the range of each value that needs parameters is to be chosen, and the type of its codes.
        groups: sets of values that must share their parameters (operands and result of a concatenation, a value
            and what data movement makes of it).
    """

    graph: Graph
    nodes: dict[Node, NodePlan] = field(default_factory=dict)
    stored: set[Value] = field(default_factory=set)
    activations: dict[Value, QuantParams] = field(default_factory=dict)
    weights: dict[Node, WeightCodes] = field(default_factory=dict)
    biases: dict[Node, np.ndarray] = field(default_factory=dict)
    ranges: dict[Value, tuple[DType, RangeRule]] = field(default_factory=dict)
    groups: list[tuple[Value, ...]] = field(default_factory=list)

    def with_real_activations(self) -> QuantPlan:
        """A view that rounds weights only; codes and biases written to either are seen by both."""
        return replace(self, activations={}, stored=set())

    def fused_into(self, node: Node) -> Node | None:
        """The node whose requantize takes over an activation node, None if it stands alone."""
        source = self.graph.producer(node.inputs[0]) if node.inputs and node.inputs[0] is not None else None
        plan = self.nodes.get(source) if source is not None else None
        return source if plan is not None and plan.fused is node else None

    def result_of(self, node: Node) -> Value:
        """The value a node's requantize produces: its output, or that of the activation fused into it."""
        plan = self.nodes.get(node)
        return node.output if plan is None or plan.fused is None else plan.fused.output

    def is_integer(self, node: Node) -> bool:
        """True if the node computes on codes."""
        plan = self.nodes.get(node)
        return plan is not None and plan.scheme != FLOAT
