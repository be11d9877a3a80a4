from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.calibration import MIN_SCALE, quant_params_from_range
from qcompiler.calibration.ranges import code_limits
from qcompiler.errors import CalibrationError
from qcompiler.ir import DType, QuantParams

INTEGERS = [d for d in DType if d.is_integer and d.bits <= 16]
bound = st.floats(-(2.0**100), 2.0**100, width=32)


@given(bound, bound, st.sampled_from(INTEGERS), st.booleans(), st.booleans())
def test_parameters_are_valid_and_cover_the_range(a, b, dtype, symmetric, narrow):
    lo, hi = min(a, b), max(a, b)
    scale, zero_point = quant_params_from_range(lo, hi, dtype, symmetric, narrow)
    assert isinstance(zero_point, int) and scale.dtype == np.float32
    assert np.isfinite(scale) and scale >= np.float32(MIN_SCALE)
    q_min, q_max = code_limits(dtype, narrow)
    assert q_min <= zero_point <= q_max  # so 0.0 has a code
    QuantParams(dtype, scale, np.int32(zero_point))
    step = float(scale)
    reach = 1e-6 * step * (q_max - q_min) + (0.0 if symmetric else step / 2)
    assert (q_max - zero_point) * step >= hi - reach
    assert (q_min - zero_point) * step <= lo + reach


@pytest.mark.parametrize(
    ("lo", "hi", "dtype", "symmetric", "narrow", "scale", "zero_point"),
    [
        (0.0, 255.0, DType.uint8, False, False, 1.0, 0),
        (-128.0, 127.0, DType.int8, False, False, 1.0, 0),
        (-1.0, 127.0, DType.int8, True, False, 1.0, 0),
        (-128.0, 127.0, DType.int8, True, False, 1.0, 0),
        (-127.0, 10.0, DType.int8, True, True, 1.0, 0),
        (-10.0, 127.0, DType.uint8, True, False, 1.0, 128),
        (10.0, 510.0, DType.uint8, False, False, 2.0, 0),
        (-510.0, -10.0, DType.uint8, False, False, 2.0, 255),
        (-2.0, 1.0, DType.int2, False, False, 1.0, 0),
    ],
)
def test_worked_values(lo, hi, dtype, symmetric, narrow, scale, zero_point):
    assert quant_params_from_range(lo, hi, dtype, symmetric, narrow) == (np.float32(scale), zero_point)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("dtype", [DType.uint8, DType.int8])
def test_degenerate_ranges_give_ordinary_scales(dtype, symmetric):
    for lo, hi in [(0.0, 0.0), (-0.0, 0.0)]:
        scale, _ = quant_params_from_range(lo, hi, dtype, symmetric)
        assert 1 / 256 <= scale <= 1 / 127
    scale, zero_point = quant_params_from_range(1e-44, 1e-44, dtype, symmetric)
    assert scale == np.float32(MIN_SCALE)
    assert np.float32(scale) * np.float32(scale) >= np.finfo(np.float32).tiny
    constant, zero_point = quant_params_from_range(3.0, 3.0, dtype, symmetric)
    assert abs((np.rint(3.0 / constant) * constant) - 3.0) < 1e-5


def test_arrays_agree_with_scalars():
    rng = np.random.default_rng(0)
    lo, hi = -rng.random(9), rng.random(9)
    lo[3] = hi[3] = 0.0
    for symmetric in (False, True):
        scales, zero_points = quant_params_from_range(lo, hi, DType.uint8, symmetric)
        assert scales.dtype == np.float32 and zero_points.dtype == np.int32
        single = [quant_params_from_range(a, b, DType.uint8, symmetric) for a, b in zip(lo, hi, strict=True)]
        assert [(s, int(z)) for s, z in zip(scales, zero_points, strict=True)] == single


@pytest.mark.parametrize(
    ("lo", "hi"), [(float("nan"), 1.0), (0.0, float("inf")), (1.0, -1.0), (-3e38, 1e300)]
)
def test_impossible_ranges_are_errors(lo, hi):
    with pytest.raises(CalibrationError):
        quant_params_from_range(lo, hi, DType.uint8, False)


def test_float_dtype_is_refused():
    with pytest.raises(ValueError, match="integer type"):
        quant_params_from_range(0.0, 1.0, DType.float32, False)
