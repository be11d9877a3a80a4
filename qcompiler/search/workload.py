"""What a search works on: a float graph, a target, a recipe to start from, and disjoint data. Picklable for workers."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from qcompiler.evaluation import Metric
from qcompiler.recipe import Recipe, load_recipe

if TYPE_CHECKING:
    from qcompiler.calibration import Samples
    from qcompiler.ir import Graph
    from qcompiler.targets import Target


@dataclass(frozen=True)
class Workload:
    """One search problem.

    Attributes:
        graph: at level FLOAT, canonicalized.
        target: what is compiled for.
        recipe: what a configuration changes; fixes everything that the space leaves out.
        calibration: for ranges, roundings and whatever else is fitted.
        judged: decides between configurations; disjoint from `calibration`.
        report: figures that are printed at the end; never decides. Disjoint from both, or `judged` itself where
            there was too little data.
        metric: of the user; None for SQNR.
        seed, threads: as in a compile.
    """

    graph: Graph
    target: Target
    recipe: Recipe
    calibration: Samples
    judged: Samples
    report: Samples
    metric: str | Metric | None = None
    seed: int = 0
    threads: int = 1

    def pack(self) -> bytes:
        """For another process; `unpack` gives an equal workload. A metric that is a function must be picklable."""
        from qcompiler.ir import print_graph
        from qcompiler.targets import known_targets

        registered = self.target.name.partition(":")[0] in known_targets()
        text, arrays = print_graph(self.graph)
        return pickle.dumps(
            {
                "graph": (text, arrays),
                "target": self.target.name if registered else self.target,
                "recipe": self.recipe.to_dict(),
                "data": [[tuple(np.asarray(a) for a in s) for s in part] for part in self._parts()],
                "rest": (self.metric, self.seed, self.threads),
            }
        )

    @staticmethod
    def unpack(packed: bytes) -> Workload:
        """The inverse of `pack`. Only for bytes that this program made: pickles execute code."""
        from qcompiler.calibration import load_samples
        from qcompiler.ir import parse_graph
        from qcompiler.targets import get_target

        state: dict[str, Any] = pickle.loads(packed)
        graph = parse_graph(*state["graph"])
        target = get_target(state["target"]) if isinstance(state["target"], str) else state["target"]
        parts = [load_samples(part, graph) for part in state["data"]]
        return Workload(graph, target, load_recipe(state["recipe"]), *parts, *state["rest"])

    def _parts(self) -> tuple[Samples, Samples, Samples]:
        return self.calibration, self.judged, self.report
