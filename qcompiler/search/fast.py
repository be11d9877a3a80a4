"""The fast way from a configuration to its accuracy: fake quantization of one captured and calibrated graph."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from qcompiler.calibration.signature import to_numpy
from qcompiler.search.branch import Branch, fitted_key
from qcompiler.search.evaluator import Evaluator
from qcompiler.search.losses import Accuracy, measure
from qcompiler.search.recipes import to_recipe

if TYPE_CHECKING:
    from qcompiler.calibration import Samples
    from qcompiler.ir import Graph
    from qcompiler.named_metrics import Outputs, Pair
    from qcompiler.passes.quantize.plan import QuantPlan
    from qcompiler.recipe import Recipe
    from qcompiler.search.space import Config, Space
    from qcompiler.search.workload import Workload


PROBED = 8
"""Samples of the split `probe`: enough to rank configurations, which are compared on the same ones."""


class FastEvaluator(Evaluator):
    """Accuracy of configurations by fake quantization; float outputs, statistics and codes are shared by all.

    Args:
        workload: what is searched.
        space: gives configurations their meaning.
    """

    def __init__(self, workload: Workload, space: Space) -> None:
        self.workload, self.space = workload, space
        self._branches: dict[Any, Branch] = {}
        self._executors: dict[int, Any] = {}
        self._judges: dict[str, Judge] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_executors": {}}  # by identity of the graphs, and made of closures

    def accuracy(self, config: Config, split: str = "judged") -> Accuracy:
        """Figures of a configuration on `judged`, `report` or `probe` samples."""
        return self.of_recipe(to_recipe(self.space, config, self.workload.recipe), split)

    def of_recipe(self, recipe: Recipe, split: str = "judged") -> Accuracy:
        """The same for a recipe."""
        branch = self.branch(recipe)
        return self.of_plan(branch.plan(recipe), split)

    def of_plan(self, plan: QuantPlan, split: str = "judged") -> Accuracy:
        """The same for a plan over one of the branches' graphs."""
        executor = self.executor(plan.graph)
        return self.judge(split).accuracy(lambda arrays: executor.run(arrays, plan=plan), self.workload.metric)

    def branch(self, recipe: Recipe) -> Branch:
        """The transformed graph for a recipe; recipes that transform alike share it."""
        key = self._branch_key(recipe)
        if key not in self._branches:
            self._branches[key] = Branch(self.workload, recipe)
        return self._branches[key]

    @staticmethod
    def _branch_key(recipe: Recipe) -> Hashable:
        return recipe.equalize, recipe.smooth, str(recipe.passes)

    def reuses(self, config: Config) -> Hashable:
        """What a trial has in common with others of equal value: transformed graph, statistics, fitted codes, made once by each process."""
        recipe = to_recipe(self.space, config, self.workload.recipe)
        count = min(recipe.calibration.max_samples, len(self.workload.calibration))
        return self._branch_key(recipe), count, fitted_key(recipe, self.workload.recipe)

    def made(self) -> frozenset[Hashable]:
        """Values of `reuses` that are made already."""
        found: set[Hashable] = set()
        for key, branch in self._branches.items():
            found |= {(key, count, None) for count in branch.swept}
            found |= {(key, count, fitted) for fitted, count in branch.fitted}
        return frozenset(found)

    def executor(self, graph: Graph) -> Any:
        """The torch executor of a graph, made once."""
        from qcompiler.executors.torch_executor import TorchExecutor

        if id(graph) not in self._executors:
            self._executors[id(graph)] = TorchExecutor(graph)  # the branches keep their graphs alive
        return self._executors[id(graph)]

    def judge(self, split: str) -> Judge:
        """Samples of a split with their float outputs; `probe` are the first few judged ones."""
        if split not in self._judges:
            judged = self.workload.judged
            few = judged.select(range(min(PROBED, len(judged)))) if split == "probe" else None
            self._judges[split] = Judge(self.workload.graph, few or getattr(self.workload, split))
        return self._judges[split]

    def trial(self, config: Config) -> dict[str, float]:
        """Values for the store: loss, drop, every named figure, and the seconds it took."""
        start = time.perf_counter()
        found = self.accuracy(config)
        return {**figures(found, self.workload), "seconds": time.perf_counter() - start}


def figures(found: Accuracy, workload: Workload) -> dict[str, float]:
    """Accuracy as plain numbers by name."""
    one = found.evaluation
    values = {"loss": found.loss, "kl": found.kl, "sqnr_db": one.sqnr_db, "cosine": one.cosine}
    if one.agreement is not None:
        values["agreement"] = one.agreement
    if one.value is not None:
        values["metric"] = one.value
    return {**values, "drop": found.drop(workload.metric)}


class Judge:
    """Samples in batches, with the float model's outputs per sample."""

    def __init__(self, graph: Graph, samples: Samples) -> None:
        from qcompiler.executors.torch_executor import TorchExecutor
        from qcompiler.passes.quantize.sample_batches import batches

        self.graph, self.samples = graph, samples
        executor = TorchExecutor(graph)
        self.chunks: list[list[np.ndarray]] = []
        self.sizes: list[int] = []
        self.pairs: list[Pair] = []
        for chunk in batches(graph, samples):
            arrays = [np.concatenate(a) if len(a) > 1 else np.asarray(a[0]) for a in zip(*chunk, strict=True)]
            self.chunks.append(arrays)
            self.sizes.append(len(chunk))
            for sample, expected in zip(chunk, _apart(executor.run(arrays), len(chunk)), strict=True):
                self.pairs.append(self._pair(sample, expected))

    def _pair(self, sample: Sequence[np.ndarray], expected: Outputs) -> Pair:
        """A sample without the outputs that are judged."""
        from qcompiler.named_metrics import Pair
        from qcompiler.real_tokens import RealTokens

        tokens = RealTokens(self.graph)
        tokens.of_sample(sample)
        inputs = dict(zip(self.samples.names, sample, strict=True))
        return Pair([], expected, tokens.outputs, inputs, tokens.keep)

    def accuracy(self, run: Callable[[Sequence[np.ndarray]], Sequence[Any]], metric: Any) -> Accuracy:
        """Figures of anything that computes outputs for a batch of inputs."""
        got: list[Outputs] = []
        for arrays, size in zip(self.chunks, self.sizes, strict=True):
            got += _apart(run(arrays), size)
        return measure([replace(p, got=g) for p, g in zip(self.pairs, got, strict=True)], metric)

    def accuracy_one_by_one(self, run: Callable[[Sequence[np.ndarray]], Outputs], metric: Any) -> Accuracy:
        """The same for an artefact that takes one sample at a time."""
        return measure([replace(p, got=run(tuple(p.inputs.values()))) for p in self.pairs], metric)


def _apart(outputs: Sequence[Any], count: int) -> list[Outputs]:
    """Outputs of a batch as outputs of its samples."""
    arrays = [to_numpy(t, "an output") for t in outputs]
    if count == 1:
        return [arrays]
    parts = [np.split(a, count) for a in arrays]
    return [list(sample) for sample in zip(*parts, strict=True)]
