"""Softmax, attention, norms and activation functions as integer programs."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.errors import UnsupportedError, UsageError
from qcompiler.executors.reference import run_reference
from qcompiler.ir import DType, Graph
from qcompiler.passes.base import Context, run_passes
from qcompiler.passes.integer import integer_passes
from qcompiler.passes.integer.config import IntegerConfig
from qcompiler.passes.integer.intervals import intervals
from support.integer_encoder import encoder, sentences
from support.integer_programs import integer_program, real_outputs, stacked
from support.toy_networks import Layers, ToyTarget, context_for, quantize, random_samples, sqnr_db


def compiled(graph: Graph, **config):
    """(QUANTIZED program, INTEGER program, notes of integerize)."""
    context = Context(target=ToyTarget(), samples=sentences(graph))
    quantized = quantize(graph, context)
    program, steps = run_passes(quantized, integer_passes({"integerize": IntegerConfig(**config)}), context, verify_each=True)
    return quantized, program, steps[0].notes


def error_db(quantized, program, samples, output=1) -> float:
    pairs = [(real_outputs(quantized, s)[output], real_outputs(program, s)[output], s[1][0] > 0) for s in samples]
    expected = np.concatenate([q[0][m] for q, _, m in pairs])
    return sqnr_db(expected, np.concatenate([p[0][m] for _, p, m in pairs]))


@pytest.mark.parametrize(
    "options",
    [{}, {"activation": "silu", "causal": True, "norm": "rms_norm"}, {"activation": "tanh"}],
    ids=["gelu", "silu-causal-rms", "tanh"],
)
def test_an_encoder_becomes_integers(options):
    graph = encoder(**options)
    quantized, program, notes = compiled(graph)
    samples = sentences(graph, 5, seed=7)
    assert error_db(quantized, program, samples) > 24
    assert program.outputs[0].dtype is DType.int8 and program.outputs[1].dtype is DType.int16
    # Each nonlinear function reports the error of every form it could have had.
    assert {n.site.split(" at ")[0] for n in notes} == {options.get("activation", "gelu"), options.get("norm", "layer_norm"), "attention"}
    assert all(n.data["form"] and any(k.endswith("_sqnr_db") for k in n.data) for n in notes)
    found = intervals(program)
    def look(value, array):
        low, high = found[value]
        assert low <= array.min(initial=high) and array.max(initial=low) <= high, value
    run_reference(program, samples[0], taps=set(program.values()), on_value=look)


@pytest.mark.parametrize(
    ("config", "ops", "least"),
    [
        ({"softmax": "shift", "activation": "shift"}, {"shiftmax", "shift_sigmoid"}, 15),
        ({"softmax": "log2", "activation": "interpolated"}, {"log2_softmax", "lookup_interpolated"}, 10),
        ({"activation": "lookup", "residual_bits": 8}, {"lookup", "softmax_lookup"}, 8),
        ({"profile": "dyadic_double"}, {"softmax_lookup"}, 24),
        ({"mult_bits": 15}, {"softmax_lookup"}, 24),
    ],
    ids=["shift", "log2", "lookup", "double", "15-bits"],
)
def test_forms_asked_for_by_name(config, ops, least):
    graph = encoder()
    quantized, program, _ = compiled(graph, **config)
    assert ops <= {n.op for n in program.nodes}
    assert error_db(quantized, program, sentences(graph, 4, seed=7)) > least


@pytest.mark.parametrize("capabilities", [frozenset(), frozenset({"accumulator_to_float"})], ids=["codes", "accumulators"])
@pytest.mark.parametrize(("spread", "config", "bits"), [
    (1.0, {}, 8), (60.0, {}, 16), (60.0, {"function_bits": 8}, 8), (1.0, {"function_bits": 16}, 16),
    (60.0, {"activation": "lookup"}, 8), (1.0, {"activation": "interpolated"}, 16),
])
def test_a_function_reads_16_bits_where_8_cost_too_much(capabilities, spread, config, bits):
    """Behind a linear layer with a wide range, as the codes or the accumulators of which a target gives the function."""
    b = Layers("wide")
    x = b.input("x", DType.float32, (4, 16))
    outlier = np.where(np.arange(16) == 3, spread, 1.0).astype(np.float32)
    w, bias = b.const(b.random(16, 16, scale=0.25) * outlier[:, None]), b.const(4 * (1 - outlier))  # all but 0 behind GELU
    graph = b.build([b.linear(b.op("gelu", b.op("linear", x, w, bias)), 6)])
    context = context_for(graph, target=ToyTarget(capabilities=capabilities))
    quantized = quantize(graph, context)
    program, _ = run_passes(quantized, integer_passes({"integerize": IntegerConfig(**config)}), context, verify_each=True)
    (node,) = [n for n in program.nodes if n.op in ("lookup", "lookup_interpolated", "shift_sigmoid")]
    assert node.operands[0].dtype.bits == bits


@pytest.mark.parametrize("op", ["sigmoid", "hard_swish", "hard_sigmoid", "silu", "tanh", "exp", "abs"])
def test_functions_of_8_bit_codes_are_tables_that_round_once(op):
    b = Layers("f")
    x = b.input("x", DType.float32, (1, 4, 6, 6))
    y = b.op(op, b.conv(x, 4, at="first"))
    graph = b.build([b.conv(y, 3, at="last")])
    context = context_for(graph)
    quantized, program = quantize(graph, context), integer_program(graph)
    (node,) = [n for n in program.nodes if n.op == "lookup"]
    assert node.output.dtype is DType.int8
    samples = random_samples(graph, 4, seed=5)
    assert sqnr_db(stacked(quantized, samples), stacked(program, samples)) > 34


def test_functions_that_are_not_finite_for_all_codes_saturate():
    """Codes hold numbers below 1 too, which a logarithm of 1 + relu never sees; but a reciprocal may not pass 0."""
    b = Layers("log")
    x = b.conv(b.input("x", DType.float32, (1, 4, 6, 6)), 4, at="first")
    y = b.op("log", b.op("add", b.op("relu", x), b.const(np.float32(1))))
    b.origin = type(b.origin)("inverse")
    inverse = b.op("reciprocal", b.op("add", x, b.const(np.float32(1.234e-3))))
    graph = b.build([b.conv(y, 3, at="last")])
    quantized, program = quantize(graph, context_for(graph)), integer_program(graph)
    samples = random_samples(graph, 4, seed=5)
    assert sqnr_db(stacked(quantized, samples), stacked(program, samples)) > 34
    with pytest.raises(UnsupportedError, match=r"reciprocal at inverse.*not finite on the range of its operand, -.* to .*clamp"):
        integer_program(b.build([inverse]))


def test_gates_multiply_two_activations():
    b = Layers("se")
    x = b.conv(b.input("x", DType.float32, (1, 4, 6, 6)), 8, at="stem")
    gate = b.op("sigmoid", b.conv(b.op("reduce_mean", x, axes=(2, 3), keepdims=True), 8, at="gate"))
    graph = b.build([b.conv(b.op("mul", x, gate), 3, at="last")])
    context = context_for(graph)
    quantized, program = quantize(graph, context), integer_program(graph)
    assert "integer_mul" in {n.op for n in program.nodes}
    samples = random_samples(graph, 4, seed=5)
    assert sqnr_db(stacked(quantized, samples), stacked(program, samples)) > 34


def test_constants_factors_and_choices():
    b = Layers("arithmetic")
    x = b.linear(b.input("x", DType.float32, (2, 6)), 6, at="first")
    half = b.op("div", b.op("mul", x, b.const(np.float32(0.3))), b.const(np.float32(1.7)))
    shifted = b.op("sub", half, b.const(b.random(6)))
    chosen = b.op("where", b.const(np.array([True, False, True, False, True, True])), shifted, b.op("relu", x))
    graph = b.build([b.linear(b.op("clip", chosen, min=-0.5, max=0.75), 4, at="last")])
    context = context_for(graph)
    quantized, program = quantize(graph, context), integer_program(graph)
    samples = random_samples(graph, 6, seed=5)
    assert sqnr_db(stacked(quantized, samples), stacked(program, samples)) > 30


def test_masks_of_real_numbers_are_refused():
    b = Layers("masked")
    x = b.input("x", DType.float32, (1, 5, 8))
    mask = b.input("mask", DType.float32, (1, 1, 1, 5))
    heads = [b.op("reshape", b.linear(x, 8, at=n), shape=(1, 1, 5, 8)) for n in "qkv"]
    b.origin = type(b.origin)("attention")
    graph = b.build([b.linear(b.op("attention", *heads, mask), 4, at="out")])
    with pytest.raises(UnsupportedError, match="attention at attention.*truth values"):
        integer_program(graph)


def test_choices_of_a_lock_are_repeated_without_measuring(monkeypatch):
    graph = encoder()
    context = Context(target=ToyTarget(), samples=sentences(graph))
    quantized = quantize(graph, context)
    program = run_passes(quantized, integer_passes({}), context)[0]
    locked = Context(target=ToyTarget(), samples=sentences(graph), locked={"integerize": context.decisions["integerize"]})
    monkeypatch.setattr("qcompiler.passes.integer.measured_choice.measure", lambda *a: pytest.fail("measured"))
    again = run_passes(quantized, integer_passes({}), locked)[0]
    assert str(again) == str(program)
    assert locked.decisions["integerize"] == context.decisions["integerize"]
    locked.locked = {"integerize": context.decisions["integerize"][1:]}
    with pytest.raises(UsageError, match="lock file's choice for layer_norm at 0.norm1"):
        run_passes(quantized, integer_passes({}), locked)
