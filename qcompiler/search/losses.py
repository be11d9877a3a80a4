"""What a trial costs in accuracy: the named figures of an evaluation, and a fine-grained loss that can rank.

Agreement moves in steps of one sample; a search needs something that tells two configurations of equal agreement
apart. The loss is the noise-to-signal ratio of the outputs (its mean over samples is 10^(-SQNR / 10)).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from qcompiler.evaluation import Evaluation, Metric, evaluate
from qcompiler.named_metrics import Pair


@dataclass(frozen=True)
class Accuracy:
    """Figures of one configuration on one set of samples.

    Attributes:
        evaluation: SQNR, cosine, agreement, and the metric asked for.
        noise: per sample, energy of the error over the mean energy of the float outputs.
        kl: mean divergence KL(float || quantized) of the softmax of the first output, nats; over rows.
    """

    evaluation: Evaluation
    noise: np.ndarray = field(repr=False)
    kl: float

    @property
    def loss(self) -> float:
        """Mean noise-to-signal ratio; 0 where the outputs are equal."""
        return float(self.noise.mean())

    def drop(self, metric: str | Metric | None) -> float:
        """How much is lost against float in the unit of the metric; of SQNR, which is infinite there, minus the dB."""
        if metric is None or metric == "sqnr":
            return -self.evaluation.sqnr_db
        found = self.evaluation.asked[0]
        return found.float_value - found.value if found.higher_is_better else found.value - found.float_value


def measure(pairs: Sequence[Pair], metric: str | Metric | None) -> Accuracy:
    """Figures over the configuration's and the float model's outputs of every sample."""
    errors, powers, divergence, rows = [], [], 0.0, 0
    for pair in pairs:
        kept, wanted = pair.select(pair.got), pair.select(pair.expected)
        error = power = 0.0
        for x, y in zip(kept, wanted, strict=True):
            if y.dtype.kind == "f":
                error += float(np.square(np.subtract(x, y, dtype=np.float64)).sum())
                power += float(np.square(y, dtype=np.float64).sum())
        errors.append(error)
        powers.append(power)
        if wanted[0].ndim and wanted[0].dtype.kind == "f":
            each = _divergence(wanted[0], kept[0])
            divergence, rows = divergence + float(each.sum()), rows + each.size
    mean = float(np.mean(powers))
    noise = np.asarray(errors) / mean if mean > 0 else np.zeros(len(errors))
    return Accuracy(evaluate(pairs, metric), noise, divergence / max(rows, 1))


def _divergence(expected: np.ndarray, got: np.ndarray) -> np.ndarray:
    p, q = _log_softmax(expected), _log_softmax(got)
    return (np.exp(p) * (p - q)).sum(-1)


def _log_softmax(x: np.ndarray) -> np.ndarray:
    shifted = x.astype(np.float64) - x.max(-1, keepdims=True, initial=-np.inf)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def paired_error(first: np.ndarray, second: np.ndarray) -> float:
    """Standard error of the mean difference of two per-sample losses on the same samples."""
    difference = np.asarray(first) - np.asarray(second)
    return float(difference.std(ddof=1) / np.sqrt(difference.size)) if difference.size > 1 else 0.0
