"""The chance that a configuration keeps a limit on the drop, by its loss.

A drop moves in steps of a sample and a loss does not, so that of two configurations of nearly one loss one may keep the
limit and the other not. From the losses that kept it and those that did not, a threshold in log loss and the width of
what is undecided around it are estimated: every pair on a grid counts by its likelihood (probit regression with a flat
prior), which also says how little a few trials tell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.special import log_ndtr, ndtr

WIDTHS = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Of the undecided, in natural logarithms of the loss."""
REACH = 3.0
"""The threshold may lie so far beyond the losses seen: 13 dB."""
STEPS = 121

Chance = Callable[[Sequence[float]], np.ndarray]


def chance_of_keeping(kept: Sequence[float], lost: Sequence[float]) -> Chance:
    """A function from log losses to chances in [0, 1]; 1 everywhere where nothing is known.

    Args:
        kept: log losses of trials that kept the limit.
        lost: of those that did not.
    """
    seen = [*kept, *lost]
    if not seen:
        return lambda losses: np.ones(len(losses))
    thresholds = np.linspace(min(seen) - REACH, max(seen) + REACH, STEPS)[:, None, None]
    widths = np.array(WIDTHS)[None, :, None]
    likelihood = log_ndtr((thresholds - np.asarray(kept, float)) / widths).sum(-1)
    likelihood += log_ndtr((np.asarray(lost, float) - thresholds) / widths).sum(-1)
    weights = np.exp(likelihood - likelihood.max())
    weights /= weights.sum()

    def chance(losses: Sequence[float]) -> np.ndarray:
        each = ndtr((thresholds - np.asarray(losses, float)) / widths)
        return np.einsum("tw,twn->n", weights, each)

    return chance
