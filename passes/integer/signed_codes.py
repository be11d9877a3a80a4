"""Codes with or without sign: the same numbers, 128 apart.

int8 codes are uint8 codes minus 128 with a zero point 128 lower. Nothing is rounded.
"""

from __future__ import annotations

import numpy as np

from qcompiler.ir import DType, QuantParams

OFFSET = 128


def signed(quant: QuantParams) -> QuantParams:
    """The int8 form of uint8 parameters; others unchanged."""
    if quant.dtype is not DType.uint8:
        return quant
    return QuantParams(DType.int8, quant.scale, quant.zero_point - OFFSET, quant.axis, quant.group_size)


def signed_limit(limit: int | None, quant: QuantParams) -> int | None:
    """A limit on codes of `quant`, for its signed form."""
    return limit if limit is None or quant.dtype is not DType.uint8 else limit - OFFSET


def signed_array(codes: np.ndarray, quant: QuantParams) -> np.ndarray:
    """Codes of `quant` in its signed form."""
    return codes if quant.dtype is not DType.uint8 else (codes.astype(np.int16) - OFFSET).astype(np.int8)
