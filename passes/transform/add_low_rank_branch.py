"""Take a low-rank part out of each weight and keep it in float: W x = (W - U V) x + U (V x).

    error     U V is the truncated SVD of what rounding would do to W, W - Q(W)       LoRC (Yao et al. 2023, section 4)
    weight    U V is the truncated SVD of W, what remains has a smaller range         SVDQuant (Li et al. 2024, section 4)

Two thin products on real numbers per layer, where the target keeps real islands. EXACT, for W = (W - U V) + U V; the
rounding of W - U V comes later. Off unless a recipe asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from pydantic import Field

from qcompiler.errors import UnsupportedError
from qcompiler.ir import Graph, Node, Rewriter, Value, constant, rewrite
from qcompiler.passes.base import Context, Kind, Note, Pass, PassConfig, Result
from qcompiler.recipe import Recipe

from .site_rounding import SCHEMES, site_rounding

BRANCH = "low_rank"
"""Last part of the module path of the branch; these layers stay in float."""


class LowRankConfig(PassConfig):
    """rank: of the branch, at most half of the smaller side. of: what is decomposed, see the module docstring."""

    rank: int = Field(8, ge=1, json_schema_extra={"search": [4, 8, 16, 32]})
    of: Literal["error", "weight"] = Field("error", json_schema_extra={"search": ["error", "weight"]})


class AddLowRankBranch(Pass):
    """See the module docstring."""

    name = "add_low_rank_branch"
    kind = Kind.EXACT
    must_follow = ("smooth_activations", "rotate_residual")

    def __init__(self, config: LowRankConfig | None = None, recipe: Recipe | None = None) -> None:
        self.config = config or LowRankConfig()
        self.recipe = recipe or Recipe()

    def run(self, graph: Graph, context: Context) -> Result:
        """Split the weight of every linear layer that will be rounded.

        Raises:
            UnsupportedError: the target keeps nothing in float.
        """
        if context.target is not None and not context.target.can("float_islands"):
            raise UnsupportedError(
                f"passes.add_low_rank_branch: target {context.target.name} keeps no branch in float; remove the step"
            )
        chosen: dict[Node, tuple[np.ndarray, np.ndarray]] = {}
        notes = []
        for node in graph.nodes:
            if node.op != "linear":
                continue
            reason = self._why_not(graph, node)
            settings = self.recipe.settings_for(node.origin.module, node.op)
            open_scheme = context.tables.get(SCHEMES, {}).get(node.origin.module, "static")
            scheme = open_scheme if settings.scheme == "auto" else ""
            rounding = site_rounding(settings, self.recipe, context.target, scheme)
            if rounding is None or reason:
                notes.append(Note(node.where(), False, reason or "it stays in float"))
                continue
            weight = _data(node.operands[1])
            part = weight
            if self.config.of == "error":
                rounded = rounding.weights(torch.from_numpy(weight.astype(np.float32))).numpy()
                part = weight - rounded
            u, v = truncated_svd(part, self.config.rank)
            chosen[node] = u, v
            share = 1 - float(np.square(part - u @ v).sum() / max(np.square(part).sum(), 1e-30))
            notes.append(Note(node.where(), True, self.config.of, {"rank": self.config.rank, "share": round(share, 4)}))
        result = split_weights(graph, chosen, self.name)
        kept = context.tables.setdefault(SCHEMES, {})
        kept.update({f"{n.origin.module}.{BRANCH}": "float" for n in chosen})
        return Result(result, result is not graph, tuple(notes))

    def _why_not(self, graph: Graph, node: Node) -> str:
        weight = node.operands[1]
        if not weight.is_const:
            return "its weight is computed"
        if any(n is not node for n, _ in graph.uses(weight)):
            return "its weight has another reader"
        if 2 * self.config.rank > min(weight.shape):
            return f"rank {self.config.rank} is more than half of {min(weight.shape)}"
        return ""


def truncated_svd(matrix: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """U sqrt(S) [N, r] and sqrt(S) V^T [r, K] of the largest singular values, float64."""
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    root = np.sqrt(s[:rank])
    return u[:, :rank] * root, root[:, None] * vt[:rank]


def split_weights(graph: Graph, parts: Mapping[Node, tuple[np.ndarray, np.ndarray]], pass_name: str) -> Graph:
    """W -> (W - U V) and a branch U (V x) beside it, whose module path ends in `low_rank`."""

    def visit(new: Rewriter, node: Node) -> Value | None:
        if node not in parts:
            return None
        u, v = parts[node]
        x, weight = new[node.operands[0]], node.operands[1]
        kind = weight.dtype.numpy
        # What the narrow factors stand for is taken off, so that both add up to W.
        u, v = u.astype(kind), v.astype(kind)
        rest = _data(weight) - u.astype(np.float64) @ v.astype(np.float64)
        main = new.op("linear", x, constant(rest.astype(kind), name=weight.name), new.get(node.inputs[2]), name=node.output.name)
        origin = replace(node.origin, module=f"{node.origin.module}.{BRANCH}")
        thin = new.op("linear", x, constant(v, name="low_rank_v"), origin=origin, name="low_rank")
        branch = new.op("linear", thin, constant(u, name="low_rank_u"), origin=origin, name="low_rank")
        return new.op("add", main, branch, name=node.output.name)

    return rewrite(graph, visit, pass_name) if parts else graph


def _data(value: Value) -> np.ndarray:
    assert value.data is not None
    return value.data.astype(np.float64)
