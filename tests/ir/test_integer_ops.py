"""Integer functions: published integers, exact roots, and how near they are to the real functions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.executors.reference import run_reference
from qcompiler.ir import DType, GraphBuilder, Level, QuantParams
from qcompiler.ir.ops.integer import TABLE_ONE, shift_exp
from qcompiler.ir.ops.integer_norm import floor_sqrt

P8 = QuantParams(DType.int8, 1 / 256, -128)


def run(op, arrays, quants, **attrs):
    """One op on arrays; those with parameters are inputs, the others constants."""
    b = GraphBuilder("g", Level.INTEGER)
    inputs, fed = [], []
    for array, quant in zip(arrays, quants, strict=True):
        if quant is None and array.dtype != bool:
            inputs.append(b.const(array))
            continue
        dtype = DType.bool if quant is None else quant.dtype
        inputs.append(b.input(f"x{len(fed)}", dtype, array.shape, quant))
        fed.append(array.astype(dtype.numpy))
    graph = b.build([b.op(op, *inputs, **attrs)])
    return run_reference(graph, fed)[0].astype(np.int64)


def test_shift_exp_gives_the_published_integers():
    got = shift_exp(np.array([0, -1, -8, -16, -32, -100]), 16, 15)
    assert got.tolist() == [524288, 507904, 344064, 204800, 73728, 1088]


def test_shiftmax_gives_the_published_integers():
    row = np.array([[0, -4, -16, -64]])
    quant = QuantParams(DType.int8, 1 / 16)
    out = QuantParams(DType.int8, 1 / 128)
    assert run("shiftmax", [row], [quant], quant=out, unit=16, division="reciprocal").tolist() == [[56, 47, 22, 1]]
    rounded = run("shiftmax", [row], [quant], quant=P8, unit=16) + 128
    assert rounded.sum() == 256 and np.abs(rounded / 256 - row_softmax(row / 16)).max() < 0.02


def row_softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize(("scale", "worst"), [(0.001, 0.045), (0.01, 0.049), (0.05, 0.060)])
def test_shift_exp_is_as_near_to_exp_as_its_slope_allows(scale, worst):
    unit = math.floor(1 / scale)
    steps = np.arange(0, -int(12 / scale), -1)
    got = shift_exp(steps, unit, 15) * scale / 2**15
    assert np.abs(got - np.exp(steps * scale)).max() < worst


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 2**62 - 1), min_size=1, max_size=20))
def test_square_root_is_the_exact_floor(numbers):
    assert floor_sqrt(np.array(numbers)).tolist() == [math.isqrt(n) for n in numbers]


def test_square_root_next_to_squares():
    k = np.array([*range(1, 300), 2**15, 2**16 - 1, 2**26 + 1, 2**30 + 7, 2**31 - 1])
    for offset in (-1, 0, 1):
        v = k * k + offset
        assert floor_sqrt(v).tolist() == [math.isqrt(int(n)) for n in v]
    assert floor_sqrt(np.array([0])).tolist() == [0]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), length=st.integers(1, 200), step=st.sampled_from([1 / 16, 1 / 64, 1 / 128]))
def test_softmax_by_table_is_softmax_to_one_step(seed, length, step):
    rng = np.random.default_rng(seed)
    quant = QuantParams(DType.int16, step)
    x = np.clip(rng.normal(0, 3, (3, length)) / step, -32768, 32767).astype(np.int16)
    table = np.array([round(TABLE_ONE * math.exp(-k * step)) for k in range(math.ceil(11.1 / step))], np.int16)
    p = run("softmax_lookup", [x, table], [quant, None], quant=P8) + 128
    assert np.abs(p / 256 - row_softmax(x * step)).max() < 1.1 / 256
    assert np.abs(p.sum(-1) - 256).max() <= 1 + length / 2


def test_masked_rows():
    quant = QuantParams(DType.int8, 1 / 16)
    table = np.array([round(TABLE_ONE * math.exp(-k / 16)) for k in range(178)], np.int16)
    x, keep = np.array([[90, 10, 20], [90, 10, 20]]), np.array([[False, True, True], [False, False, False]])
    p = run("softmax_lookup", [x, table, keep], [quant, None, None], quant=P8) + 128
    assert p[0, 0] == 0 and p[1].tolist() == [0, 0, 0]
    assert np.abs(p[0, 1:] / 256 - row_softmax(np.array([10, 20]) / 16)).max() < 1.1 / 256
    assert (run("shiftmax", [x, keep], [quant, None], quant=P8, unit=16) + 128)[0, 0] == 0


def test_log2_softmax_gives_powers_of_two_nearest_in_the_logarithm():
    quant = QuantParams(DType.int16, 1 / 64)
    table = np.array([round(TABLE_ONE * math.exp(-k / 64)) for k in range(712)], np.int16)
    x = np.random.default_rng(0).integers(-200, 200, (20, 30))
    y = run("log2_softmax", [x, table], [quant, None], quant=QuantParams(DType.int16, 2.0**-14))
    kept = y > 0
    assert ((y & (y - 1)) == 0).all()
    ratio = np.log2((y / 2**14)[kept] / row_softmax(x / 64)[kept])
    large = row_softmax(x / 64)[kept] > 1e-3
    assert np.abs(ratio[large]).max() < 0.55 and row_softmax(x / 64)[~kept].max(initial=0) < 1e-4
    one = run("log2_softmax", [x[:, :1], table], [quant, None], quant=QuantParams(DType.int16, 2.0**-14))
    assert (one == 2**14).all()


@pytest.mark.parametrize(
    ("form", "real", "bound"),
    [("sigmoid", lambda x: 1 / (1 + np.exp(-x)), 0.025), ("tanh", lambda x: np.tanh(x / 2), 0.05)],
)
def test_functions_by_shifts(form, real, bound):
    x = np.arange(-3000, 3001)
    y = run("shift_sigmoid", [x], [QuantParams(DType.int16, 1 / 256)], unit=256, gate_bits=15, form=form)
    assert np.abs(y / 2**15 - real(x / 256)).max() < bound


def test_gated_form_is_gelu_and_silu():
    x = np.arange(-3000, 3001)
    quant = QuantParams(DType.int16, 1 / 256)
    erf = np.vectorize(math.erf)(x / 256 / math.sqrt(2))
    gelu = run("shift_sigmoid", [x], [quant], unit=math.floor(256 / 1.702), gate_bits=15, form="gated")
    assert np.abs(gelu / 256 / 2**15 - x / 512 * (1 + erf)).max() < 0.045
    silu = run("shift_sigmoid", [x], [quant], unit=256, gate_bits=15, form="gated")
    assert np.abs(silu / 256 / 2**15 - x / 256 / (1 + np.exp(-x / 256))).max() < 0.06


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), width=st.integers(2, 60), wide=st.booleans(), spread=st.sampled_from([0.05, 1, 20]))
def test_layer_norm_is_layer_norm(seed, width, wide, spread):
    rng = np.random.default_rng(seed)
    dtype = DType.int16 if wide else DType.int8
    real = rng.normal(0, spread, (4, width)) + spread
    scale = np.abs(real).max() / dtype.max
    quant = QuantParams(dtype, scale)
    x = np.clip(np.rint(real / quant.scale), dtype.min, dtype.max)
    gamma, beta = rng.normal(0, 1, width), rng.normal(0, 1, width)
    out = QuantParams(DType.int16, 8.0 / 32767)
    shift = 29 - math.frexp(float(np.abs(gamma).max() * math.sqrt(width) / out.scale))[1] + 30
    weight = np.rint(gamma * math.sqrt(width) / float(out.scale) * 2.0 ** (shift - 30)).astype(np.int32)
    bias = np.rint(beta / float(out.scale) * 2.0**shift).astype(np.int64)
    fraction = 0 if wide else 8
    y = run("integer_layer_norm", [x, weight, bias], [quant, None, None], quant=out, eps=1, fraction=fraction, shift=shift)
    centre = x - x.mean(-1, keepdims=True)
    deviation = np.sqrt((centre**2).mean(-1, keepdims=True) + 1e-9)
    expected = np.clip(centre / deviation * gamma + beta, -8, 8)
    assert np.abs(y * float(out.scale) - expected).max() < (0.02 if wide else 0.01) * (1 + np.abs(gamma).max())


def test_norms_of_constant_rows_are_beta_and_zero():
    quant, out = QuantParams(DType.int8, 0.1, 3), QuantParams(DType.int8, 0.1)
    x = np.full((2, 4), 9)
    weight, bias = np.full(4, 2**20, np.int32), np.full(4, 5 << 40, np.int64)
    y = run("integer_layer_norm", [x, weight, bias], [quant, None, None], quant=out, eps=1, shift=40)
    assert (y == 5).all()
    assert (run("integer_rms_norm", [np.full((2, 4), 3), weight], [quant, None], quant=out, eps=1, shift=40) == 0).all()
