"""Split the massive channels of gated MLPs: a channel becomes T copies of a T-th each.

    X_j -> X_j / T, T times       gate's row j repeated, up's row j divided by T and repeated, down's column j repeated

A channel that reaches thousands for one token sets the range of the tensor; smoothing it away multiplies its weights by
as much, and rounding of the whole row follows. Copies divide what has to be moved (QLLM's channel disassembly; Liu et
al. 2024, section 3.2, folded into the layers before, so that nothing is left at run time but a slightly wider layer).
EXACT. A site is split where the cross-validated error, with the smoothing that follows, gains enough by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from pydantic import Field

from qcompiler.ir import Graph, Node, Rewriter, Value, constant, rewrite
from qcompiler.passes.base import Context, Kind, Note, Pass, PassConfig, Result
from qcompiler.recipe import Recipe

from .choose_factors import HEADROOM, Candidate, candidates, score_candidates
from .groups import UP, Site, find_sites, residual_sums, scored_values
from .site_rounding import REAL, SiteRounding, readers_rounding
from .site_rows import SITE_ROWS, SampleRows, rows_of


class SplitConfig(PassConfig):
    """When and how far.

    Attributes:
        outlier: a site is looked at if its widest channel reaches this many times the median channel.
        copies: numbers of additional channels tried; multiples of what the kernels like.
        min_gain_db: gain of the cross-validated error that a site must reach to be split.
        alphas, thresholds: of the smoothing that is expected to follow.
        rows: most rows of a tensor that are scored.
    """

    outlier: float = Field(20.0, gt=1)
    copies: tuple[int, ...] = Field((32, 96), json_schema_extra={"search": [[], [32], [32, 96]]})
    min_gain_db: float = Field(1.0, ge=0)
    alphas: tuple[float, ...] = (0.55, 0.7, 0.85)
    thresholds: tuple[float, ...] = (0.25, 0.1)
    rows: int = Field(256, ge=16)


@dataclass(frozen=True)
class GatedMlp:
    """X = act(gate) * up, read by the linear nodes of `site`, which alone read it; `gate` feeds elementwise ops only."""

    site: Site
    gate: Node
    up: Node


class SplitChannels(Pass):
    """See the module docstring."""

    name = "split_channels"
    kind = Kind.EXACT

    def __init__(self, config: SplitConfig | None = None, recipe: Recipe | None = None) -> None:
        self.config = config or SplitConfig()
        self.recipe = recipe or Recipe()

    def run(self, graph: Graph, context: Context) -> Result:
        """Needs `context.samples`, or the decisions of a lock file."""
        found, notes = find_gated(graph)
        locked = (context.locked or {}).get(self.name)
        if locked is not None:
            counts = {m: np.array(locked[m.site.name], np.int64) for m in found if m.site.name in locked}
        elif found and context.locked is None:
            counts = self._measure(graph, found, context, notes)
        else:
            counts = {}
        context.decisions[self.name] = {m.site.name: c.tolist() for m, c in counts.items()}
        result = split_gated(graph, counts, self.name)
        if result is not graph:
            _carry_rows(graph, result, counts, context)
        return Result(result, result is not graph, tuple(notes))

    def _measure(
        self, graph: Graph, found: Sequence[GatedMlp], context: Context, notes: list[Note]
    ) -> dict[GatedMlp, np.ndarray]:
        wanted: dict[GatedMlp, SiteRounding] = {}
        for mlp in found:
            rounding = readers_rounding(mlp.site, self.recipe, context)
            if rounding is None or rounding.activation == REAL:
                notes.append(Note(mlp.site.name, False, "its readers do not round their operand"))
            else:
                wanted[mlp] = rounding
        if not wanted:
            return {}
        sites, _ = find_sites(graph)  # all of them: the smoothing that follows reads the same rows
        rows = rows_of(graph, scored_values({s: residual_sums(graph, s) for s in sites}), context, self.config.rows)
        counts = {}
        for mlp, rounding in wanted.items():
            site, data = mlp.site, rows[mlp.site.value]
            peak = np.max([np.maximum(-s.low, s.high) for s in data], 0)
            ratio = float(peak.max() / max(np.median(peak), 1e-30))
            if ratio < self.config.outlier:
                notes.append(Note(site.name, False, f"its widest channel is {ratio:.1f} times the median"))
                continue
            references = [None if v is None else rows[v] for v in residual_sums(graph, site)]
            tried = {n: copies(peak, n) for n in (0, *self.config.copies)}
            errors = {n: self._error(site, data, c, rounding, references) for n, c in tried.items()}
            best = min(errors, key=lambda n: errors[n])
            gain = float(10 * np.log10(errors[0] / max(errors[best], 1e-30)))
            taken = best > 0 and gain >= self.config.min_gain_db
            figures = {"gain_db": round(gain, 2), "copies": best, "widest": round(ratio, 1)}
            notes.append(Note(site.name, taken, "" if taken else f"gains {gain:.2f} dB", figures))
            if taken:
                counts[mlp] = tried[best]
        context.tables[SITE_ROWS] = rows
        return counts

    def _error(
        self,
        site: Site,
        rows: Sequence[SampleRows],
        counts: np.ndarray,
        rounding: SiteRounding,
        sums: Sequence[Sequence[SampleRows] | None],
    ) -> float:
        grid: list[Candidate] = candidates(self.config.alphas, self.config.thresholds)
        wide = [SampleRows(*(spread(a, counts) for a in (s.rows, s.low, s.high))) for s in rows]
        total = int(counts.sum())
        value = replace(site.value, shape=(*site.value.shape[:-1], total))
        stand_in = replace(
            site, value=value, tie=np.arange(total), readers=tuple(_wider(n, counts) for n in site.readers)
        )
        return float(score_candidates(stand_in, wide, grid, rounding, HEADROOM, sums=sums).min())


def _carry_rows(
    before: Graph, after: Graph, counts: Mapping[GatedMlp, np.ndarray], context: Context
) -> None:
    """Rows of the new graph's values, so that the smoothing that follows needs no sweep of its own."""
    rows: dict[Value, list[SampleRows]] = context.tables.pop(SITE_ROWS, {})
    wider = {m.site.name: c for m, c in counts.items()}
    old = {s.name: s for s in find_sites(before)[0]}
    carried: dict[Value, list[SampleRows]] = {}
    for site in find_sites(after)[0]:
        twin = old.get(site.name)
        if twin is None or twin.value not in rows:
            continue
        found = rows[twin.value]
        if site.name in wider:
            found = [SampleRows(*(spread(a, wider[site.name]) for a in (s.rows, s.low, s.high))) for s in found]
        carried[site.value] = found
        for a, b in zip(residual_sums(before, twin), residual_sums(after, site)):
            if a is not None and b is not None and a in rows:
                carried[b] = rows[a]
    context.tables[SITE_ROWS] = carried


def copies(peak: np.ndarray, budget: int) -> np.ndarray:
    """Copies per channel (1 for most), `budget` more than there are channels, the widest divided most evenly."""
    counts = np.ones(len(peak), np.int64)
    for _ in range(budget):
        counts[int(np.argmax(peak / counts))] += 1
    return counts


def spread(x: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Channels of x [..., K] divided into their copies, [..., sum of counts]."""
    return np.repeat(x / counts.astype(x.dtype), counts, -1)


def _wider(node: Node, counts: np.ndarray) -> Node:
    weight = node.operands[1]
    assert weight is not None and weight.data is not None
    columns = constant(np.repeat(weight.data, counts, 1), name=weight.name)
    return replace(node, inputs=(node.inputs[0], columns, node.inputs[2]))


def find_gated(graph: Graph) -> tuple[list[GatedMlp], list[Note]]:
    """Gated MLPs whose channels may be split, and a note for each that is refused."""
    found, notes = [], []
    for site in find_sites(graph)[0]:
        if site.fold != UP or site.producer is None:
            continue
        product = graph.producer(site.value)
        assert product is not None
        other = next(v for v in product.operands if graph.producer(v) is not site.producer)
        gate, reason = _gate(graph, other, site.width)
        if gate is None:
            notes.append(Note(site.name, False, reason))
            continue
        found.append(GatedMlp(site, gate, site.producer))
    return found, notes


ELEMENTWISE = frozenset({"silu", "gelu", "relu", "sigmoid", "tanh", "mul"})


def _gate(graph: Graph, value: Value, width: int) -> tuple[Node | None, str]:
    """The linear node behind a gate's elementwise ops, each of which only the product reads."""
    while True:
        node = graph.producer(value)
        if node is None:
            return None, "the gate is an input of the graph"
        readers = {id(n) for n, _ in graph.uses(value)}
        if len(readers) > 1 and node.op != "linear":
            return None, f"{node.where()} has another reader"
        if node.op == "linear":
            constant_weight = all(v.is_const for v in node.operands[1:])
            users = [n for n, _ in graph.uses(value)]
            inside = all(n.op in ELEMENTWISE for n in users) and not graph.is_output(value)
            if constant_weight and inside and node.output.shape[-1] == width:
                return node, ""
            return None, f"{node.where()} feeds more than the gate"
        if node.op not in ELEMENTWISE or len({id(v) for v in node.operands}) != 1:
            return None, f"{node.where()} is no gate of one linear layer"
        value = node.operands[0]


def split_gated(graph: Graph, counts: dict[GatedMlp, np.ndarray], pass_name: str) -> Graph:
    """The graph with channel j of each gated MLP in counts[j] copies; float64. All ones leave it unchanged."""
    active = {m: c for m, c in counts.items() if (c != 1).any()}
    rows = {m.gate: (c, False) for m, c in active.items()} | {m.up: (c, True) for m, c in active.items()}
    columns = {n: c for m, c in active.items() for n in m.site.readers}

    def visit(new: Rewriter, node: Node) -> Value | None:
        if node not in rows and node not in columns:
            return None
        weight, bias = node.operands[1].data, None if node.inputs[2] is None else node.inputs[2].data
        assert weight is not None
        if node in columns:
            weight = np.repeat(weight, columns[node], 1)
        if node in rows:
            count, divided = rows[node]
            share = np.repeat(1 / count if divided else np.ones(len(count)), count)
            weight = np.repeat(weight.astype(np.float64), count, 0) * share[:, None]
            bias = None if bias is None else np.repeat(bias.astype(np.float64), count) * share
        operands = [constant(weight.astype(node.output.dtype.numpy), name=node.operands[1].name)]
        if bias is not None:
            operands.append(constant(bias.astype(node.output.dtype.numpy), name="bias"))
        return new.op("linear", new[node.operands[0]], *operands, name=node.output.name)

    return rewrite(graph, visit, pass_name) if active else graph
