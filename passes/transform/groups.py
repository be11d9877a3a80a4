"""Where scales and shifts may move between a tensor and the linear layers that read it.

A *site* is a real tensor x [..., K] whose last axis is contracted by one or more linear nodes. Replacing x by
(x - z) / t and each reader's weight W [N, K] by W t (bias by bias + W z) preserves the function. What computes
x decides how (x - z) / t is made:

    norm      the only readers are the linear nodes: folded into the norm's weight and bias
    fork      a norm whose output feeds something else too (post-norm residual): a second affine output
    up        x = gate * up of a gated MLP: folded into the rows of up's weight (scale only)
    value     x = attention output: folded into the rows of the value projection (scale only, tied over query heads
              that share a value head)
    multiply  a nonlinearity that is computed on real numbers: an explicit multiply before the readers

What integer kernels give as codes (convolutions, pools, sums) is refused: a multiply would take it back to real
numbers.

Sites are found by use-def chains; a site that does not qualify is refused with the reason.
Source: SmoothQuant (Xiao et al. 2023, section 4), Outlier Suppression+ (Wei et al. 2023, section 4.1).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qcompiler.ir import Graph, Node, Value, get_op
from qcompiler.ir.dims import same
from qcompiler.passes.base import Note

NORM, FORK, UP, VALUE, MULTIPLY = "norm", "fork", "up", "value", "multiply"
NORMS = ("layer_norm", "rms_norm")
REAL_OPS = frozenset(
    "gelu silu mish tanh sigmoid hard_swish hard_sigmoid elu softplus erf exp mul div softmax attention rotary"
    " layer_norm rms_norm group_norm".split()
)
"""Ops whose results are real numbers on every target with real islands, so that a multiply after them is cheap."""


@dataclass(frozen=True, eq=False)
class Site:
    """One tensor and the linear nodes that read it.

    Attributes:
        name: module path of the first reader, made unique by its place; for notes and lock files.
        value: x [..., K].
        readers: linear nodes whose operand 0 is `value`.
        fold: how (x - z) / t is made, one of the kinds in the module docstring.
        producer: node the factors fold into (norm, or the linear node of up or value), None for MULTIPLY.
        tie: index [K] into the free factors; channels with one index share a factor. Identity where none are tied.
        shift: True if z != 0 is possible at no run-time cost.
        heads: value heads of VALUE; channels of a head are neighbours, and so are their factors.
    """

    name: str
    value: Value
    readers: tuple[Node, ...]
    fold: str
    producer: Node | None
    tie: np.ndarray
    shift: bool
    heads: int = 1

    @property
    def width(self) -> int:
        """K."""
        return int(self.value.shape[-1])


def find_sites(graph: Graph) -> tuple[list[Site], list[Note]]:
    """All sites in program order, and a note for each linear input that is refused."""
    sites, notes, seen = [], [], set()
    for node in graph.nodes:
        if node.op != "linear" or node.operands[0] in seen:
            continue
        value = node.operands[0]
        seen.add(value)
        readers = tuple(n for n, i in graph.uses(value) if n.op == "linear" and i == 0)
        refusal = _refusal(graph, readers)
        if refusal:
            notes.append(Note(node.where(), taken=False, reason=refusal))
            continue
        site = _site(graph, f"{len(seen)}:{node.origin.module}", value, readers)
        source = _source(graph, value)
        if site.fold == MULTIPLY and source not in REAL_OPS:
            reason = f"its input comes from {source or 'outside'}, which may stay in codes; a multiply could not"
            notes.append(Note(node.where(), taken=False, reason=reason))
            continue
        sites.append(site)
    return sites, notes


def _refusal(graph: Graph, readers: tuple[Node, ...]) -> str:
    for reader in readers:
        weight = reader.operands[1]
        others = [n for n, _ in graph.uses(weight) if n not in readers]
        if others:
            return f"the weight is shared with {others[0].where()}"
        if not weight.is_const:
            return "the weight is computed at run time"
        if not reader.operands[0].dtype.is_float or weight.quant is not None:
            return "already quantized"
    return ""


def _source(graph: Graph, value: Value) -> str:
    """Op that computed a value, looking through data movement; "" for graph inputs and constants."""
    node = graph.producer(value)
    while node is not None and get_op(node.op).category == "movement" and node.operands:
        node = graph.producer(node.operands[0])
    return "" if node is None else node.op


def _site(graph: Graph, name: str, value: Value, readers: tuple[Node, ...]) -> Site:
    width = int(value.shape[-1])
    identity = np.arange(width)
    producer = graph.producer(value)
    outside = len(graph.uses(value)) > len(readers) or graph.is_output(value)
    if producer is not None and producer.op in NORMS and _foldable_norm(producer):
        kind = FORK if outside else NORM
        return Site(name, value, readers, kind, producer, identity, shift=producer.op == "layer_norm")
    if producer is not None and not outside:
        up = _gated_up(graph, producer, width)
        if up is not None:
            return Site(name, value, readers, UP, up, identity, shift=False)
        found = _value_projection(graph, value)
        if found is not None:
            return Site(name, value, readers, VALUE, found[0], found[1], shift=False, heads=found[2])
    return Site(name, value, readers, MULTIPLY, None, identity, shift=False)


def _foldable_norm(node: Node) -> bool:
    affine = [v for v in node.inputs[1:] if v is not None]
    return node.attrs["axes"] == 1 and all(v.is_const for v in affine)


def sole_linear(graph: Graph, value: Value, width: int) -> Node | None:
    """The linear node that computes `value` for one reader only, with a constant weight of `width` rows."""
    node = graph.producer(value)
    if node is None or node.op != "linear" or graph.sole_user(value) is None:
        return None
    weight, bias = node.operands[1], node.inputs[2]
    if not weight.is_const or not same(weight.shape[0], width) or (bias is not None and not bias.is_const):
        return None
    return node


def _gated_up(graph: Graph, producer: Node, width: int) -> Node | None:
    """X = act(gate) * up: the linear node of up. The gate's side is a nonlinearity, so only up may be scaled."""
    if producer.op != "mul" or not all(v.shape and same(v.shape[-1], width) for v in producer.operands):
        return None
    for value in producer.operands:
        found = sole_linear(graph, value, width)
        if found is not None:
            return found
    return None


def _value_projection(graph: Graph, value: Value) -> tuple[Node, np.ndarray, int] | None:
    """X = reshape(transpose(attention(q, k, v))): the linear node of v, the tie of its rows and the number of heads.

    Heads must be split as reshape [.., T, H*D] -> [.., T, H, D] -> transpose to [.., H, T, D], and merged the
    same way back. With fewer value heads than query heads the factors of a value head serve its whole group.
    """
    merge = graph.producer(value)
    if merge is None or merge.op != "reshape":
        return None
    back = graph.producer(merge.operands[0])
    if back is None or back.op != "transpose" or not swaps_heads(back):
        return None
    attention = graph.producer(back.operands[0])
    if attention is None or attention.op != "attention":
        return None
    chain = [merge.operands[0], back.operands[0]]
    if any(graph.sole_user(v) is None for v in chain):
        return None
    v = attention.operands[2]
    forth = graph.producer(v)
    if forth is None or forth.op != "transpose" or not swaps_heads(forth) or graph.sole_user(v) is None:
        return None
    split = graph.producer(forth.operands[0])
    if split is None or split.op != "reshape" or graph.sole_user(forth.operands[0]) is None:
        return None
    heads, width = v.shape[-3], v.shape[-1]
    query_heads = attention.output.shape[-3]
    if not all(isinstance(n, int) for n in (heads, width, query_heads)):
        return None
    linear = sole_linear(graph, split.operands[0], heads * width)
    if linear is None or query_heads * width != value.shape[-1]:
        return None
    group = query_heads // heads
    tie = np.concatenate([np.arange(width) + (h // group) * width for h in range(query_heads)])
    return linear, tie, heads


def swaps_heads(node: Node) -> bool:
    """True for [.., T, H, D] <-> [.., H, T, D]."""
    perm = node.attrs["perm"]
    return len(perm) == 4 and perm == (0, 2, 1, 3)


def residual_sums(graph: Graph, site: Site) -> list[Value | None]:
    """Per reader, the sum that its output enters and nothing else reads: x + reader(...), of equal shape."""
    found: list[Value | None] = []
    for reader in site.readers:
        user = graph.sole_user(reader.output)
        joins = user is not None and user.op == "add" and user.output.shape == reader.output.shape
        found.append(user.output if joins and user is not None else None)
    return found


def scored_values(sums: Mapping[Site, Sequence[Value | None]]) -> list[Value]:
    """Values whose rows the scores of some sites need: what is read, and the residual sums behind it."""
    values = [v for site, found in sums.items() for v in (site.value, *found) if v is not None]
    return list(dict.fromkeys(values))


def free_factors(site: Site) -> int:
    """Number of independent factors of a site."""
    return int(site.tie.max()) + 1


def tied_max(site: Site, per_channel: np.ndarray) -> np.ndarray:
    """Largest entry [K] of each tie group, spread back to its channels."""
    best = np.full(free_factors(site), -np.inf)
    np.maximum.at(best, site.tie, per_channel)
    return best[site.tie]


def tied_mean(site: Site, per_channel: np.ndarray) -> np.ndarray:
    """Mean [K] over each tie group, spread back to its channels."""
    total, count = np.zeros(free_factors(site)), np.zeros(free_factors(site))
    np.add.at(total, site.tie, per_channel)
    np.add.at(count, site.tie, 1.0)
    return (total / np.maximum(count, 1))[site.tie]


def weights(site: Site) -> Iterator[np.ndarray]:
    """The readers' weights [N, K], float64."""
    for reader in site.readers:
        data = reader.operands[1].data
        assert data is not None  # _refusal checked it
        yield data.astype(np.float64)
