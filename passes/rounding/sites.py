"""Which weights the rounding passes look at, and what they need to know about the data."""

from __future__ import annotations

import numpy as np

from qcompiler.calibration import ConvInput, Observer
from qcompiler.ir import Node, Value
from qcompiler.passes.quantize.plan import FLOAT, STATIC, QuantPlan
from qcompiler.passes.rounding.filter_covariance import FilterCovariance

SMALL_FILTER = 64
"""Longest filter (taps x input channels of its group) that exact rounding takes on by itself."""


ENOUGH_SAMPLES = 16
"""Samples whose patches enter a covariance."""


def weighted_nodes(plan: QuantPlan) -> list[Node]:
    """Nodes with a weight to round, in program order."""
    return [n for n, p in plan.nodes.items() if p.scheme != FLOAT and p.weight_dtype is not None]


def weight_of(node: Node) -> np.ndarray:
    """The real weight, float32, output channels first."""
    value = node.inputs[1]
    assert value is not None and value.data is not None
    return np.asarray(value.data)


def bias_of(plan: QuantPlan, node: Node) -> np.ndarray | None:
    """The real bias in force: the plan's, else the node's own, None without one."""
    if node in plan.biases:
        return plan.biases[node]
    value = node.inputs[2] if len(node.inputs) > 2 else None
    return None if value is None else np.asarray(value.data)


def filter_length(node: Node) -> int:
    """Numbers in one output channel of the weight."""
    return int(np.prod(weight_of(node).shape[1:]))


def is_matrix(node: Node) -> bool:
    """True for layers that multiply rows of channels by one matrix: linear, and plain convolutions of one pixel."""
    if node.op == "linear":
        return True
    return node.op == "conv" and node.attrs["groups"] == 1 and not any(node.attrs["pads"]) and set(weight_of(node).shape[2:]) == {1}


def matrix_of(node: Node) -> np.ndarray:
    """The real weight [O, K] of a layer that `is_matrix`."""
    weight = weight_of(node)
    return weight.reshape(len(weight), -1)


def wants_hessian(plan: QuantPlan, node: Node) -> bool:
    """True where weights are rounded under the covariance of the layer's input.

    By name, or ("auto", or "gptq", which does not take it) where the filter is short: errors of few weights do not average
    out, and an exact search over them is cheap.
    """
    method = plan.nodes[node].rounding
    short = node.op == "conv" and filter_length(node) <= SMALL_FILTER and filter_length(node) > weight_of(node).shape[1]
    if plan.nodes[node].scheme != STATIC or plan.nodes[node].summed > 2:  # codes it finds may sum to more
        return False
    return method == "hessian" or (method in ("auto", "gptq") and short)


def layer_input(node: Node) -> ConvInput | None:
    """How a convolution reads its operand, None for other ops."""
    if node.op != "conv":
        return None
    pads, rank = node.attrs["pads"], len(node.attrs["strides"])
    return ConvInput(
        kernel=weight_of(node).shape[2:],
        stride=node.attrs["strides"],
        padding=tuple((pads[i], pads[rank + i]) for i in range(rank)),
        dilation=node.attrs["dilations"],
        groups=node.attrs["groups"],
    )


def covariance_requests(plan: QuantPlan, samples: int) -> dict[Value, list[Observer]]:
    """Observers that the rounding passes need of `samples` samples, by value."""
    every = max(1, samples // ENOUGH_SAMPLES)
    requests: dict[Value, list[Observer]] = {}
    for node in weighted_nodes(plan):
        digits = plan.nodes[node].digits is not None
        if digits or wants_hessian(plan, node):
            layer = layer_input(node)
            value = node.inputs[0]
            assert value is not None
            # filters of any length are rounded to few digits: as many samples as there are
            thinned = 1 if digits else every
            observer = FilterCovariance(every=thinned) if layer is None else FilterCovariance(layer, every=thinned)
            if observer not in requests.get(value, []):
                requests.setdefault(value, []).append(observer)
    return requests
