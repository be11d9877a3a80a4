"""Quantization parameters: validation, rounding, saturation, broadcasting."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.ir import DType, QuantParams

CHANNELS = np.array([0.1, 0.2, 0.4], np.float32)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((DType.float32, 0.1), "codes must be integers"),
        ((DType.int64, 0.1), "codes must be integers that int32 holds"),
        ((DType.bool, 0.1), "codes must be integers"),
        ((DType.int8, 0.0), "finite and not zero"),
        ((DType.int8, np.nan), "finite and not zero"),
        ((DType.int8, np.inf), "finite and not zero"),
        ((DType.int8, 1e-60), "finite and not zero"),  # 0 in float32
        ((DType.int8, 0.1, 128), "zero_point outside int8"),
        ((DType.uint8, 0.1, -1), "zero_point outside uint8"),
        ((DType.uint4, 0.1, 16), "zero_point outside uint4"),
        ((DType.uint8, 0.1, 1 << 40), "zero_point outside uint8"),
        ((DType.uint8, 0.1, 3.5), "zero points are integers"),
        ((DType.int8, CHANNELS), "does not fit axis=None"),
        ((DType.int8, 0.1, 0, 1), "does not fit axis=1"),
        ((DType.int8, CHANNELS, 0, -1), "axis counts from the front"),
        ((DType.int8, CHANNELS, np.zeros(2), 0), "zero_point has shape"),
        ((DType.int8, np.ones((2, 3)), 0, 0), "has one dimension"),
        ((DType.int8, 0.1, 0, None, 4), "group_size=4 needs an axis"),
        ((DType.int8, np.ones((2, 3)), 0, 1, 0), "must be >= 1"),
    ],
)
def test_invalid_parameters_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        QuantParams(*arguments)


def test_ties_go_to_even_and_codes_saturate():
    quant = QuantParams(DType.int8, 2.0, 1)
    x = np.array([1, 3, 5, -1, -3, 1000, -1000, 253, 252.9, np.inf, -np.inf], np.float32)
    assert quant.quantize(x).tolist() == [1, 3, 3, 1, -1, 127, -128, 127, 127, 127, -128]


@pytest.mark.parametrize("dtype", [d for d in DType if d.is_integer and d not in (DType.int64, DType.uint32)])
def test_every_code_survives_the_round_trip(dtype):
    low, high = max(dtype.min, -70000), min(dtype.max, 70000)
    codes = np.arange(low, high + 1, max(1, (high - low) // 500)).astype(dtype.numpy)
    quant = QuantParams(dtype, 0.037, 0 if dtype.is_signed else dtype.max // 2)
    assert np.array_equal(quant.quantize(quant.dequantize(codes)), codes)
    assert quant.quantize(np.zeros(1)).dtype == dtype.numpy


@settings(max_examples=100, deadline=None)
@given(st.floats(1e-3, 1e3), st.integers(-128, 127), st.floats(-1e5, 1e5))
def test_error_is_at_most_half_a_step_inside_the_range(scale, zero, x):
    quant = QuantParams(DType.int8, scale, zero)
    step, low, high = float(quant.scale), *quant.dequantize(np.array([-128, 127]))
    back = float(quant.dequantize(quant.quantize(np.array(x))))
    slack = 1e-5 * (abs(x) + abs(back))  # float32 quotients and products
    if low <= x <= high:
        assert abs(back - x) <= step / 2 + slack
    else:
        assert back == (low if x < low else high) or abs(back - x) <= step / 2 + slack


def test_channels_and_groups_broadcast_along_their_axis():
    codes = np.arange(12, dtype=np.int8).reshape(3, 4)
    rows = QuantParams(DType.int8, CHANNELS, [0, 1, 2], axis=0)
    assert np.array_equal(
        rows.dequantize(codes), (codes - np.array([[0], [1], [2]])).astype(np.float32) * CHANNELS[:, None]
    )
    ragged = QuantParams(DType.int8, np.arange(1, 7).reshape(3, 2), axis=1, group_size=3)
    assert ragged.broadcast(ragged.scale, (3, 4)).tolist() == [[1, 1, 1, 2], [3, 3, 3, 4], [5, 5, 5, 6]]
    assert np.array_equal(ragged.quantize(ragged.dequantize(codes)), codes)
    assert rows.with_axis(1).axis == 1 and not rows.symmetric and ragged.symmetric


def test_signed_group_scales_are_allowed():
    quant = QuantParams(DType.int4, np.array([[-0.5, 0.25]]), axis=1, group_size=2)
    assert quant.dequantize(np.array([[-8, 7, 4, -4]], np.int8)).tolist() == [[4.0, -3.5, 1.0, -1.0]]


def test_equality_hash_and_immutability():
    a = QuantParams(DType.int8, CHANNELS, np.zeros(3), axis=0)
    b = QuantParams(DType.int8, CHANNELS.copy(), np.zeros(3, np.int8), axis=0)
    assert a == b and hash(a) == hash(b) and len({a, b}) == 1
    assert a != QuantParams(DType.int8, CHANNELS, np.zeros(3), axis=1)
    assert a != QuantParams(DType.int8, CHANNELS * 2, np.zeros(3), axis=0) and a != 3
    with pytest.raises(ValueError):
        a.scale[0] = 1
    CHANNELS_COPY = CHANNELS.copy()
    c = QuantParams(DType.int8, CHANNELS_COPY, axis=0)
    CHANNELS_COPY[0] = 9
    assert c.scale[0] == np.float32(0.1)
