"""Interval analysis: no run leaves its interval, and what could overflow does not compile."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.errors import ConstraintError
from qcompiler.executors.reference import run_reference
from qcompiler.ir import DType, Graph, GraphBuilder, Level, Origin, QuantParams
from qcompiler.passes.base import Context, run_passes
from qcompiler.passes.integer.intervals import accumulator_bits, analyse, bits_for, intervals
from qcompiler.passes.integer.prove_ranges import ProveConfig, ProveRanges
from support.integer_programs import integer_program
from support.toy_networks import mobile_network


def inside(program: Graph, arrays) -> None:
    """Run the reference and compare every value with its interval."""
    found = intervals(program)
    seen = []

    def look(value, array):
        low, high = found[value]
        seen.append(value)
        assert array.size == 0 or (low <= int(array.min()) and int(array.max()) <= high), value

    run_reference(program, arrays, taps=set(program.values()), on_value=look)
    assert len(seen) >= len(program.nodes)


def codes(rng, value, extreme: bool) -> np.ndarray:
    low, high = value.dtype.min, value.dtype.max
    if extreme:
        return rng.choice([low, high], value.shape).astype(value.dtype.numpy)
    return rng.integers(low, high, value.shape, endpoint=True).astype(value.dtype.numpy)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), network=st.integers(0, 2), extreme=st.booleans())
def test_no_run_leaves_its_interval(seed, network, extreme):
    program = PROGRAMS[network]()
    rng = np.random.default_rng(seed)
    inside(program, [codes(rng, v, extreme) for v in program.inputs])


def _cached(build):
    found = []

    def get():
        if not found:
            found.append(build())
        return found[0]

    return get


PROGRAMS = [
    _cached(lambda: integer_program(mobile_network(0))),
    _cached(lambda: integer_program(mobile_network(4), mult_bits=15)),
    _cached(lambda: integer_program(mobile_network(2), profile="dyadic_double")),
]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), zero=st.integers(-128, 127), bits=st.integers(2, 8), channels=st.integers(1, 9),
    extreme=st.booleans(),
)  # fmt: skip
def test_accumulators_reach_their_bounds_and_not_more(seed, zero, bits, channels, extreme):
    rng = np.random.default_rng(seed)
    b = GraphBuilder("g", Level.INTEGER)
    x = b.input("x", DType.int8, (1, channels), QuantParams(DType.int8, 0.1, zero))
    top = 2 ** (bits - 1)
    w = b.const(rng.integers(-top, top, (3, channels)), quant=QuantParams(DType.int8, 0.1))
    bias = b.const(rng.integers(-5000, 5000, 3).astype(np.int32))
    program = b.build([b.op("linear", x, w, bias)])
    low, high = intervals(program)[program.outputs[0]]
    inside(program, [codes(rng, x, extreme)])
    # The bound is attained: by the sign pattern of a row's weights.
    best = [run_reference(program, [np.where(r[None] > 0, 127, -128).astype(np.int8)])[0][0] for r in w.data]
    assert max(row[i] for i, row in enumerate(best)) <= high
    if -128 <= zero <= 127 and (w.data != 0).all():
        assert max(int(row[i]) for i, row in enumerate(best)) == high
    assert low <= high


def wide_linear(channels: int, bias: int = 0) -> Graph:
    b = GraphBuilder("wide", Level.INTEGER)
    b.origin = Origin("encoder.fc", "net.py:7")
    x = b.input("x", DType.int16, (1, channels), QuantParams(DType.int16, 0.1))
    w = b.const(np.full((2, channels), 127, np.int8), quant=QuantParams(DType.int8, 0.1))
    return b.build([b.op("linear", x, w, b.const(np.full(2, bias, np.int32)))])


def test_overflow_names_module_bound_and_remedy():
    assert accumulator_bits(wide_linear(500))
    with pytest.raises(ConstraintError) as error:
        analyse(wide_linear(600))
    text = str(error.value)
    assert "linear at encoder.fc (net.py:7)" in text and "-2496921600" in text and "Remedy" in text and "33 bits" in text
    assert error.value.exit_code == 3


def test_bias_counts():
    with pytest.raises(ConstraintError, match="accumulator"):
        analyse(wide_linear(510, bias=2**31 - 1))


def test_a_program_may_be_held_to_narrower_accumulators():
    program = integer_program(mobile_network(0))
    widest = max(accumulator_bits(program).values())
    context = Context()
    result, steps = run_passes(program, [ProveRanges(ProveConfig(accumulator_bits=widest))], context)
    assert result is program and {"low", "high", "bits_needed", "bits"} <= set(steps[0].notes[0].data)
    with pytest.raises(ConstraintError, match=f"{widest - 1} are available"):
        run_passes(program, [ProveRanges(ProveConfig(accumulator_bits=widest - 1))], context)


@pytest.mark.parametrize(("low", "high", "bits"), [(0, 0, 1), (-1, 0, 1), (0, 1, 2), (-128, 127, 8), (-129, 0, 9), (0, 128, 9)])
def test_bits_of_a_range(low, high, bits):
    assert bits_for(low, high) == bits
