"""Write attention as two products and a softmax where the recipe has the products computed in integers.

    attention(q, k, v) = matmul(softmax(s matmul(q, k^T)), v)

EXACT. A rule that names `matmul` in its `ops` and covers the attention's module asks for it. Masked and grouped
attention stays whole and real, and says so.
"""

from __future__ import annotations

import math

from qcompiler.ir import Graph, Node, Rewriter, Value, constant, rewrite
from qcompiler.ir.dims import same_shape
from qcompiler.passes.base import Context, Kind, Note, Pass, PassConfig, Result
from qcompiler.recipe import Recipe


class SplitAttentionConfig(PassConfig):
    """recipe: settings per layer."""

    recipe: Recipe = Recipe()


class SplitAttention(Pass):
    """See the module docstring."""

    name = "split_attention"
    kind = Kind.EXACT

    def __init__(self, config: SplitAttentionConfig | None = None) -> None:
        self.config = config or SplitAttentionConfig()

    def run(self, graph: Graph, context: Context) -> Result:
        wanted = [n for n in graph.nodes if n.op == "attention" and self._asked(n, context)]
        refused = {n: reason for n in wanted if (reason := _why_not(n))}
        chosen = {n for n in wanted if n not in refused}

        def visit(new: Rewriter, node: Node) -> Value | None:
            return _split(new, node) if node in chosen else None

        result = rewrite(graph, visit, self.name) if chosen else graph
        notes = [Note(n.where(), n in chosen, refused.get(n, "")) for n in wanted]
        return Result(result, bool(chosen), tuple(notes))

    def _asked(self, node: Node, context: Context) -> bool:
        module, recipe = node.origin.module, self.config.recipe
        named = any(r.ops and "matmul" in r.ops and r.applies_to(module, "matmul") for r in recipe.rules)
        static = recipe.settings_for(module, "matmul").scheme == "static"
        return named and static and (context.target is None or "matmul" in context.target.kernels)


def _why_not(node: Node) -> str:
    q, k, v, mask = node.inputs
    assert q is not None and k is not None and v is not None
    if mask is not None or node.attrs["causal"]:
        return "masked attention stays whole: the limits of a mask do not fit a narrow scale"
    if not same_shape(q.shape[:-2], k.shape[:-2]) or not same_shape(k.shape[:-1], v.shape[:-1]):
        return "query heads share keys or values"
    if not isinstance(q.shape[-1], int):
        return "the width of a head is not fixed"
    return ""


def _split(new: Rewriter, node: Node) -> Value:
    q, k, v = (new[value] for value in node.operands[:3])
    rank = len(k.shape)
    swapped = (*range(rank - 2), rank - 1, rank - 2)
    scale = node.attrs["scale"]
    factor = 1 / math.sqrt(int(q.shape[-1])) if scale is None else scale
    scores = new.op("matmul", q, new.op("transpose", k, perm=swapped), name="scores")
    scaled = new.op("mul", scores, constant(q.dtype.numpy.type(factor), name="scale"))
    weights = new.op("softmax", scaled, axis=-1, name="weights")
    return new.op("matmul", weights, v, name=node.output.name)
