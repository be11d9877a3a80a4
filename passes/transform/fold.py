"""Fold primitives: apply factors t and shifts z of sites, or factors of channel groups, to a graph, in float64.

Each reader's weight W [N, K] becomes W t and its bias b + W z; the producer gives (x - z) / t. With t = 1 and
z = 0 the graph is returned unchanged, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qcompiler.ir import Graph, Node, Rewriter, Value, constant, rewrite

from .channel_groups import constant_weight, is_depthwise, is_scalable
from .groups import FORK, MULTIPLY, NORM, UP, VALUE, Site


@dataclass(frozen=True)
class Factors:
    """t [K] > 0 and z [K] of one site, float64."""

    t: np.ndarray
    z: np.ndarray

    @property
    def identity(self) -> bool:
        """True if nothing changes."""
        return bool((self.t == 1).all() and not self.z.any())

    @staticmethod
    def none(width: int) -> Factors:
        """T = 1, z = 0."""
        return Factors(np.ones(width), np.zeros(width))


def apply_factors(graph: Graph, factors: Mapping[Site, Factors], pass_name: str) -> Graph:
    """The graph with the factors of each site folded in; sites with identity factors are left alone.

    Raises:
        ValueError: t not positive, or a shift at a site that cannot take one, naming the site.
    """
    active = {s: f for s, f in factors.items() if not f.identity}
    for site, f in active.items():
        if not (f.t > 0).all() or not np.isfinite(f.t).all():
            raise ValueError(f"factors of {site.name} must be finite and positive")
        if f.z.any() and not site.shift:
            raise ValueError(f"{site.name} takes no shift ({site.fold})")
    if not active:
        return graph
    readers = {n: (s, f) for s, f in active.items() for n in s.readers}
    producers = {s.producer: (s, f) for s, f in active.items() if s.producer is not None and s.fold != FORK}
    made: dict[Site, Value] = {}

    def visit(new: Rewriter, node: Node) -> Value | None:
        if node not in readers and node not in producers:
            return None
        x, weight, bias, changed = new.get(node.inputs[0]), *_operands(node), False
        if node in readers:
            site, f = readers[node]
            x = _read(new, site, f, made)
            weight, bias, changed = weight * f.t, _shift_bias(weight, bias, f), True
        if node in producers:
            site, f = producers[node]
            if site.fold == NORM:
                return _norm(new, node, f)
            weight, bias = _scale_rows(weight, bias, site, f)
            changed = True
        assert changed
        operands = [
            _const(a, old, node.output) for a, old in zip((weight, bias), node.inputs[1:], strict=True)
        ]
        return new.op("linear", x, *operands, name=node.output.name)

    return rewrite(graph, visit, pass_name)


def _operands(node: Node) -> tuple[np.ndarray, np.ndarray | None]:
    if node.op != "linear":
        return np.zeros(0), None
    weight, bias = node.operands[1].data, node.inputs[2]
    assert weight is not None
    return weight.astype(np.float64), None if bias is None or bias.data is None else bias.data.astype(
        np.float64
    )


def _const(data: np.ndarray | None, old: Value | None, like: Value) -> Value | None:
    if data is None:
        return old
    return constant(data.astype(like.dtype.numpy), name="" if old is None else old.name)


def _shift_bias(weight: np.ndarray, bias: np.ndarray | None, f: Factors) -> np.ndarray | None:
    if not f.z.any():
        return bias
    added = weight @ f.z
    return added if bias is None else bias + added


def _read(new: Rewriter, site: Site, f: Factors, made: dict[Site, Value]) -> Value:
    """What the readers of a site read in the new graph."""
    if site.fold in (NORM, UP, VALUE):
        return new[site.value]
    if site not in made:
        if site.fold == FORK and site.producer is not None:
            made[site] = _norm(new, site.producer, f)
        else:
            assert site.fold == MULTIPLY
            inverse = constant((1 / f.t).astype(site.value.dtype.numpy), name="smooth")
            made[site] = new.op("mul", new[site.value], inverse, name="smoothed")
    return made[site]


def _norm(new: Rewriter, node: Node, f: Factors) -> Value:
    """The norm with weight / t and (bias - z) / t."""
    width = f.t.size
    weight = node.inputs[1]
    gamma = np.ones(width) if weight is None else _data(weight)
    kind = node.output.dtype.numpy
    operands = [new[node.operands[0]], constant((gamma / f.t).astype(kind), name="weight")]
    if node.op == "layer_norm":
        beta = np.zeros(width) if node.inputs[2] is None else _data(node.inputs[2])
        operands.append(constant(((beta - f.z) / f.t).astype(kind), name="bias"))
    return new.op(
        node.op, *operands, origin=node.origin.made_by(new.pass_name), name=node.output.name, **node.attrs
    )


def _data(value: Value) -> np.ndarray:
    assert value.data is not None
    return value.data.astype(np.float64)


def _scale_rows(
    weight: np.ndarray, bias: np.ndarray | None, site: Site, f: Factors
) -> tuple[np.ndarray, np.ndarray | None]:
    """Rows of the producing linear node divided by t (one factor per row; tied channels share it)."""
    rows = np.ones(int(site.tie.max()) + 1)
    rows[site.tie] = f.t
    return weight / rows[:, None], None if bias is None else bias / rows


def apply_channel_factors(graph: Graph, factors: Mapping[Value, np.ndarray], pass_name: str) -> Graph:
    """Multiply every channel of the given values by its factor, folded into the layers around them, in float64."""
    active = {v: s for v, s in factors.items() if (s != 1).any()}

    def visit(new: Rewriter, node: Node) -> Value | None:
        data = node.inputs[0] if is_scalable(node) else None
        if data is None:
            return None
        read, made = active.get(data), active.get(node.output)
        if read is None and made is None:
            return None
        weight, bias = constant_weight(node).astype(np.float64), _constant_bias(node)
        if read is not None:
            weight = weight / _columns(node, read)
        if made is not None:
            weight = weight * made.reshape(-1, *(1,) * (weight.ndim - 1))
            bias = None if bias is None else bias.astype(np.float64) * made
        w = constant(weight.astype(np.float32), name="weight")
        b = None if bias is None else constant(bias.astype(np.float32), name="bias")
        return new.op(node.op, new.get(data), w, b, name=node.output.name, **dict(node.attrs))

    return rewrite(graph, visit, pass_name) if active else graph


def _constant_bias(node: Node) -> np.ndarray | None:
    value = node.inputs[2]
    return None if value is None else value.data


def _columns(node: Node, s: np.ndarray) -> np.ndarray:
    """S shaped to divide the part of the weight that reads each channel."""
    axis = 0 if is_depthwise(node) else 1
    return s.reshape([-1 if i == axis else 1 for i in range(constant_weight(node).ndim)])
