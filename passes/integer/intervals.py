"""Interval analysis of an INTEGER program: a proven range for every tensor and every step inside an op.

Ranges hold for every input, not only for those seen: inputs and indices have the range of their type, and each op's
rule bounds what it can make of that (Moore, "Interval Analysis", 1966). Constants count with the data they have, so
the accumulators of a layer are bounded by its own weights, per output channel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from qcompiler.errors import ConstraintError, InternalError
from qcompiler.ir import DType, Graph, Node, QuantParams, Value

INT64 = 64


@dataclass(frozen=True)
class Bounds:
    """Every element lies in [low, high]: arrays of Python integers, [C] along `axis` where channels differ, else []."""

    low: np.ndarray
    high: np.ndarray
    axis: int | None = None

    @property
    def whole(self) -> tuple[int, int]:
        """(least, largest) over all channels."""
        return int(self.low.min()), int(self.high.max())


@dataclass(frozen=True)
class Step:
    """One proven step.

    Attributes:
        node: the op.
        what: `result`, `accumulator`, `product`, ...
        low, high: no run leaves them.
        bits: of the type that holds the step.
    """

    node: Node
    what: str
    low: int
    high: int
    bits: int

    @property
    def needed(self) -> int:
        """Bits of the narrowest two's complement integer that holds the range."""
        return bits_for(self.low, self.high)


def bits_for(low: int, high: int) -> int:
    """Bits of a two's complement integer that holds [low, high]."""
    return max((low if low >= 0 else ~low).bit_length(), (high if high >= 0 else ~high).bit_length()) + 1


@dataclass
class Analysis:
    """The result.

    Attributes:
        bounds: of every value.
        steps: inside ops, in program order.
        row_sums: largest sum over the last axis of the centred codes of a softmax, which are never negative.
    """

    bounds: dict[Value, Bounds]
    steps: list[Step]
    row_sums: dict[Value, int] = field(default_factory=dict)

    def of(self, value: Value | None) -> Bounds:
        """Bounds of an operand, codes as stored."""
        assert value is not None
        if value not in self.bounds:
            self.bounds[value] = constant_bounds(value) if value.is_const else type_bounds(value.dtype)
        return self.bounds[value]

    def centred(self, value: Value | None) -> Bounds:
        """Bounds of an operand less its zero point."""
        found = self.of(value)
        assert value is not None
        zero = 0 if value.quant is None else value.quant.zero_point.astype(object)
        return Bounds(*(np.asarray(end - zero, object) for end in (found.low, found.high)), found.axis)

    def step(self, node: Node, what: str, low: int, high: int, bits: int) -> None:
        """Note a step and check that its type holds it.

        Raises:
            ConstraintError: it may overflow; names the module, the bound and what to change.
        """
        self.steps.append(Step(node, what, int(low), int(high), bits))
        if bits_for(int(low), int(high)) > bits:
            raise ConstraintError(overflow_message(node, what, int(low), int(high), bits))


def overflow_message(node: Node, what: str, low: int, high: int, bits: int) -> str:
    """Where, how far, and the remedy."""
    remedy = {
        "accumulator": "use fewer weight_bits or activation_bits for this layer, or split its input channels over two layers",
        "weighted sum": "bring the ranges of its operands nearer to each other, or use fewer multiplier bits (mult_bits)",
        "product": "use fewer multiplier bits (mult_bits)",
    }.get(what, "use fewer activation_bits for its operands")
    return (
        f"{node.where()}: its {what} lies in [{low}, {high}] and needs {bits_for(low, high)} bits, where {bits} are"
        f" available: it could overflow. Remedy: {remedy}"
    )


def type_bounds(dtype: DType) -> Bounds:
    """The range of a type."""
    low, high = (0, 1) if dtype is DType.bool else (dtype.min, dtype.max)
    return scalar(low, high)


def constant_bounds(value: Value) -> Bounds:
    """The range of a constant's data."""
    data = value.data
    if data is None or data.dtype.kind == "f":
        raise InternalError(f"{value!r} is no integer constant")
    low, high = (int(data.min()), int(data.max())) if data.size else (0, 0)
    return scalar(low, high)


Rule = Callable[[Analysis, Node], "Bounds | tuple[Bounds, ...]"]


def analyse(graph: Graph) -> Analysis:
    """Bounds of every value of an INTEGER program.

    Raises:
        ConstraintError: a step may overflow its type.
    """
    from qcompiler.passes.integer.interval_rules import RULES, by_type

    analysis = Analysis({}, [])
    for value in graph.inputs:
        analysis.bounds[value] = type_bounds(value.dtype)
    for node in graph.nodes:
        found = RULES.get(node.op, by_type)(analysis, node)
        results = found if isinstance(found, tuple) else (found,)
        for value, bounds in zip(node.outputs, results, strict=True):
            analysis.bounds[value] = bounds
            if value.quant is not None:
                sign = 0 if value.dtype.is_signed else 1  # steps count bits with a sign
                analysis.step(node, "result", *bounds.whole, value.dtype.bits + sign)
    for value in graph.outputs:
        analysis.of(value)
    return analysis


def intervals(graph: Graph) -> dict[Value, tuple[int, int]]:
    """(least, largest) stored integer of every value; no run of the program leaves them.

    Raises:
        ConstraintError: a step may overflow its type.
    """
    analysis = analyse(graph)
    return {value: analysis.of(value).whole for value in graph.values()}


def accumulator_bits(graph: Graph) -> dict[Node, int]:
    """Fewest bits of an accumulator that holds every partial sum of a node, in any order, for every input."""
    found: dict[Node, int] = {}
    for step in analyse(graph).steps:
        if step.what == "accumulator":
            found[step.node] = max(found.get(step.node, 1), step.needed)
    return found


def scalar(low: int, high: int) -> Bounds:
    """One range for all elements."""
    return Bounds(np.asarray(int(low), object), np.asarray(int(high), object))


def clipped(low: int, high: int, quant: QuantParams, limits: tuple[int | None, int | None]) -> Bounds:
    """Bounds after adding the zero point and clipping to limits and type."""
    zero, dtype = int(quant.zero_point), quant.dtype
    least = dtype.min if limits[0] is None else limits[0]
    most = dtype.max if limits[1] is None else limits[1]
    return scalar(*(min(max(int(end) + zero, least), most) for end in (low, high)))
