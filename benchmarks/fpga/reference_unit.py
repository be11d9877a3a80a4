"""The unit that clock and size are quoted for: 256 terms, 64 channels, 4 rows by 8 columns, 8-bit weights and codes.

Multipliers of 17 bits, an own shift per channel (8 different ones), an own zero point.
"""

from __future__ import annotations

import numpy as np

from qcompiler.targets.fpga_hls.stream import Folding, Scaling
from qcompiler.targets.fpga_hls.units import MatrixVector


def reference_unit(pe: int = 4, simd: int = 8, weight_bits: int = 8, act_bits: int = 8, seed: int = 0) -> MatrixVector:
    """A matrix-vector unit of 256 by 64, weights at random."""
    rng = np.random.default_rng(seed)
    terms, channels = 256, 64
    weights = rng.integers(-(1 << weight_bits - 1), 1 << weight_bits - 1, (channels, terms))
    bias = rng.integers(-5000, 5000, channels)
    acc_bits = weight_bits + act_bits + 8 + 1
    multiplier = rng.integers(1 << 16, 1 << 17, channels) << rng.integers(0, 8, channels)
    multiplier[:2] = [1 << 16, (1 << 17) - 1 << 7]  # both ends, whatever the seed
    scaling = Scaling("dyadic", multiplier, 34, 3, -128, 127, 8, True)
    return MatrixVector(
        "unit", "reference", weights, bias, scaling, 1, weight_bits, act_bits, True, acc_bits, folding=Folding(pe, simd)
    )
