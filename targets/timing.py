"""Timing two programs beside each other, for any target."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from qcompiler.targets.base import Measurement

# Interquartile range / median of the paired ratios beyond which a measurement is called noisy.
NOISY_SPREAD = 0.15
# Standard error of the median ratio, relative, at which more rounds would tell nothing new; and the fewest rounds
# from which it can be judged.
PRECISE = 0.005
FEWEST_ROUNDS = 16


def measure_pair(
    subject: Callable[[], object],
    baseline: Callable[[], object],
    seconds: float = 3.0,
    threads: int = 1,
    most_rounds: int = 400,
) -> Measurement:
    """Time two callables alternately for at most about `seconds`, after warming both up.

    The order within a round alternates, so that neither always runs in the other's wake. It ends early once the
    median ratio is known to `PRECISE`; on a machine with other work it uses all its time. At least 5 rounds.
    """
    for call in (subject, baseline, subject, baseline):
        call()
    times: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + seconds
    rounds = 0
    while rounds < 5 or (time.perf_counter() < end and rounds < most_rounds):
        for which in (0, 1) if rounds % 2 == 0 else (1, 0):
            start = time.perf_counter()
            (subject, baseline)[which]()
            times[which].append(time.perf_counter() - start)
        rounds += 1
        if rounds >= FEWEST_ROUNDS and rounds % 4 == 0 and _spread(times)[1] <= PRECISE * rounds**0.5:
            break
    mine, other = (np.asarray(t) * 1e3 for t in times)
    middle, spread = _spread(times)
    return Measurement(
        float(np.median(mine)), float(np.median(other)), middle, spread, spread > NOISY_SPREAD, rounds, threads
    )


def _spread(times: tuple[list[float], list[float]]) -> tuple[float, float]:
    """Median of the paired ratios, and their interquartile range relative to it.

    For normal errors the standard error of the median of n ratios is 0.93 times that range / sqrt(n).
    """
    low, middle, high = np.percentile(np.asarray(times[0]) / np.asarray(times[1]), [25, 50, 75])
    return float(middle), float((high - low) / middle)
