"""From QUANTIZED to INTEGER: what becomes of codes, borders and rescaling, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.calibration import load_samples
from qcompiler.errors import GraphError, UnsupportedError
from qcompiler.executors.reference import run_reference
from qcompiler.ir import DType, Graph, GraphBuilder, Level, QuantParams, verify_graph
from qcompiler.passes.base import Context
from qcompiler.passes.integer.config import IntegerConfig
from qcompiler.passes.integer.integerize import profile_for
from qcompiler.passes.integer.rescaling import Profile
from support.integer_programs import integer_program, real_outputs, stacked
from support.toy_networks import (
    Layers,
    ToyTarget,
    context_for,
    mobile_network,
    quantize,
    random_samples,
    sqnr_db,
)

PROFILES = [("dyadic", 31), ("dyadic", 17), ("dyadic", 15), ("dyadic_double", 31)]


@pytest.mark.parametrize(("profile", "mult_bits"), PROFILES)
def test_a_network_becomes_integers_in_every_profile(profile, mult_bits):
    graph = mobile_network(3)
    context = context_for(graph)
    quantized = quantize(graph, context)
    program = integer_program(graph, profile=profile, mult_bits=mult_bits)
    assert program.level is Level.INTEGER
    verify_graph(program)
    samples = random_samples(graph, 6, seed=9)
    # The same codes and scales: only roundings and the 8-bit logits differ.
    assert sqnr_db(stacked(quantized, samples), stacked(program, samples)) > 36
    requantized = [n for n in program.nodes if n.op == "requantize"]
    assert requantized and all(n.attrs["rounding"] == profile for n in requantized)
    multipliers = [int(n.inputs[1].data.max()) for n in requantized]
    assert max(multipliers) < 2**mult_bits


def test_codes_are_int8_at_the_borders_and_inside():
    program = integer_program(mobile_network(0))
    (image,), (logits,) = program.inputs, program.outputs
    assert image.dtype is DType.int8 and image.quant is not None
    assert logits.dtype is DType.int8 and logits.quant is not None
    types = {v.dtype for n in program.nodes for v in n.outputs}
    assert types == {DType.int8, DType.int32}


def test_sums_of_int8_codes_fit_32_bits():
    program = integer_program(mobile_network(1))
    (node,) = [n for n in program.nodes if n.op == "requantize_sum"]
    zeros = [int(v.quant.zero_point) for v in node.operands]
    peaks = [max(127 - zero, zero + 128) for zero in zeros]
    total = sum(abs(m) * p for m, p in zip(node.attrs["multipliers"], peaks, strict=True)) + (1 << (node.attrs["shift"] - 1))
    assert total < 2**31
    assert max(map(abs, node.attrs["multipliers"])) >= 2**16


def test_pools_concat_and_resize():
    b = Layers("pools")
    x = b.input("image", DType.float32, (1, 4, 8, 8))
    a = b.op("relu", b.conv(x, 4, 3))
    p = b.op("avg_pool", a, kernel=(2, 2), strides=(2, 2), pads=(0, 0, 0, 0))
    m = b.op("max_pool", a, kernel=(2, 2), strides=(2, 2), pads=(0, 0, 0, 0))
    u = b.op("resize", b.op("concat", p, m, axis=1), size=(8, 8), mode="nearest")
    y = b.op("sub", b.conv(u, 4), b.conv(a, 4))
    graph = b.build([b.conv(b.op("pad", y, pads=(0, 0, 1, 1, 0, 0, 1, 1)), 3)])
    context = context_for(graph)
    quantized, program = quantize(graph, context), integer_program(graph)
    samples = random_samples(graph, 5, seed=2)
    # The mean is rounded to codes where the quantized graph has it real, one code in places; neither is nearer to float.
    real, codes, integers = (stacked(g, samples) for g in (graph, quantized, program))
    assert sqnr_db(codes, integers) > 30 and sqnr_db(real, integers) > sqnr_db(real, codes) - 0.5
    # Kernels read 8 bits; only the two terms of the sum are kept in 16 until they are added.
    wide = [v for n in program.nodes for v in n.outputs if v.dtype not in (DType.int8, DType.int32)]
    assert {v.dtype for v in wide} == {DType.int16} and len(wide) == 2
    assert {user.op for v in wide for user, _ in program.uses(v)} == {"requantize_sum"}


def test_every_op_without_an_integer_form_is_listed():
    b = Layers("odd")
    x = b.input("x", DType.float32, (1, 4, 8, 8))
    y = b.op("batch_norm", b.conv(x, 4, at="stem"), *[b.const(np.ones(4, np.float32)) for _ in range(2)], eps=1e-5)
    y = b.op("resize", b.conv(y, 4, at="up"), size=(16, 16), mode="linear")
    graph = b.build([b.conv(y, 2, at="last")])
    with pytest.raises(UnsupportedError) as error:
        integer_program(graph)
    assert error.value.exit_code == 4
    text = str(error.value)
    assert "batch_norm at stem" in text and "no integer form" in text


def test_forms_that_have_none_are_all_listed_with_the_reason():
    b = Layers("odd")
    x = b.input("x", DType.float32, (1, 4, 8, 8))
    y = b.op("resize", b.conv(x, 4, at="up"), size=(16, 16), mode="linear")
    y = b.op("avg_pool", b.conv(y, 4, at="pool"), kernel=(3, 3), strides=(1, 1), pads=(1, 1, 1, 1), count_include_pad=False)
    graph = b.build([b.conv(y, 2, at="last")])
    with pytest.raises(UnsupportedError, match="2 ops have no integer form") as error:
        integer_program(graph)
    assert "resize at up: resize mode linear" in str(error.value) and "avg_pool at pool" in str(error.value)


def test_verifier_refuses_floats_at_integer_level():
    quant = QuantParams(DType.int8, 0.5, 0)
    b = GraphBuilder("g", Level.INTEGER)
    x = b.input("x", DType.int8, (2, 3), quant)
    padded = Graph("g", b.inputs, [], [x], level=Level.INTEGER)
    verify_graph(padded)
    b.op("pad", x, pads=(0, 1, 0, 1), value=0.5)
    with pytest.raises(GraphError, match="attribute value is 0.5, not whole"):
        verify_graph(b.build([b.nodes[-1].output]))
    b.op("dequantize", x)
    with pytest.raises(GraphError, match="float32 value at level integer"):
        verify_graph(b.build([b.nodes[-1].output]))


def test_double_rounding_has_31_bits():
    with pytest.raises(ValueError, match="31 bits"):
        IntegerConfig(profile="dyadic_double", mult_bits=17)


def test_tokens_pass_the_border_unchanged():
    b = Layers("tokens")
    ids = b.input("ids", DType.int64, (1, 5))
    table = b.const(b.random(11, 8))
    graph = b.build([b.linear(b.op("gather", table, ids), 4)])
    rng = np.random.default_rng(0)
    from qcompiler.calibration import load_samples

    samples = load_samples([(rng.integers(0, 11, (1, 5)),) for _ in range(6)], graph)
    context = context_for(graph)
    context.samples = samples
    program = integer_program(graph, context)
    assert program.inputs[0].dtype is DType.int64 and program.inputs[0].quant is None
    assert sqnr_db(stacked(graph, samples), stacked(program, samples)) > 30
    assert run_reference(program, samples[0])[0].dtype == np.int8


def test_rows_of_a_table_keep_their_codes_and_scales():
    """An embedding in 8-bit codes with a scale per row: the codes stay as they are."""
    b = Layers("embedding")
    ids = b.input("ids", DType.int64, (1, 4))
    table = b.rng.integers(-127, 128, (9, 8)).astype(np.int8)
    rows = b.op("cast", b.op("gather", b.const(table), ids, axis=0), dtype=DType.float32)
    scales = b.op("gather", b.const(np.linspace(0.01, 0.02, 9, dtype=np.float32)[:, None]), ids, axis=0)
    graph = b.build([b.linear(b.op("mul", rows, scales), 5)])
    context = Context(target=ToyTarget(), samples=load_samples([(np.array([[k, 8 - k, 3, 5]]),) for k in range(9)], graph))
    quantized, program = quantize(graph, context), integer_program(graph, context=context)
    verify_graph(program)
    kept = [v for n in program.nodes if n.op == "gather" for v in n.operands if v.data is not None and v.dtype is DType.int8]
    assert len(kept) == 1 and np.array_equal(kept[0].data, table)
    arrays = [np.array([[8, 0, 3, 3]])]
    assert sqnr_db(run_reference(quantized, arrays)[0], real_outputs(program, arrays)[0]) > 36


@pytest.mark.parametrize("mult_bits", [17, 31])
def test_factors_of_a_layer_share_the_shift_of_the_largest(mult_bits):
    real = np.array([[0.011, 0.0007], [1e-9, 0.0109]])
    m, s = Profile("dyadic", mult_bits, one_shift=True).factors(real)
    alone, shift = Profile("dyadic", mult_bits).factors(real)
    assert (s == shift[0, 0]).all() and m[0, 0] == alone[0, 0] and 1 << (mult_bits - 1) <= m.max() < 1 << mult_bits
    error = np.abs(m / 2.0**s - real)
    assert (error <= 2.0 ** -(s[0, 0] + 1)).ravel()[[0, 1, 3]].all()
    assert m[1, 0] == max(1, round(1e-9 * 2.0 ** s[0, 0]))


def test_powers_of_two_keep_a_shift_per_channel():
    m, s = Profile("shift_half_even", 17, one_shift=True).factors(np.array([0.25, 0.5]))
    assert m.tolist() == [1, 1] and s.tolist() == [2, 1]


def test_a_target_with_narrow_multipliers_gets_them():
    narrow = ToyTarget(mult_bits=17, capabilities=frozenset({"one_shift_per_layer"}))
    assert profile_for(IntegerConfig(), narrow) == Profile("dyadic", 17, True)
    assert profile_for(IntegerConfig(mult_bits=15), narrow).mult_bits == 15
    assert profile_for(IntegerConfig(), None) == Profile("dyadic", 31)
