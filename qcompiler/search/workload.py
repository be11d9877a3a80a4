"""What a search works on: a float graph, a target, a recipe to start from, and disjoint data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qcompiler.evaluation import Metric
from qcompiler.recipe import Recipe

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
