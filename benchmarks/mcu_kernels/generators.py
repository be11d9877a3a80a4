"""All kinds of cases, and seeded lists of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from . import draw, elementwise, indexing, layers, nonlinear
from .case import Case

Generator = Callable[[draw.Rng, str], Case]

# Generator -> its share of a list.
GENERATORS: dict[Generator, int] = {
    layers.conv2d: 8,
    layers.conv2d_add: 3,
    layers.depthwise_conv2d: 6,
    layers.scale_channels: 2,
    layers.fully_connected: 4,
    layers.matmul: 2,
    layers.add: 2,
    elementwise.mul: 2,
    elementwise.max_pool: 2,
    elementwise.avg_pool: 2,
    elementwise.requantize: 1,
    elementwise.requantize_s32: 2,
    elementwise.pad: 1,
    elementwise.copy: 1,
    elementwise.transpose: 1,
    elementwise.lookup: 1,
    nonlinear.softmax_lookup: 3,
    nonlinear.shiftmax: 2,
    nonlinear.add_s16: 2,
    nonlinear.mul_s16: 1,
    nonlinear.requantize_s16: 1,
    nonlinear.lookup_s8_s16: 1,
    nonlinear.lookup_interpolated: 1,
    nonlinear.normalize: 2,
    nonlinear.mean: 1,
    nonlinear.log2_softmax: 1,
    nonlinear.shift_sigmoid: 2,
    indexing.gather: 1,
    indexing.not_zero: 1,
    indexing.logical_and: 1,
    indexing.where: 1,
}


def draw_cases(count: int, profile: str, seed: int) -> list[Case]:
    """About `count` cases (never fewer), every kind in its share; case i depends on seed and i alone."""
    kinds = [g for g, share in GENERATORS.items() for _ in range(share)]
    return [kinds[i % len(kinds)](np.random.default_rng((seed, i)), profile) for i in range(count)]
