"""From a range of real numbers to quantization parameters: the one place in the project that does it.

    real = scale * (q - zero_point),  q in [q_min, q_max]

Asymmetric: scale = (hi - lo) / (q_max - q_min), zero_point = round_half_even(q_min - lo / scale).
Symmetric: zero_point is the middle code (0 for signed types, 2**(bits-1) for unsigned ones) and scale the
smallest that reaches both lo and hi. The range is first widened to contain 0.0, which is then exact
(zero padding and ReLU need it; Jacob et al., arXiv:1712.05877, section 2.3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

import numpy as np

from qcompiler.errors import CalibrationError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from qcompiler.ir import DType

MIN_SCALE = 2.0**-62
"""Smallest scale: the product of two, which is the scale of a bias, is still a normal float32."""


def code_limits(dtype: DType, narrow: bool = False) -> tuple[int, int]:
    """(smallest, largest) code. `narrow` leaves out the most negative code of a signed type: [-127, 127]."""
    return dtype.min + (1 if narrow and dtype.is_signed else 0), dtype.max


def middle_code(dtype: DType) -> int:
    """Zero point of symmetric quantization: 0 for signed types, 2**(bits-1) for unsigned types."""
    return 0 if dtype.is_signed else 1 << (dtype.bits - 1)


@overload
def quant_params_from_range(
    lo: float, hi: float, dtype: DType, symmetric: bool, narrow: bool = False
) -> tuple[np.float32, int]: ...
@overload
def quant_params_from_range(
    lo: NDArray[Any], hi: NDArray[Any], dtype: DType, symmetric: bool, narrow: bool = False
) -> tuple[NDArray[np.float32], NDArray[np.int32]]: ...


def quant_params_from_range(
    lo: ArrayLike, hi: ArrayLike, dtype: DType, symmetric: bool, narrow: bool = False
) -> tuple[Any, Any]:
    """(scale, zero_point) that cover [lo, hi]: (float32, int), or float32 and int32 arrays for arrays.

    An empty range ({0}) is widened to [0, 1]: the scale is then ordinary, and so is that of a bias which is
    the product of two scales. Scales are at least `MIN_SCALE`.

    Raises:
        CalibrationError: lo > hi, a bound that is not finite, or a scale beyond float32.
        ValueError: `dtype` is no integer type, or has no code on either side of zero with these options.
    """
    if not dtype.is_integer:
        raise ValueError(f"quantized values have an integer type, not {dtype.name}")
    low = np.asarray(lo, np.float64)
    high = np.asarray(hi, np.float64)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise CalibrationError(f"a quantization range must be finite, got [{_show(low)}, {_show(high)}]")
    if (low > high).any():
        raise CalibrationError(f"a quantization range needs lo <= hi, got [{_show(low)}, {_show(high)}]")
    low, high = np.minimum(low, 0.0), np.maximum(high, 0.0)
    high = np.where(high == low, 1.0, high)
    q_min, q_max = code_limits(dtype, narrow)
    if symmetric:
        middle = middle_code(dtype)
        exact = np.maximum(high / (q_max - middle), -low / (middle - q_min))
    else:
        exact = (high - low) / (q_max - q_min)
    if (exact > np.finfo(np.float32).max).any():
        raise CalibrationError(f"the range [{_show(low)}, {_show(high)}] is too wide for a float32 scale")
    scale = np.maximum(exact, MIN_SCALE).astype(np.float32)
    if symmetric:
        zero_point = np.full(scale.shape, middle_code(dtype), np.int32)
    else:
        # With the rounded scale, as the runtime will use it.
        offset = np.rint(q_min - low / scale.astype(np.float64))
        zero_point = np.clip(offset, q_min, q_max).astype(np.int32)
    if scale.ndim == 0:
        return np.float32(scale), int(zero_point)
    return scale, zero_point


def _show(bounds: NDArray[Any]) -> str:
    return f"{float(bounds):g}" if bounds.ndim == 0 else f"array of {bounds.size}"
