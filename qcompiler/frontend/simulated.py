"""Rounding that a model spells in arithmetic becomes quantize and dequantize, with its own scales.

Learned-step quantizers (LSQ, Esser et al. 2020; LSQ+, Bhalgat et al. 2020) and most hand-written modules compute

    v = x / s [+ z];  c = clip(v, low, high);  r = round(c);  y = (r [- z]) * s

clip and round in either order, the division perhaps as a product with 1 / s, and round perhaps as `(round(c) - c) + c`,
which lets gradients pass. s and z may be any expression of constants. The codes of a constant x are what the formula
gives; scales are its own, bit for bit. A clip may be two selections, where(r > high, high, r) and where(r < low, low, r),
as Brevitas writes it. Spellings that differ in any other way stay real arithmetic.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..executors.constants import Constants
from ..ir import Graph, Level, Node, QuantParams, Rewriter, Value, constant, drop_dead_nodes
from .limits import clipped, narrowest

log = logging.getLogger("qcompiler.frontend")


def read_simulated(graph: Graph) -> Graph:
    """The graph with its arithmetic quantizers as ops; the graph itself where it has none."""
    rounds = [n for n in graph.nodes if n.op == "round"]
    if not rounds:
        return graph
    constants = Constants(graph)
    found: dict[Node, _Quantizer] = {}
    for node in rounds:
        quantizer = _read(graph, constants, node)
        if quantizer is not None:
            found[quantizer.last] = quantizer
        elif not node.operands[0].is_const:
            log.info("%s: a round that belongs to no quantizer stays as it is", node.where())
    if not found:
        return graph
    out = Rewriter(graph, "read_simulated", Level.QUANTIZED)
    for node in graph.nodes:
        out.origin = node.origin
        quantizer = found.get(node)
        if quantizer is None:
            for old, new in zip(node.outputs, out.keep(node), strict=True):
                if old is not new:
                    out.replaced[old] = new
        else:
            out.replaced[node.output] = quantizer.build(out)
    outputs = [out[v] for v in graph.outputs]
    return drop_dead_nodes(Graph(graph.name, out.inputs, out.nodes, outputs, graph.output_names, Level.QUANTIZED))


@dataclass
class _Quantizer:
    """What was found around a round.

    Attributes:
        x: what is rounded.
        last: node that gives it back.
        scale: float32.
        zero: whole numbers.
        low: least code. high: largest code.
        codes: of a constant x, as the formula gives them.
    """

    x: Value
    last: Node
    scale: np.ndarray
    zero: np.ndarray
    low: int
    high: int
    codes: np.ndarray | None = field(repr=False)

    def params(self) -> QuantParams | None:
        """None if the graph has none like these."""
        dtype = narrowest(self.low, self.high)
        shape = self.scale.shape if self.scale.size >= self.zero.size else self.zero.shape
        long = [i - len(shape) for i, size in enumerate(shape) if size != 1]
        if dtype is None or len(long) > 1 or len(shape) > len(self.x.shape):
            return None
        try:
            if not long:
                return QuantParams(dtype, self.scale.reshape(()), self.zero.reshape(()))
            axis, size = long[0] % len(self.x.shape), shape[long[0]]
            scale = np.broadcast_to(self.scale.reshape(-1), size)
            zero = np.broadcast_to(self.zero.reshape(-1), size) if self.zero.any() else np.zeros((), np.int64)
            return QuantParams(dtype, scale, zero, axis)
        except ValueError:
            return None

    def build(self, out: Rewriter) -> Value:
        """Quantize and dequantize."""
        quant = self.params()
        assert quant is not None
        if self.codes is not None:
            value = constant(self.codes.astype(quant.dtype.numpy), quant=quant, name=self.x.name)
        else:
            value = out.op("quantize", clipped(out.op, out[self.x], quant, self.low, self.high), quant=quant)
        return out.op("dequantize", value, name=self.last.output.name)


def _read(graph: Graph, constants: Constants, node: Node) -> _Quantizer | None:
    """The quantizer around a round; None if it is none."""
    value, low_high = _limits(graph, node.operands[0])
    quotient, zero = _unshifted(graph, constants, value)
    divided = _divided(graph, constants, quotient)
    if divided is None:
        return None
    x, scale, inverse = divided
    end, after = _upwards(graph, constants, node, low_high is None)
    low_high = low_high or after
    back = _back(graph, constants, end, zero)
    if low_high is None or back is None:
        return None
    last, factor = back
    same = np.array_equal(factor, scale) if not inverse else np.array_equal(np.float32(1) / factor, scale)
    low, high = low_high
    whole = zero == np.rint(zero)
    if not same or not whole.all() or any(v != np.rint(v) for v in (low, high)):
        return None
    codes = constants.of(end) if constants.of(x) is not None else None
    found = _Quantizer(x, last, np.asarray(factor, np.float32), zero.astype(np.int64), int(low), int(high), codes)
    quant = found.params()
    narrow = quant is not None and (found.low, found.high) != (quant.dtype.min, quant.dtype.max)
    if quant is None or (codes is None and narrow and not quant.per_tensor):
        return None
    return found


Limits = tuple[float, float] | None


def _limits(graph: Graph, value: Value) -> tuple[Value, Limits]:
    """(operand, limits) of a clip; the value itself without limits."""
    node = graph.producer(value)
    if node is None or node.op != "clip" or None in (node.attrs["min"], node.attrs["max"]):
        return value, None
    return node.operands[0], (node.attrs["min"], node.attrs["max"])


def _binary(graph: Graph, value: Value, op: str) -> tuple[Value, Value] | None:
    node = graph.producer(value)
    return None if node is None or node.op != op else (node.operands[0], node.operands[1])


def _unshifted(graph: Graph, constants: Constants, value: Value) -> tuple[Value, np.ndarray]:
    """(v, z) of v + z; z is 0 where nothing is added."""
    for op, sign in (("add", 1), ("sub", -1)):
        pair = _binary(graph, value, op)
        for first, second in () if pair is None else (pair, pair[::-1]) if op == "add" else (pair,):
            shift = constants.of(second)
            if shift is not None and (_binary(graph, first, "div") or _binary(graph, first, "mul")):
                return first, sign * shift
    return value, np.zeros((), np.float32)


def _divided(graph: Graph, constants: Constants, value: Value) -> tuple[Value, np.ndarray, bool] | None:
    """(x, s, False) of x / s, or (x, t, True) of x * t."""
    pair = _binary(graph, value, "div")
    if pair is not None:
        scale = constants.of(pair[1])
        return None if scale is None else (pair[0], scale, False)
    pair = _binary(graph, value, "mul")
    if pair is None:
        return None
    orders: Sequence[tuple[Value, Value]] = sorted((pair, pair[::-1]), key=lambda p: p[1].shape != ())
    for x, factor in orders:
        inverse = constants.of(factor)
        if inverse is not None and factor.shape != value.shape:
            return x, inverse, True
    return None


def _upwards(graph: Graph, constants: Constants, node: Node, may_clip: bool) -> tuple[Value, Limits]:
    """The value of codes behind a round, through what lets gradients pass and a clip."""
    value, limits = node.output, None
    for _ in range(2):
        value = _through(graph, value, node.operands[0])
        user = graph.sole_user(value)
        if may_clip and limits is None and user is not None and user.op == "clip":
            _, limits = _limits(graph, user.output)
            value = user.output if limits is not None else value
        elif may_clip and limits is None and (selected := _selected_limits(graph, constants, value)) is not None:
            value, limits = selected
    return value, limits


def _selected_limits(graph: Graph, constants: Constants, value: Value) -> tuple[Value, tuple[float, float]] | None:
    """(clipped value, limits) behind two selections, in either order."""
    for first, second in (("greater", "less"), ("less", "greater")):
        inner = _selected(graph, constants, value, first)
        outer = None if inner is None else _selected(graph, constants, inner[0], second)
        if inner is not None and outer is not None:
            return outer[0], (min(inner[1], outer[1]), max(inner[1], outer[1]))
    return None


def _selected(graph: Graph, constants: Constants, value: Value, op: str) -> tuple[Value, float] | None:
    """(result, bound) of where(value > bound, bound, value), or the same with less."""
    users = [user for user, _ in graph.uses(value)]
    compare = next((u for u in users if u.op == op and u.operands[0] is value), None)
    select = None if compare is None else graph.sole_user(compare.output)
    if compare is None or select is None or select.op != "where" or len(users) != 2 or select not in users:
        return None
    condition, bound, kept = select.operands
    limit, put = constants.of(compare.operands[1]), constants.of(bound)
    fits = condition is compare.output and kept is value and limit is not None and put is not None
    if not fits or limit.size != 1 or put.size != 1 or limit.item() != put.item():  # type: ignore[union-attr]
        return None
    return select.output, float(put.item())  # type: ignore[union-attr]


def _through(graph: Graph, value: Value, before: Value) -> Value:
    """(value - before) + before is value."""
    user = graph.sole_user(value)
    if user is None or user.op != "sub" or user.operands[0] is not value:
        return value
    other = user.operands[1]
    last = graph.sole_user(user.output)
    if last is None or last.op != "add" or {*last.operands} != {user.output, other}:
        return value
    return last.output if _same(graph, other, before) else value


def _same(graph: Graph, a: Value, b: Value) -> bool:
    """One value, or one computed alike."""
    if a is b:
        return True
    first, second = graph.producer(a), graph.producer(b)
    return first is not None and second is not None and first.op == second.op and first.attrs == second.attrs and all(
        x is y for x, y in zip(first.inputs, second.inputs, strict=True)
    )


def _back(graph: Graph, constants: Constants, value: Value, zero: np.ndarray) -> tuple[Node, np.ndarray] | None:
    """(node, s) of (value - zero) * s."""
    user = graph.sole_user(value)
    if user is not None and user.op in ("sub", "add"):
        shift = _other(constants, user, value)
        if shift is None or not np.all((shift if user.op == "sub" else -shift) == zero):
            return None
        value, user = user.output, graph.sole_user(user.output)
    elif zero.any():
        return None
    if user is None or user.op not in ("mul", "div"):
        return None
    factor = _other(constants, user, value)
    if factor is None:
        return None
    return user, factor if user.op == "mul" else np.float32(1) / factor


def _other(constants: Constants, node: Node, value: Value) -> np.ndarray | None:
    """The constant that an op combines `value` with, which comes first where the order matters."""
    first, second = node.operands
    if first is value:
        return constants.of(second)
    return constants.of(first) if node.op in ("add", "mul") else None
