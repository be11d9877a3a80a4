"""Whether products of neighbouring weights add up in 16 bits."""

from __future__ import annotations

import numpy as np

from qcompiler.targets.saturation import SUM_LIMIT, neighbours


def sums_fit(codes: np.ndarray, count: int) -> bool:
    """True if no activation takes a sum of `count` neighbours beyond 16 bits; codes int8 with zero point 0."""
    rows = np.pad(codes.reshape(len(codes), -1).astype(np.int16), ((0, 0), (0, 1)))
    members = rows[:, neighbours(codes.shape, count)]
    positive, negative = np.maximum(members, 0).sum(-1), np.minimum(members, 0).sum(-1)
    return bool(positive.max(initial=0) <= SUM_LIMIT and negative.min(initial=0) >= -SUM_LIMIT)
