"""Scales that are powers of two, and Q/DQ that computes the same integers."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.errors import ConstraintError
from qcompiler.executors.reference import run_reference
from qcompiler.ir import DType, GraphBuilder, Level, QuantParams
from qcompiler.passes.base import Context, run_passes
from qcompiler.passes.integer.prove_ranges import ProveConfig, ProveRanges
from qcompiler.passes.integer.snap_scales import SnapScales, even_zero_point
from qcompiler.targets.onnx.power_of_two import real_rescaling
from support.integer_programs import integer_program, stacked
from support.toy_networks import context_for, mobile_network, plan_of, quantize, random_samples, sqnr_db


def is_power(scale: np.ndarray) -> bool:
    return bool((np.frexp(scale)[0] == 0.5).all())


def test_every_scale_becomes_a_power_of_two():
    graph = mobile_network(1)
    context = context_for(graph)
    quantize(graph, context, extra=(SnapScales(),))
    plan = plan_of(context)
    assert all(is_power(q.scale) and int(q.zero_point) % 2 == 0 for q in plan.activations.values())
    assert all(is_power(w.quant.scale) and np.abs(w.codes).max() <= 127 for w in plan.weights.values())


def test_ranges_are_kept_but_for_the_share_that_may_be_cut_off():
    graph = mobile_network(2)
    before, after = context_for(graph), context_for(graph)
    quantize(graph, before)
    quantize(graph, after, extra=(SnapScales(),))

    def ends(quant):
        return ((np.array([quant.dtype.min, quant.dtype.max]) - int(quant.zero_point)) * float(quant.scale)).tolist()

    for value, quant in plan_of(before).activations.items():
        (low, high), (new_low, new_high) = ends(quant), ends(plan_of(after).activations[value])
        slack = 0.06 * (high - low)
        assert new_low <= low + slack and new_high >= high - slack


def test_programs_shift_only_but_for_the_mean():
    graph = mobile_network(0)
    program = integer_program(graph, profile="shift_half_even")
    others = [n for n in program.nodes if n.attrs.get("rounding") == "dyadic"]
    assert all(program.producer(n.operands[0]).op == "reduce_mean" for n in others)
    samples = random_samples(graph, 5, seed=9)
    assert sqnr_db(stacked(graph, samples), stacked(program, samples)) > 28


def test_real_rescaling_gives_the_same_integers():
    program = integer_program(mobile_network(3), profile="shift_half_even")
    real = real_rescaling(program)
    assert real.level is Level.LEGAL
    assert "float32_half_even" in {n.attrs.get("rounding") for n in real.nodes}
    rng = np.random.default_rng(0)
    for _ in range(4):
        codes = [rng.integers(-128, 128, v.shape).astype(np.int8) for v in program.inputs]
        np.testing.assert_array_equal(run_reference(program, codes)[0], run_reference(real, codes)[0])
    inner = {v.dtype for n in real.nodes for v in n.outputs if not real.is_output(v)}
    assert inner == {DType.uint8, DType.int32} and real.outputs[0].dtype is DType.int8


def test_accumulators_beyond_float32_keep_integer_rescaling_and_may_be_refused():
    b = GraphBuilder("wide", Level.INTEGER)
    x = b.input("x", DType.int8, (1, 2000), QuantParams(DType.int8, 0.5))
    w = b.const(np.full((2, 2000), 127, np.int8), quant=QuantParams(DType.int8, 0.25))
    acc = b.op("linear", x, w, None)
    one, shift = b.const(np.asarray(1)), b.const(np.asarray(12))
    out = b.op("requantize", acc, one, shift, quant=QuantParams(DType.int8, 512.0), rounding="shift_half_even")
    program = b.build([out])
    assert [n.attrs["rounding"] for n in real_rescaling(program).nodes if n.op == "requantize"] == ["shift_half_even"]
    with pytest.raises(ConstraintError, match="where 25 are available"):
        run_passes(program, [ProveRanges(ProveConfig(accumulator_bits=25))], Context())


def test_programs_of_other_profiles_are_left_alone():
    program = integer_program(mobile_network(0))
    assert real_rescaling(program) is program


@pytest.mark.parametrize(("at", "zero"), [(-128.0, -128), (127.0, 126), (0.9, 0), (1.1, 2), (-500.0, -128)])
def test_even_zero_points(at, zero):
    assert even_zero_point(at, DType.int8) == zero
