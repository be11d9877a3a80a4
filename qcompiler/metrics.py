"""How close two tensors are: SQNR, cosine, arg-max agreement, rank correlation, losses and divergences of logits.

All sums are taken in float64. `reference` is the float model's value, `value` the quantized one, of the same
shape.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats


def energy_ratio_db(signal: float, noise: float) -> float:
    """`10 log10(signal / noise)` of two sums of squares: +inf without noise, -inf without signal."""
    if noise == 0:
        return math.inf
    if signal == 0 or math.isinf(noise):
        return -math.inf
    return 10 * (math.log10(signal) - math.log10(noise))


def sqnr(reference: ArrayLike, value: ArrayLike) -> float:
    """Signal to quantization noise in dB, `10 log10(sum x^2 / sum (x-y)^2)`; +inf for equal tensors."""
    x, y = _pair(reference, value)
    return energy_ratio_db(float(np.vdot(x, x)), float(np.vdot(x - y, x - y)))


def cosine(reference: ArrayLike, value: ArrayLike) -> float:
    """Cosine of the angle between two tensors, flattened; 1 for two zero tensors, 0 if one is zero."""
    x, y = _pair(reference, value)
    norms = float(np.linalg.norm(x) * np.linalg.norm(y))
    if norms == 0:
        return 1.0 if not x.any() and not y.any() else 0.0
    return float(np.vdot(x, y)) / norms


def agreement(reference: ArrayLike, value: ArrayLike) -> float:
    """Share of rows with the same arg-max over the last axis; NaN without rows.

    Raises:
        ValueError: scalars, shapes that differ, or a last axis of size 0.
    """
    x, y = np.asarray(reference), np.asarray(value)
    _same_shape(x, y)
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(f"agreement needs classes on the last axis, got shape {x.shape}")
    same = x.argmax(-1) == y.argmax(-1)
    return float(same.mean()) if same.size else math.nan


def spearman(first: ArrayLike, second: ArrayLike) -> float:
    """Spearman's rank correlation of two series of at least two; NaN if either is constant."""
    x, y = _pair(first, second)
    if x.size < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    return float(stats.spearmanr(x, y).statistic)


def token_losses(logits: ArrayLike, tokens: ArrayLike) -> np.ndarray:
    """Cross-entropy of each token in nats: logits [..., vocabulary], token ids [...] -> [...] float64."""
    chosen = np.asarray(tokens)[..., None]
    return -np.take_along_axis(_log_softmax(logits), chosen, -1)[..., 0]


def kl_divergences(reference: ArrayLike, value: ArrayLike) -> np.ndarray:
    """KL(softmax(reference) || softmax(value)) over the last axis, in nats: [..., classes] -> [...] float64.

    Raises:
        ValueError: shapes differ.
    """
    _same_shape(np.asarray(reference), np.asarray(value))
    p, q = _log_softmax(reference), _log_softmax(value)
    # Both sums of exponentials are 1 up to rounding, which may leave a result of about -1e-16.
    divergences: np.ndarray = np.maximum((np.exp(p) * (p - q)).sum(-1), 0)
    return divergences


def _log_softmax(logits: ArrayLike) -> np.ndarray:
    x = np.asarray(logits).astype(np.float64)
    x = x - x.max(-1, keepdims=True)
    shifted: np.ndarray = x - np.log(np.exp(x).sum(-1, keepdims=True))
    return shifted


def _pair(reference: ArrayLike, value: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(reference), np.asarray(value)
    _same_shape(x, y)
    return x.astype(np.float64).ravel(), y.astype(np.float64).ravel()


def _same_shape(x: np.ndarray, y: np.ndarray) -> None:
    if x.shape != y.shape:
        raise ValueError(f"shapes differ: {x.shape} and {y.shape}")
