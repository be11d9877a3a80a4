"""The exact way from a configuration to its figures: the whole compile, run and measured as the artefact it is."""

from __future__ import annotations

import platform
import tempfile
import time
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qcompiler.boundary import RealSession, quantize_inputs
from qcompiler.search.backends import backends_for
from qcompiler.search.fast import Judge, figures
from qcompiler.search.recipes import to_recipe
from qcompiler.search.store import Figure

if TYPE_CHECKING:
    from qcompiler.ir import Graph
    from qcompiler.recipe import Recipe
    from qcompiler.search.space import Config, Space
    from qcompiler.search.workload import Workload


class ExactEvaluator:
    """Compiles configurations for the target and judges the artefacts by their own outputs.

    Args:
        workload: what is searched.
        space: gives configurations their meaning.
        figures: that matter beside accuracy and size; what costs long to measure is measured only where it is asked for.
    """

    def __init__(self, workload: Workload, space: Space, figures: Collection[str] = ()) -> None:
        self.workload, self.space = workload, space
        self.backends = backends_for(workload.target, figures)
        self._judge: Judge | None = None

    def trial(self, config: Config) -> dict[str, Figure]:
        """All figures of a configuration.

        Raises:
            QCError: the configuration does not compile, or its artefact fails verification.
        """
        return self.of_recipe(to_recipe(self.space, config, self.workload.recipe))

    def of_recipe(self, recipe: Recipe) -> dict[str, Figure]:
        """The same for a recipe."""
        start = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="qcompiler-trial-") as name:
            folder = Path(name)
            graph, emission = self._compile(recipe, folder)
            work = self.workload
            samples = [quantize_inputs(graph, work.judged[i]) for i in range(min(2, len(work.judged)))]
            work.target.verify(graph, folder, samples, work.threads).check()
            found = {
                key: Figure(value, "measured") for key, value in self._accuracy(graph, folder).items()
            }
            for backend in self.backends:
                found |= backend.measure(work, graph, folder, emission)
        found["seconds"] = Figure(time.perf_counter() - start, "measured", platform.node())
        return found

    def _compile(self, recipe: Recipe, folder: Path) -> tuple[Graph, Any]:
        """The quantized program and what was emitted into the folder."""
        from qcompiler.compilation import build_passes, split_passes
        from qcompiler.coverage import check_kernels, check_left_in_float
        from qcompiler.ir import Level
        from qcompiler.passes.base import Context, run_passes

        work = self.workload
        count = min(recipe.calibration.max_samples, len(work.calibration))
        context = Context(target=work.target, samples=work.calibration.select(range(count)), seed=work.seed)
        passes = split_passes(build_passes(recipe, work.target))[1]
        graph, _ = run_passes(work.graph, passes, context)
        if graph.level is not Level.INTEGER:
            check_left_in_float(recipe, work.target, context)
        emission = work.target.emit(graph, folder)
        check_kernels(work.target, emission, allow_slow=not recipe.never_slower)
        return graph, emission

    def _accuracy(self, graph: Graph, folder: Path) -> dict[str, float]:
        work = self.workload
        if self._judge is None:
            self._judge = Judge(work.graph, work.judged)
        session = RealSession(work.target.open_to_evaluate(graph, folder, work.threads), graph)
        return figures(self._judge.accuracy_one_by_one(session.run, work.metric), work)
