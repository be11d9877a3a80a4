"""How close an artefact's outputs are to the float model's, by named metrics or one of the user's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from inspect import Parameter, signature
from typing import Any

import numpy as np

from qcompiler import metrics
from qcompiler.errors import UsageError, did_you_mean

Outputs = list[np.ndarray]
"""The outputs of one sample, one array per model output."""
Metric = Callable[..., float]
Pair = tuple[Outputs, Outputs, Callable[[Outputs], Outputs]]
"""The artefact's and the float model's outputs of a sample, and what selects the part to compare."""


@dataclass(frozen=True)
class Evaluation:
    """Figures over all samples: the named ones always, `value` for the metric that was asked for.

    Attributes:
        samples: number of samples.
        sqnr_db: 10 log10(signal / noise) in energy over all float outputs; inf where they are equal.
        cosine: mean over samples of the cosine between the outputs, flattened.
        agreement: share of equal arg-max along the last axis of the first output; None without such an axis.
        metric: name of the metric asked for, "" if none.
        value: its value for the artefact.
        float_value: its value for the float model.
    """

    samples: int
    sqnr_db: float
    cosine: float
    agreement: float | None
    metric: str = ""
    value: float | None = None
    float_value: float | None = None


def evaluate(pairs: Iterable[Pair], metric: str | Metric | None = None) -> Evaluation:
    """Compare the artefact's outputs with the float model's, sample by sample; padding is left out.

    A callable metric takes the outputs of all samples, `metric(outputs)`, or `metric(outputs, float_outputs)`;
    it is called for the artefact and for the float model, with whole outputs. Only it keeps them in memory.

    Raises:
        UsageError: unknown metric; a metric that raises or gives no number; no sample.
    """
    check_metric(metric)
    totals = _Totals()
    kept: tuple[list[Outputs], list[Outputs]] = ([], [])
    for got, expected, select in pairs:
        totals.add(select(got), select(expected))
        if callable(metric):
            kept[0].append(got)
            kept[1].append(expected)
    if not totals.samples:
        raise UsageError("there is no sample to evaluate on")
    figures = {"sqnr": totals.sqnr, "cosine": totals.cosine, "agreement": totals.agreement}
    ideal = {"sqnr": float("inf"), "cosine": 1.0, "agreement": 1.0}
    name, value, float_value = "", None, None
    if callable(metric):
        name = getattr(metric, "__name__", type(metric).__name__)
        value, float_value = _call(metric, kept[0], kept[1]), _call(metric, kept[1], kept[1])
    elif metric is not None:
        name, value, float_value = metric, figures[metric], ideal[metric]
        if value is None:
            raise UsageError(
                "metric agreement needs an output with more than one element along its last axis"
            )
    return Evaluation(totals.samples, totals.sqnr, totals.cosine, totals.agreement, name, value, float_value)


def check_metric(metric: str | Metric | None) -> None:
    """Raise UsageError for a metric that is neither known nor callable."""
    if metric is None or callable(metric):
        return
    if metric not in METRICS:
        known = ", ".join(METRICS)
        raise UsageError(
            f"unknown metric {metric!r}: use {known} or a function.{did_you_mean(metric, METRICS)}"
        )


METRICS = ("sqnr", "agreement", "cosine")


class _Totals:
    def __init__(self) -> None:
        self.samples = 0
        self._signal = self._noise = self._cosines = self._equal = 0.0
        self._rows = 0

    def add(self, got: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> None:
        self.samples += 1
        value, reference = _flat(got), _flat(expected)
        error = value - reference
        self._signal += float(np.vdot(reference, reference))
        self._noise += float(np.vdot(error, error))
        self._cosines += metrics.cosine(reference, value)
        first = np.asarray(expected[0])
        if first.ndim and first.shape[-1] > 1 and first.size:
            rows = first.size // first.shape[-1]
            self._equal += rows * metrics.agreement(first, got[0])
            self._rows += rows

    @property
    def sqnr(self) -> float:
        return metrics.energy_ratio_db(self._signal, self._noise)

    @property
    def cosine(self) -> float:
        return self._cosines / self.samples

    @property
    def agreement(self) -> float | None:
        return self._equal / self._rows if self._rows else None


def _flat(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """All float outputs of a sample as one vector; all outputs where none is float."""
    found = [np.asarray(a) for a in arrays]
    chosen = [a for a in found if a.dtype.kind == "f"] or found
    return np.concatenate([a.astype(np.float64).ravel() for a in chosen])


def _call(metric: Metric, outputs: list[Outputs], references: list[Outputs]) -> float:
    try:
        result: Any = metric(outputs, references) if _takes_two(metric) else metric(outputs)
        return float(result)
    except Exception as error:
        name = getattr(metric, "__name__", type(metric).__name__)
        raise UsageError(f"metric {name} raised {type(error).__name__}: {error}") from error


def _takes_two(metric: Metric) -> bool:
    try:
        parameters = list(signature(metric).parameters.values())
    except (TypeError, ValueError):
        return True
    positional = [
        p for p in parameters if p.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    ]
    return len(positional) >= 2 or any(p.kind is Parameter.VAR_POSITIONAL for p in parameters)
