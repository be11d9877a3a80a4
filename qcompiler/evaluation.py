"""How close an artefact's outputs are to the float model's, by named metrics or one of the user's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from inspect import Parameter, signature
from typing import Any

import numpy as np

from qcompiler.errors import UsageError, did_you_mean
from qcompiler.named_metrics import NAMED, NamedMetric, Outputs, Pair

Metric = Callable[..., float]


@dataclass(frozen=True)
class MetricValue:
    """One metric, the artefact beside the float model; `higher_is_better` as far as that is known."""

    name: str
    value: float
    float_value: float
    higher_is_better: bool = True


@dataclass(frozen=True)
class Evaluation:
    """Figures over all samples: the named ones always, `asked` for the metrics that were asked for.

    Attributes:
        samples: number of samples.
        sqnr_db: 10 log10(signal / noise) in energy over all float outputs; inf where they are equal.
        cosine: mean over samples of the cosine between the outputs, flattened.
        agreement: share of equal arg-max along the last axis of the first output; None without such an axis.
        asked: one entry per metric, in the order asked.
        executor: what ran the artefact's side, "" if that is not known.
    """

    samples: int
    sqnr_db: float
    cosine: float
    agreement: float | None
    asked: tuple[MetricValue, ...] = ()
    executor: str = ""

    @property
    def metric(self) -> str:
        """Name of the first metric asked for, "" if none."""
        return self.asked[0].name if self.asked else ""

    @property
    def value(self) -> float | None:
        """Its value for the artefact."""
        return self.asked[0].value if self.asked else None

    @property
    def float_value(self) -> float | None:
        """Its value for the float model."""
        return self.asked[0].float_value if self.asked else None


def evaluate(
    pairs: Iterable[Pair], metric: str | Metric | Sequence[str | Metric] | None = None, executor: str = ""
) -> Evaluation:
    """Compare the artefact's outputs with the float model's, sample by sample; padding is left out.

    A callable metric takes the outputs of all samples, `metric(outputs)`, or `metric(outputs, float_outputs)`;
    it is called for the artefact and for the float model, with whole outputs. Only it keeps them in memory.

    Args:
        pairs: one per sample.
        metric: one or several, names of `NAMED` or callables.
        executor: passed through to the result.

    Raises:
        UsageError: unknown metric; one that does not fit the model, raises or gives no number; no sample.
    """
    check_metric(metric)
    wanted = as_list(metric)
    always: dict[str, NamedMetric] = {name: NAMED[name]() for name in ("sqnr", "cosine", "agreement")}
    sums = {name: always.get(name) or NAMED[name]() for name in wanted if isinstance(name, str)}
    keeps = any(callable(m) for m in wanted)
    kept: tuple[list[Outputs], list[Outputs]] = ([], [])
    samples = 0
    for pair in pairs:
        samples += 1
        if samples == 1 and "agreement" not in sums and not _has_classes(pair):
            del always["agreement"]
        for sum_ in {**always, **sums}.values():
            sum_.add(pair)
        if keeps:
            kept[0].append(pair.got)
            kept[1].append(pair.expected)
    if not samples:
        raise UsageError("there is no sample to evaluate on")
    asked = []
    for one in wanted:
        if isinstance(one, str):
            asked.append(MetricValue(one, *sums[one].result(), sums[one].higher_is_better))
        else:
            asked.append(MetricValue(_name(one), _call(one, kept[0], kept[1]), _call(one, kept[1], kept[1])))
    figures = {name: sum_.result()[0] for name, sum_ in always.items()}
    return Evaluation(
        samples, figures["sqnr"], figures["cosine"], figures.get("agreement"), tuple(asked), executor
    )


def as_list(metric: str | Metric | Sequence[str | Metric] | None) -> list[str | Metric]:
    """One metric, several or none as a list, each once."""
    if metric is None:
        return []
    return [metric] if isinstance(metric, str) or callable(metric) else list(dict.fromkeys(metric))


def check_metric(metric: str | Metric | Sequence[str | Metric] | None) -> None:
    """Raise UsageError for a metric that is neither known nor callable."""
    for one in as_list(metric):
        if not callable(one) and one not in NAMED:
            raise UsageError(
                f"unknown metric {one!r}: use {', '.join(NAMED)} or a function.{did_you_mean(str(one), NAMED)}"
            )


def _has_classes(pair: Pair) -> bool:
    first = np.asarray(pair.expected[0])
    return first.ndim > 0 and first.shape[-1] > 1


def _name(metric: Metric) -> str:
    return getattr(metric, "__name__", type(metric).__name__)


def _call(metric: Metric, outputs: list[Outputs], references: list[Outputs]) -> float:
    try:
        result: Any = metric(outputs, references) if _takes_two(metric) else metric(outputs)
        return float(result)
    except Exception as error:
        raise UsageError(f"metric {_name(metric)} raised {type(error).__name__}: {error}") from error


def _takes_two(metric: Metric) -> bool:
    try:
        parameters = list(signature(metric).parameters.values())
    except (TypeError, ValueError):
        return True
    positional = [
        p for p in parameters if p.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    ]
    return len(positional) >= 2 or any(p.kind is Parameter.VAR_POSITIONAL for p in parameters)
