"""The metrics that have a name: what each takes from a sample, and what it makes of all of them.

Sums are kept, not outputs (embedding metrics keep one vector per row), so data of any length can be evaluated.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from qcompiler import metrics
from qcompiler.errors import UsageError

Outputs = list[np.ndarray]
"""The outputs of one sample, one array per model output."""


@dataclass(frozen=True)
class Pair:
    """One sample: what the artefact and the float model gave.

    Attributes:
        got, expected: the artefact's and the float model's outputs.
        select: the part to compare, padding left out.
        inputs: by name; perplexity reads the tokens there.
        keep: bool [batch, tokens], True for tokens that are no padding; None where all count.
        labels: one class per row of the first output; None without labels.
    """

    got: Outputs
    expected: Outputs
    select: Callable[[Outputs], Outputs] = list
    inputs: Mapping[str, np.ndarray] = field(default_factory=dict)
    keep: np.ndarray | None = None
    labels: np.ndarray | None = None


class NamedMetric(ABC):
    """Sums of one metric. `result` gives (value of the artefact, value of the float model)."""

    higher_is_better: ClassVar[bool] = True

    @abstractmethod
    def add(self, pair: Pair) -> None:
        """Take one sample in. Raises UsageError where the metric does not fit the model."""

    @abstractmethod
    def result(self) -> tuple[float, float]:
        """After at least one sample."""


class Sqnr(NamedMetric):
    """10 log10(signal / noise) in energy over all float outputs."""

    def __init__(self) -> None:
        self._signal = self._noise = 0.0

    def add(self, pair: Pair) -> None:
        value, reference = _flat(pair.select(pair.got)), _flat(pair.select(pair.expected))
        error = value - reference
        self._signal += float(np.vdot(reference, reference))
        self._noise += float(np.vdot(error, error))

    def result(self) -> tuple[float, float]:
        return metrics.energy_ratio_db(self._signal, self._noise), float("inf")


class Cosine(NamedMetric):
    """Mean over samples of the cosine between the outputs, flattened."""

    def __init__(self) -> None:
        self._sum, self._samples = 0.0, 0

    def add(self, pair: Pair) -> None:
        self._sum += metrics.cosine(_flat(pair.select(pair.expected)), _flat(pair.select(pair.got)))
        self._samples += 1

    def result(self) -> tuple[float, float]:
        return self._sum / self._samples, 1.0


class Agreement(NamedMetric):
    """Share of rows of the first output with the float model's arg-max."""

    def __init__(self) -> None:
        self._equal, self._rows = 0.0, 0

    def add(self, pair: Pair) -> None:
        first = np.asarray(pair.select(pair.expected)[0])
        if first.ndim == 0 or first.shape[-1] < 2:
            raise UsageError("metric agreement needs an output with more than one element along its last axis")
        if first.size:
            rows = first.size // first.shape[-1]
            self._equal += rows * metrics.agreement(first, pair.select(pair.got)[0])
            self._rows += rows

    def result(self) -> tuple[float, float]:
        return self._equal / max(1, self._rows), 1.0


class Top1(NamedMetric):
    """Share of rows of the first output whose arg-max is the label."""

    def __init__(self) -> None:
        self._right, self._float_right, self._rows = 0, 0, 0

    def add(self, pair: Pair) -> None:
        if pair.labels is None:
            raise UsageError(
                "metric top1 needs labels: add an array `labels`, one class per sample, to the evaluation data"
            )
        found, expected = pair.got[0], pair.expected[0]
        if found.ndim == 0 or found.shape[-1] < 2:
            raise UsageError("metric top1 needs an output with more than one element along its last axis")
        rows, classes = expected.size // expected.shape[-1], expected.shape[-1]
        if pair.labels.shape != (rows,):
            raise UsageError(f"metric top1: a sample has {rows} rows and {pair.labels.size} labels")
        if pair.labels.size and not 0 <= pair.labels.min() <= pair.labels.max() < classes:
            raise UsageError(f"metric top1: labels lie in 0..{classes - 1}, got {pair.labels.min()}..{pair.labels.max()}")
        self._right += int((found.argmax(-1).ravel() == pair.labels).sum())
        self._float_right += int((expected.argmax(-1).ravel() == pair.labels).sum())
        self._rows += rows

    def result(self) -> tuple[float, float]:
        return self._right / max(1, self._rows), self._float_right / max(1, self._rows)


class Perplexity(NamedMetric):
    """exp of the mean cross-entropy of each token given those before it, over all tokens but the first of a row."""

    higher_is_better = False

    def __init__(self) -> None:
        self._loss, self._float_loss, self._tokens = 0.0, 0.0, 0

    def add(self, pair: Pair) -> None:
        tokens = _tokens(pair)
        counted = np.ones(tokens[:, 1:].shape, bool)
        if pair.keep is not None:
            counted = pair.keep[:, 1:] & pair.keep[:, :-1]
        for outputs, sum_ in ((pair.got, "_loss"), (pair.expected, "_float_loss")):
            losses = metrics.token_losses(outputs[0][:, :-1], tokens[:, 1:])
            setattr(self, sum_, getattr(self, sum_) + float(losses[counted].sum()))
        self._tokens += int(counted.sum())

    def result(self) -> tuple[float, float]:
        if not self._tokens:
            raise UsageError("metric perplexity needs rows of at least two tokens")
        return float(np.exp(self._loss / self._tokens)), float(np.exp(self._float_loss / self._tokens))


class KullbackLeibler(NamedMetric):
    """Mean over rows of KL(float || artefact) of the softmax of the first output, in nats."""

    higher_is_better = False

    def __init__(self) -> None:
        self._sum, self._rows = 0.0, 0

    def add(self, pair: Pair) -> None:
        expected, got = pair.select(pair.expected)[0], pair.select(pair.got)[0]
        if expected.ndim == 0 or expected.shape[-1] < 2:
            raise UsageError("metric kl needs logits: an output with more than one element along its last axis")
        divergences = metrics.kl_divergences(expected, got)
        self._sum += float(divergences.sum())
        self._rows += divergences.size

    def result(self) -> tuple[float, float]:
        return self._sum / max(1, self._rows), 0.0


class _Embeddings(NamedMetric):
    """Keeps one unit vector per row of the batch: the first output [batch, width], or its mean over real tokens."""

    def __init__(self) -> None:
        self._got: list[np.ndarray] = []
        self._expected: list[np.ndarray] = []

    def add(self, pair: Pair) -> None:
        for outputs, kept in ((pair.got, self._got), (pair.expected, self._expected)):
            kept.extend(embeddings(outputs[0], pair.keep))


class EmbeddingCosine(_Embeddings):
    """Mean cosine between the artefact's and the float model's embedding of each row."""

    def result(self) -> tuple[float, float]:
        return float(np.mean([metrics.cosine(x, y) for x, y in zip(self._expected, self._got, strict=True)])), 1.0


class SimilarityRank(_Embeddings):
    """Spearman's rank correlation between the similarities of all pairs of rows, artefact beside float model."""

    def result(self) -> tuple[float, float]:
        if len(self._got) < 3:
            raise UsageError(f"metric spearman compares pairs of rows and needs at least 3, got {len(self._got)}")
        x, y = np.stack(self._expected), np.stack(self._got)
        pairs = np.triu_indices(len(x), 1)
        return metrics.spearman((x @ x.T)[pairs], (y @ y.T)[pairs]), 1.0


NAMED: Mapping[str, type[NamedMetric]] = {
    "sqnr": Sqnr,
    "agreement": Agreement,
    "cosine": Cosine,
    "top1": Top1,
    "perplexity": Perplexity,
    "kl": KullbackLeibler,
    "embedding_cosine": EmbeddingCosine,
    "spearman": SimilarityRank,
}


def embeddings(output: np.ndarray, keep: np.ndarray | None) -> np.ndarray:
    """Unit vectors [batch, width] of an output [batch, width], or of [batch, tokens, width] meaned over `keep`.

    Raises:
        UsageError: another number of axes.
    """
    x = np.asarray(output, np.float64)
    if x.ndim == 3:
        weight = np.ones(x.shape[:2]) if keep is None else keep.astype(np.float64)
        x = (x * weight[..., None]).sum(1) / np.maximum(weight.sum(1, keepdims=True), 1)
    elif x.ndim != 2:
        raise UsageError(
            f"embeddings are an output [batch, width] or [batch, tokens, width]; the first one has {x.ndim} axes"
        )
    length: np.ndarray = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(length == 0, 1, length)


def _tokens(pair: Pair) -> np.ndarray:
    """The token ids [batch, tokens] that the first output's logits [batch, tokens, vocabulary] belong to."""
    logits = pair.expected[0]
    integers = {n: a for n, a in pair.inputs.items() if a.ndim == 2 and a.dtype.kind in "iu"}
    fitting = {n: a for n, a in integers.items() if n != "attention_mask" and a.shape == logits.shape[:-1]}
    name = "input_ids" if "input_ids" in fitting else next(iter(fitting), None)
    if logits.ndim != 3 or name is None:
        shapes = ", ".join(f"{n} {list(a.shape)}" for n, a in pair.inputs.items()) or "none"
        raise UsageError(
            "metric perplexity needs token ids [batch, tokens] and as first output their logits [batch, tokens, "
            f"vocabulary]; inputs are {shapes}, the output is {list(logits.shape)}"
        )
    tokens: np.ndarray = fitting[name]
    if tokens.size and not 0 <= tokens.min() <= tokens.max() < logits.shape[-1]:
        raise UsageError(
            f"metric perplexity: {name} has token {int(tokens.max())}, the first output has {logits.shape[-1]} "
            "numbers per token; are they logits? For an encoder use embedding_cosine or spearman"
        )
    return tokens


def _flat(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """All float outputs of a sample as one vector; all outputs where none is float."""
    found = [np.asarray(a) for a in arrays]
    chosen = [a for a in found if a.dtype.kind == "f"] or found
    return np.concatenate([a.astype(np.float64).ravel() for a in chosen])
