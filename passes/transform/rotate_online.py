"""Rotate activations at run time, where the target says that it can: before the down projection, and queries and keys.

    X -> X H, W_down -> W_down H          (QuaRot's R4; what stands before is a product, nothing can be folded into it)
    Q -> Q H, K -> K H after RoPE         (R3; scores are unchanged, keys lose their outlier channels)

H is a Hadamard matrix of the width (of blocks, where the width has none), a matrix product on real numbers in the graph;
a target with the capability `online_hadamard` computes it in n log n additions. EXACT: folded in float64. Off unless a
recipe asks for it (Ashkboos et al. 2024, section 4, stages 1c and 1d).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from qcompiler.errors import UnsupportedError
from qcompiler.ir import Graph, Node, Rewriter, Value, constant, rewrite
from qcompiler.passes.base import Context, Kind, Note, Pass, PassConfig, Result

from .groups import UP, Site, find_sites
from .orthogonal import rotation

CAPABILITY = "online_hadamard"


class RotateOnlineConfig(PassConfig):
    """down: before down projections. scores: queries and keys of attention with rotary embedding."""

    down: bool = True
    scores: bool = False


class RotateOnline(Pass):
    """See the module docstring."""

    name = "rotate_online"
    kind = Kind.EXACT
    must_follow = ("smooth_activations",)

    def __init__(self, config: RotateOnlineConfig | None = None) -> None:
        self.config = config or RotateOnlineConfig()

    def run(self, graph: Graph, context: Context) -> Result:
        """Rotate.

        Raises:
            UnsupportedError: the target has no fast rotation: it would cost a matrix product per layer.
        """
        if context.target is None or not context.target.can(CAPABILITY):
            name = "this target" if context.target is None else f"target {context.target.name}"
            raise UnsupportedError(
                f"passes.rotate_online: {name} lacks the capability {CAPABILITY}; remove the step from the recipe"
            )
        rng, notes = context.rng(self.name), []
        down: dict[Site, np.ndarray] = {}
        for site in find_sites(graph)[0] if self.config.down else ():
            if site.fold == UP:
                found = rotation(site.width, "hadamard", rng)
                down[site] = found.matrix
                notes.append(Note(site.name, True, found.note, {"width": site.width}))
        scores: dict[Node, np.ndarray] = {}
        for node in graph.nodes if self.config.scores else ():
            if node.op == "attention":
                width = node.operands[0].shape[-1]
                if not isinstance(width, int):
                    notes.append(Note(node.where(), False, "the width of its heads is not known"))
                    continue
                found = rotation(width, "hadamard", rng)
                scores[node] = found.matrix
                notes.append(Note(node.where(), True, found.note, {"width": width}))
        result = rotate_at_run_time(graph, down, scores, self.name)
        return Result(result, result is not graph, tuple(notes))


def rotate_at_run_time(
    graph: Graph, down: Mapping[Site, np.ndarray], scores: Mapping[Node, np.ndarray], pass_name: str
) -> Graph:
    """The graph with x H before the readers of each site, and q H, k H before each attention."""
    readers = {n: (s, h) for s, h in down.items() for n in s.readers}
    turned: dict[Site, Value] = {}

    def visit(new: Rewriter, node: Node) -> Value | None:
        if node in readers:
            site, h = readers[node]
            if site not in turned:
                turned[site] = _rotated(new, new[site.value], h)
            weight = node.operands[1]
            assert weight.data is not None
            wide = constant((weight.data.astype(np.float64) @ h).astype(weight.dtype.numpy), name=weight.name)
            return new.op("linear", turned[site], wide, new.get(node.inputs[2]), name=node.output.name)
        if node in scores:
            q, k = (_rotated(new, new[v], scores[node]) for v in node.operands[:2])
            rest = (new.get(v) for v in node.inputs[2:])
            width = node.operands[0].shape[-1]
            attrs = dict(node.attrs)
            attrs["scale"] = attrs["scale"] if attrs["scale"] is not None else float(width) ** -0.5
            return new.op("attention", q, k, *rest, name=node.output.name, **attrs)
        return None

    return rewrite(graph, visit, pass_name) if readers or scores else graph


def _rotated(new: Rewriter, value: Value, h: np.ndarray) -> Value:
    matrix = constant(h.astype(value.dtype.numpy), name="hadamard")
    return new.op("matmul", value, matrix, name="rotated")
