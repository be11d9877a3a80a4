"""Evaluate an artefact on data: through its runtime where that has the kernels, else through the reference."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from qcompiler.boundary import RealSession
from qcompiler.errors import UnsupportedError, UsageError
from qcompiler.evaluation import Evaluation, Metric, check_metric, evaluate
from qcompiler.progress import Stages

if TYPE_CHECKING:
    from qcompiler.api import Compiled
    from qcompiler.ir import Graph
    from qcompiler.targets import Session

logger = logging.getLogger(__name__)

ARTEFACT, REFERENCE = "artefact", "reference interpreter"


class ReferenceSession:
    """The reference interpreter in the form of a loaded artefact."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Outputs for one set of inputs, in the order of the graph."""
        from qcompiler.executors.reference import run_reference

        return run_reference(self.graph, arrays)


def evaluate_artefact(
    compiled: Compiled, data: Any, metric: str | Metric | Sequence[str | Metric] | None, show: bool | None = None
) -> Evaluation:
    """The artefact beside its float model on `data`, in any form that calibration data has, or with labels.

    Args:
        compiled: what to evaluate.
        data: see `calibration.data`; an array `labels` in an .npz or a mapping is what `top1` compares with.
        metric: one or several; see `evaluation.evaluate`.
        show: progress on stderr; by default where that is a terminal.

    Raises:
        UsageError: the float model was not saved; unknown metric; one that does not fit the model or the data.
    """
    from qcompiler.calibration import load_samples
    from qcompiler.calibration.labels import split_labels
    from qcompiler.compilation import output_pairs

    if compiled.float_graph is None:
        raise UsageError("the artefact was saved without its float model: compile again without --no-float-model")
    check_metric(metric)
    rest, labels = split_labels(data, compiled.signature.names)
    samples = load_samples(rest, compiled.signature)
    session, executor = _session(compiled)
    with Stages(("evaluate",), show=show) as stages, stages.stage("evaluate"):
        real = RealSession(session, compiled.graph)
        pairs = output_pairs(real, compiled.float_graph, samples, stages, labels)
        return evaluate(pairs, metric, executor)


def _session(compiled: Compiled) -> tuple[Session, str]:
    """What runs the artefact's side, and its name for the table."""
    try:
        return compiled.session, ARTEFACT
    except UnsupportedError as error:
        logger.warning("evaluated with the reference interpreter: %s", error)
        return ReferenceSession(compiled.graph), REFERENCE
