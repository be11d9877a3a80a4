"""Numeric edges of ops on codes: saturation, limits, channels, profiles, zero points, padding."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.errors import GraphError
from qcompiler.executors.reference import run_reference
from qcompiler.ir import DType, GraphBuilder, Level, QuantParams, verify_graph

RNG = np.random.default_rng(5)
U8 = QuantParams(DType.uint8, 0.02, 120)
S8 = QuantParams(DType.int8, 0.05, -7)
ACC = QuantParams(DType.int32, 0.001)


def run(op, *operands, **attrs):
    """One node over (array, quant) inputs; arrays without quant are constants."""
    b = GraphBuilder(level=Level.QUANTIZED)
    values, arrays = [], []
    for k, operand in enumerate(operands):
        if isinstance(operand, tuple):
            array, quant = operand
            values.append(
                b.input(f"x{k}", DType.of(array) if quant is None else quant.dtype, array.shape, quant)
            )
            arrays.append(array)
        else:
            values.append(None if operand is None else b.const(operand))
    graph = b.build([b.op(op, *values, **attrs)])
    verify_graph(graph)
    return run_reference(graph, arrays)[0], graph.outputs[0]


def codes(shape, quant):
    return RNG.integers(quant.dtype.min, quant.dtype.max + 1, shape).astype(quant.dtype.numpy)


def test_requantize_saturates_and_respects_its_limits():
    acc = np.array([-(2**31), -1, 0, 1, 2**31 - 1], np.int32)
    factor = np.float32(1.0)
    assert run("requantize", (acc, ACC), factor, quant=S8, rounding="float32_half_even")[0].tolist() == [
        -128,
        -8,
        -7,
        -6,
        127,
    ]
    limited = run(
        "requantize", (acc, ACC), factor, quant=S8, rounding="float32_half_even", qmin=-7, qmax=100
    )[0]
    assert limited.tolist() == [-7, -7, -7, -6, 100]  # relu and a cap: no code below the zero point
    m, s = np.int64(1 << 30), np.int64(30)
    for rounding in ("dyadic", "dyadic_double"):
        got = run("requantize", (acc, ACC), m, s, quant=S8, rounding=rounding, qmax=100)[0]
        assert got.tolist() == [-128, -8, -7, -6, 100]


@pytest.mark.parametrize("limits", [(-200, None), (None, 128), (5, 4)])
def test_limits_outside_the_type_or_reversed_are_refused(limits):
    with pytest.raises(GraphError, match="limits"):
        run(
            "requantize",
            (np.zeros(2, np.int32), ACC),
            np.float32(1),
            quant=S8,
            rounding="dyadic",
            qmin=limits[0],
            qmax=limits[1],
        )


def test_requantize_ties_differ_per_profile():
    acc = np.array([1, 3, 5, -1, -3, -5], np.int32)
    out = QuantParams(DType.int8, 1.0)
    half = np.float32(0.5)
    assert run("requantize", (acc, ACC), half, quant=out, rounding="float32_half_even")[0].tolist() == [
        0,
        2,
        2,
        0,
        -2,
        -2,
    ]
    one = np.int64(1)
    assert run("requantize", (acc, ACC), one, one, quant=out, rounding="shift_half_even")[0].tolist() == [
        0,
        2,
        2,
        0,
        -2,
        -2,
    ]
    assert run("requantize", (acc, ACC), one, one, quant=out, rounding="dyadic")[0].tolist() == [
        1,
        2,
        3,
        0,
        -1,
        -2,
    ]
    m, s = np.int64(1 << 30), np.int64(31)
    assert run("requantize", (acc, ACC), m, s, quant=out, rounding="dyadic_double")[0].tolist() == [
        1,
        2,
        3,
        0,
        -1,
        -2,
    ]
    m, s = np.int64(1 << 30), np.int64(32)  # two bits: the second rounding goes away from zero
    assert run("requantize", (acc, ACC), m, s, quant=out, rounding="dyadic_double")[0].tolist() == [
        1,
        1,
        2,
        0,
        -1,
        -1,
    ]


def test_requantize_per_channel_along_any_axis():
    quant = QuantParams(DType.int32, [0.1, 0.2, 0.3], axis=1)
    acc = np.full((2, 3, 2), 100, np.int32)
    factors = np.array([0.1, 0.2, 0.5], np.float32)
    got = run("requantize", (acc, quant), factors, quant=U8, rounding="float32_half_even")[0]
    assert (got == np.array([130, 140, 170]).reshape(1, 3, 1)).all()
    m, s = np.array([1, 2, 3], np.int64), np.array([1, 2, 3], np.int64)
    got = run("requantize", (acc, quant), m, s, quant=U8, rounding="dyadic")[0]
    assert (got == np.array([170, 170, 158]).reshape(1, 3, 1)).all()
    with pytest.raises(GraphError, match="multiplier or shift of shape"):
        run("requantize", (acc, quant), np.ones(2, np.float32), quant=U8, rounding="float32_half_even")
    with pytest.raises(GraphError, match="multiplier or shift of shape"):
        run("requantize", (acc, ACC), np.ones(3, np.float32), quant=U8, rounding="float32_half_even")


@pytest.mark.parametrize(
    "operands, rounding, message",
    [
        ((np.int64(1),), "dyadic", "needs a shift"),
        ((np.float32(1), np.int64(1)), "float32_half_even", "takes no shift"),
        ((np.float32(1), np.int64(1)), "dyadic", "does not take a float32 multiplier"),
        ((np.int64(1),), "float32_half_even", "does not take a int64 multiplier"),
        ((np.float32(1),), "nearest", "rounding is one of"),
    ],
)
def test_profiles_name_their_operands(operands, rounding, message):
    with pytest.raises(GraphError, match=message):
        run("requantize", (np.zeros(2, np.int32), ACC), *operands, quant=U8, rounding=rounding)


def test_requantize_between_code_types_removes_the_zero_point():
    x = np.array([0, 119, 120, 121, 255], np.uint8)
    got = run(
        "requantize",
        (x, U8),
        np.float32(1),
        quant=QuantParams(DType.int8, 0.02, -8),
        rounding="float32_half_even",
    )[0]
    assert got.tolist() == [-128, -9, -8, -7, 127]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(-(2**31) + 1, 2**31 - 1).filter(bool), st.integers(0, 255)),
        min_size=2,
        max_size=5,
    ),
    st.integers(1, 62),
)
def test_requantize_sum_rounds_once(terms, shift):
    operands = [(np.array([c], np.uint8), U8) for _, c in terms]
    out = QuantParams(DType.int8, 0.1, 4)
    exact = sum(Fraction(m * (c - 120), 1 << shift) for m, c in terms)
    ms = tuple(m for m, _ in terms)
    got = run("requantize_sum", *operands, quant=out, rounding="dyadic", multipliers=ms, shift=shift)[0]
    assert got.tolist() == [max(-128, min(127, floor(exact + Fraction(1, 2)) + 4))]
    got = run(
        "requantize_sum", *operands, quant=out, rounding="shift_half_even", multipliers=ms, shift=shift
    )[0]
    assert got.tolist() == [max(-128, min(127, round(exact) + 4))]


def test_requantize_sum_in_float32_is_a_chain_of_fused_multiply_adds():
    a, b = codes((4, 5), U8), codes((5,), S8)
    got = run(
        "requantize_sum",
        (a, U8),
        (b, S8),
        quant=U8,
        rounding="float32_half_even",
        real_multipliers=(0.7, 0.3),
        qmin=120,
    )[0]
    factors = [Fraction(float(np.float32(m))) for m in (0.7, 0.3)]

    def fused(x: int, m: Fraction, total: np.float32) -> np.float32:
        return np.float32(float(x * m + Fraction(float(total))))  # the fraction is exact; these fit float64

    constant = np.float32(120) - fused(120, factors[0], fused(-7, factors[1], np.float32(0)))
    expected = [
        [np.rint(fused(int(x), factors[0], fused(int(y), factors[1], constant))) for x, y in zip(row, b, strict=True)] for row in a
    ]
    assert np.array_equal(got, np.clip(expected, 120, 255).astype(np.uint8))


@pytest.mark.parametrize(
    "attrs, message",
    [
        ({"rounding": "dyadic", "multipliers": (1, 2), "shift": 0}, r"shifts of dyadic lie in \[1, 62\]"),
        ({"rounding": "dyadic", "multipliers": (1, 0), "shift": 3}, "are not 0"),
        ({"rounding": "dyadic", "multipliers": (1, 1 << 31), "shift": 3}, "multipliers lie in"),
        ({"rounding": "dyadic", "multipliers": (1,), "shift": 3}, "a multiplier for each"),
        ({"rounding": "dyadic_double", "multipliers": (1, 1), "shift": 3}, "rounds twice"),
        ({"rounding": "float32_half_even", "multipliers": (1, 1)}, "a multiplier for each"),
        ({"rounding": "dyadic", "real_multipliers": (1.0, 1.0)}, "a multiplier for each"),
    ],
)
def test_requantize_sum_checks_its_integers(attrs, message):
    x = np.zeros(2, np.uint8)
    with pytest.raises(GraphError, match=message):
        run("requantize_sum", (x, U8), (x, U8), quant=U8, **attrs)


def test_linear_on_codes_is_the_centred_integer_product():
    x, wq = codes((3, 5), U8), QuantParams(DType.int8, [0.1, 0.2, 0.3, 0.4], [1, 0, -2, 3], axis=0)
    w, bias = codes((4, 5), wq), RNG.integers(-999, 999, 4).astype(np.int32)
    b = GraphBuilder(level=Level.QUANTIZED)
    out = b.op("linear", b.input("x", DType.uint8, (3, 5), U8), b.const(w, quant=wq), b.const(bias))
    graph = b.build([out])
    expected = (x.astype(int) - 120) @ (w.astype(int) - wq.zero_point[:, None]).T + bias
    assert np.array_equal(run_reference(graph, [x])[0], expected)
    assert out.quant == QuantParams(DType.int32, U8.scale * wq.scale, axis=1)


def test_conv_on_codes_pads_with_real_zero():
    x, wq = codes((1, 2, 4, 4), U8), QuantParams(DType.int8, [0.1, 0.2, 0.3], axis=0)
    w = codes((3, 2, 3, 3), wq)
    attrs = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1)}
    b = GraphBuilder(level=Level.QUANTIZED)
    graph = b.build(
        [b.op("conv", b.input("x", DType.uint8, x.shape, U8), b.const(w, quant=wq), None, **attrs)]
    )
    padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)], constant_values=120)  # the code of 0
    b = GraphBuilder(level=Level.QUANTIZED)
    v = b.input("x", DType.uint8, padded.shape, U8)
    plain = b.build([b.op("conv", v, b.const(w, quant=wq), None, **attrs | {"pads": (0, 0, 0, 0)})])
    got = run_reference(graph, [x])[0]
    assert np.array_equal(got, run_reference(plain, [padded])[0])
    assert got[0, 0, 0, 0] == ((padded[0, :, :3, :3].astype(int) - 120) * w[0]).sum()


def test_products_beyond_the_exact_range_of_float64_stay_exact():
    quant = QuantParams(DType.int32, 1.0)
    x = np.full((1, 3), 2**30 + 1, np.int32)
    got = run("matmul", (x, quant), (np.array([[2**30 - 1], [-(2**30) + 1], [1]], np.int32), quant))[0]
    assert got.tolist() == [[2**30 + 1]]


@pytest.mark.parametrize("axes", [(2, 3), (), (-1,)])
def test_mean_of_codes_is_a_sum_with_a_smaller_scale(axes):
    x = codes((2, 3, 4, 5), U8)
    got, value = run("reduce_mean", (x, U8), axes=axes)
    sums = (x.astype(int) - 120).sum(axes or None)
    assert got.dtype == np.int32 and np.array_equal(got, sums)
    count = x.size // sums.size
    assert value.quant.scale == np.float32(U8.scale) / np.float32(count)
    real = U8.dequantize(x).mean(axes or None)
    np.testing.assert_allclose(value.quant.dequantize(got), real, rtol=1e-5, atol=1e-6)


def test_padding_and_pooling_codes():
    x = codes((1, 1, 4, 4), S8)
    got = run("pad", (x, S8), pads=(0, 0, 1, 0, 0, 0, 0, 1))[0]
    assert (got[0, 0, 0] == -7).all() and (got[..., -1] == -7).all()
    assert run("pad", (x, S8), pads=(0,) * 7 + (1,), value=99.0)[0][0, 0, 0, -1] == 127
    low = np.full((1, 1, 2, 2), -128, np.int8)
    pooled = run("max_pool", (low, S8), kernel=(3, 3), strides=(1, 1), pads=(1, 1, 1, 1))[0]
    assert (pooled == -128).all()  # padding never wins, though its real number would


def test_movement_keeps_parameters_and_refuses_channels():
    x = codes((3, 2), S8)
    got, value = run("transpose", (x, S8), perm=(1, 0))
    assert np.array_equal(got, x.T) and value.quant is S8
    rows = QuantParams(DType.int8, [0.1, 0.2, 0.3], axis=0)
    assert run("transpose", (x, rows), perm=(1, 0))[1].quant == rows.with_axis(1)
    with pytest.raises(GraphError, match="per-channel"):
        run("reshape", (x, rows), shape=(6,))
    with pytest.raises(GraphError, match="share one dtype and quantization"):
        run("concat", (x, S8), (x, QuantParams(DType.int8, 0.05, -6)), axis=0)


@pytest.mark.parametrize("op", ["add", "relu", "softmax", "avg_pool", "gelu", "layer_norm"])
def test_real_ops_refuse_codes(op):
    x = (codes((2, 3, 4, 4), U8), U8)
    attrs = {
        "avg_pool": {"kernel": (2, 2), "strides": (1, 1), "pads": (0,) * 4}, "layer_norm": {"eps": 1e-5},
    }.get(op, {})  # fmt: skip
    with pytest.raises(GraphError):
        run(op, *([x, x] if op == "add" else [x]), **attrs)


def test_quantize_needs_parameters_that_fit():
    x = (np.zeros((3, 4), np.float32), None)
    with pytest.raises(GraphError, match="2 scales for 3 channels"):
        run("quantize", x, quant=QuantParams(DType.int8, [0.1, 0.2], axis=0))
    with pytest.raises(GraphError, match="axis 2 outside rank 2"):
        run("quantize", x, quant=QuantParams(DType.int8, [0.1, 0.2], axis=2))
    with pytest.raises(GraphError, match="scales of shape"):
        run("quantize", x, quant=QuantParams(DType.int8, np.ones((3, 1)), axis=1, group_size=3))
    with pytest.raises(GraphError, match="rounding is half_even"):
        run("quantize", x, quant=U8, rounding="dyadic")


@pytest.mark.parametrize("granularity", ["tensor", "token"])
def test_dynamic_linear_error_is_bounded_by_its_step(granularity):
    x = RNG.normal(size=(6, 16)).astype(np.float32)
    w = RNG.normal(size=(4, 16)).astype(np.float32)
    quant = QuantParams(DType.int8, np.abs(w).max(1) / 127, axis=0)
    b = GraphBuilder(level=Level.QUANTIZED)
    v = b.input("x", DType.float32, x.shape)
    graph = b.build(
        [b.op("dynamic_linear", v, b.const(quant.quantize(w), quant=quant), None, granularity=granularity)]
    )
    got, rounded = run_reference(graph, [x])[0], quant.dequantize(quant.quantize(w))
    span = np.ptp(x) / 255 if granularity == "tensor" else np.abs(x).max(1, keepdims=True) / 127
    bound = span * 0.51 * np.abs(rounded).sum(1)
    assert (np.abs(got - x @ rounded.T) <= bound).all()
