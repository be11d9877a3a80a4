"""Scale queries and keys against each other: Q -> Q t, K -> K / t leaves the scores Q K^T as they are.

Groups are found by use-def chains: linear -> reshape to heads -> transpose -> (rotary) -> attention, on both sides. Keys
with outlier channels become even (QoQ's SmoothAttention; Lin et al. 2024, section 4.2). Ties: rotary embedding turns
channels in pairs, (j, j + d/2) or, interleaved, (2j, 2j + 1), which therefore share a factor; query heads that share a key
head share its factors. EXACT: folded in float64. Off unless a recipe asks for it: it pays where scores are computed on
codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from qcompiler.errors import UsageError
from qcompiler.ir import Graph, Node, Rewriter, Value, constant, rewrite
from qcompiler.passes.base import Context, Kind, Note, Pass, PassConfig, Result

from .groups import sole_linear, swaps_heads
from .site_rows import collect_rows


class ScaleScoresConfig(PassConfig):
    """alpha: share of the keys' range that moves into the queries. rows: most rows that ranges are taken from."""

    alpha: float = Field(0.5, gt=0, le=1, json_schema_extra={"search": [0.3, 0.5, 0.7]})
    rows: int = Field(256, ge=16)


@dataclass(frozen=True, eq=False)
class ScoreGroup:
    """Two projections whose results meet in Q K^T.

    Attributes:
        attention: the node that multiplies them.
        query, key: linear nodes; rows are [heads, d].
        key_heads, width: number of key heads, and d.
        pairs: [d] index of the factor of each channel of a head; channels that rotary embedding mixes share one.
        shared: query heads per key head.
    """

    attention: Node
    query: Node
    key: Node
    key_heads: int
    width: int
    pairs: np.ndarray
    shared: int


class ScaleScores(Pass):
    """See the module docstring."""

    name = "scale_scores"
    kind = Kind.EXACT

    def __init__(self, config: ScaleScoresConfig | None = None) -> None:
        self.config = config or ScaleScoresConfig()

    def run(self, graph: Graph, context: Context) -> Result:
        """Needs `context.samples`, or the decisions of a lock file."""
        groups, notes = find_score_groups(graph)
        locked = (context.locked or {}).get(self.name)
        chosen: dict[ScoreGroup, np.ndarray] = {}
        if locked is not None:
            chosen = {g: np.array(locked[g.key.where()]) for g in groups if g.key.where() in locked}
        elif groups:
            if context.samples is None:
                raise UsageError("scale_scores needs calibration data; give some, or remove the step")
            rows = collect_rows(graph, [g.key.output for g in groups], context.samples, self.config.rows)
            for group in groups:
                peak = np.max([np.maximum(-s.low, s.high) for s in rows[group.key.output]], 0).astype(np.float64)
                chosen[group] = key_factors(group, peak, self.config.alpha)
        for group, t in chosen.items():
            notes.append(Note(group.key.where(), True, "", {"largest": float(t.max()), "smallest": float(t.min())}))
        context.decisions[self.name] = {g.key.where(): t.tolist() for g, t in chosen.items()}
        result = fold_scores(graph, chosen, self.name)
        return Result(result, result is not graph, tuple(notes))


def key_factors(group: ScoreGroup, peak: np.ndarray, alpha: float) -> np.ndarray:
    """T [key heads, d]: the largest |K| of tied channels to the power alpha, geometric mean 1 per head."""
    by_head = np.maximum(peak.reshape(group.key_heads, group.width), 1e-5)
    tied = np.stack([by_head[:, group.pairs == p].max(1) for p in group.pairs], 1) ** alpha
    return np.asarray(tied / np.exp(np.log(tied).mean(1, keepdims=True)))


def fold_scores(graph: Graph, factors: Mapping[ScoreGroup, np.ndarray], pass_name: str) -> Graph:
    """The graph with K / t and Q t; t [key heads, d]. Factors of 1 leave it unchanged.

    Raises:
        ValueError: channels that rotary embedding mixes have different factors, or a factor is not positive.
    """
    scale: dict[Node, np.ndarray] = {}
    for group, t in factors.items():
        if not (t > 0).all() or any(np.ptp(t[:, group.pairs == p], 1).any() for p in np.unique(group.pairs)):
            raise ValueError(f"factors of {group.key.where()} must be positive, and equal within rotary pairs")
        if (t != 1).any():
            scale[group.key] = 1 / t.reshape(-1)
            scale[group.query] = np.repeat(t, group.shared, 0).reshape(-1)

    def visit(new: Rewriter, node: Node) -> Value | None:
        if node not in scale:
            return None
        rows = scale[node]
        operands = [new[node.operands[0]]]
        for value in node.operands[1:]:
            assert value.data is not None
            shaped = rows.reshape(-1, *(1,) * (value.data.ndim - 1))
            operands.append(constant((value.data.astype(np.float64) * shaped).astype(value.dtype.numpy), name=value.name))
        return new.op("linear", *operands, name=node.output.name)

    return rewrite(graph, visit, pass_name) if scale else graph


def find_score_groups(graph: Graph) -> tuple[list[ScoreGroup], list[Note]]:
    """Groups in program order, and a note for each attention that is refused."""
    groups, notes = [], []
    for node in graph.nodes:
        if node.op == "attention":
            sides = [_side(graph, v) for v in node.operands[:2]]
            refused = next((s for s in sides if isinstance(s, str)), "")
            if refused:
                notes.append(Note(node.where(), False, refused))
                continue
            (query, query_heads, width, pairs), (key, key_heads, _, other) = sides  # type: ignore[misc]
            if not np.array_equal(pairs, other):
                notes.append(Note(node.where(), False, "queries and keys are turned differently"))
                continue
            groups.append(ScoreGroup(node, query, key, key_heads, width, pairs, query_heads // key_heads))
    return groups, notes


def _side(graph: Graph, value: Value) -> tuple[Node, int, int, np.ndarray] | str:
    """(linear, heads, width of a head, pairs) behind one operand of an attention, or why there is none."""
    heads, width = value.shape[-3], value.shape[-1]
    if not isinstance(heads, int) or not isinstance(width, int):
        return "the number or width of its heads is not known"
    pairs = np.arange(width)
    node = graph.producer(value)
    if node is not None and node.op == "rotary":
        if graph.sole_user(value) is None:
            return f"{node.where()} has another reader"
        turned = int(node.operands[1].shape[-1])
        index = np.arange(turned)
        pairs[:turned] = index // 2 * 2 if node.attrs["interleaved"] else index % (turned // 2)
        value = node.operands[0]
        node = graph.producer(value)
    for op in ("transpose", "reshape"):
        if node is None or node.op != op or (op == "transpose" and not swaps_heads(node)):
            return "its heads do not come from one linear layer"
        if graph.sole_user(value) is None:
            return f"{node.where()} has another reader"
        value = node.operands[0]
        node = graph.producer(value)
    linear = sole_linear(graph, value, heads * width)
    return (linear, heads, width, pairs) if linear is not None else "its heads do not come from one linear layer"
