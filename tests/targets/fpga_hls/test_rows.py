"""Softmax, norms, products of two activations and constants in C simulation, beside the reference interpreter."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.ir import DType, Graph, QuantParams, Value
from qcompiler.targets.fpga_hls.emit import plan_network
from qcompiler.targets.fpga_hls.parts import parse_option
from qcompiler.targets.fpga_hls.row_units import Constant, Mixture, Normalize, Scores, Softmax
from qcompiler.targets.fpga_hls.runtime import SimulationSession
from qcompiler.targets.fpga_hls.verify import verify_simulation
from support.integer_networks import IntegerLayers, int8, random_codes
from support.tools import requires_tool

OPTION = parse_option("")
PROBABILITIES = QuantParams(DType.int8, np.float32(1 / 256), np.int32(-128))
TOKENS, HEADS, WIDTH = 5, 2, 6


def narrowed(b: IntegerLayers, acc: Value, quant: QuantParams, shift: int) -> Value:
    """Codes of accumulators, one factor."""
    return b.op("requantize", acc, b.const(np.int64(91_234)), b.const(np.int64(shift)), quant=quant, rounding="dyadic")


def block(softmax: str, norm: str) -> Graph:
    """Positions, norm, attention, residual sum, gate by channel, norm."""
    b = IntegerLayers(f"block_{softmax}", 3)
    wide, features = QuantParams(DType.int16, np.float32(0.001)), HEADS * WIDTH
    given = b.codes("x", 1, TOKENS, features)
    places = b.const(b.rng.integers(-9000, 9000, (1, TOKENS, features)).astype(np.int16), quant=wide, name="positions")
    x = b.op("requantize_sum", given, places, quant=wide, rounding="dyadic", multipliers=(70_000, -99_999), shift=14)
    weight = b.const(b.rng.integers(-(1 << 28), 1 << 28, features).astype(np.int32))
    bias = b.const(b.rng.integers(-(1 << 50), 1 << 50, features).astype(np.int64))
    operands = (weight, bias) if norm == "integer_layer_norm" else (weight,)
    h = b.op(norm, x, *operands, quant=int8(0.02, -7), eps=77, fraction=2, shift=51)
    q, k, v = (
        b.op("transpose", b.op("reshape", b.linear(h, features, zero, at=name), shape=(1, TOKENS, HEADS, WIDTH)), perm=(0, 2, 1, 3))
        for name, zero in (("q", 3), ("k", -4), ("v", 9))
    )
    step = 1 / 64
    scores = narrowed(b, b.op("matmul", q, b.op("transpose", k, perm=(0, 1, 3, 2))), QuantParams(DType.int16, np.float32(step)), 23)
    if softmax == "softmax_lookup":
        table = np.rint(32767 * np.exp(-step * np.arange(700))).astype(np.int16)
        p = b.op("softmax_lookup", scores, b.const(table), None, quant=PROBABILITIES)
    else:
        p = b.op("shiftmax", scores, None, quant=PROBABILITIES, unit=64, bits=15)
    y = narrowed(b, b.op("matmul", p, v), int8(0.02, 5), 24)
    y = b.op("reshape", b.op("transpose", y, perm=(0, 2, 1, 3)), shape=(1, TOKENS, features))
    x = b.op("requantize_sum", x, b.linear(y, features), quant=wide, rounding="dyadic", multipliers=(60_000, 90_001), shift=16)
    gate = b.const(b.rng.integers(-3000, 3000, features).astype(np.int16), quant=QuantParams(DType.int16, np.float32(0.001), np.int32(4)))
    return b.graph(narrowed(b, b.op("integer_mul", x, gate), int8(0.02), 35), x)


@pytest.mark.parametrize(("softmax", "norm"), [("softmax_lookup", "integer_layer_norm"), ("shiftmax", "integer_rms_norm")])
def test_a_transformer_block(softmax: str, norm: str) -> None:
    requires_tool("g++")
    graph = block(softmax, norm)
    session = SimulationSession(graph, OPTION)
    kinds = {type(u) for u in session.plan.dataflow.units}
    assert {Constant, Mixture, Normalize, Scores, Softmax} <= kinds
    found = verify_simulation(graph, session, [random_codes(graph, seed) for seed in range(5)])
    found.check()
    assert sum(c.values for c in found.ops["C simulation"]) > 3000


def test_what_waits_for_a_stored_operand_has_room_for_a_frame() -> None:
    network = plan_network(block("shiftmax", "integer_layer_norm"), OPTION).dataflow
    scores = next(u for u in network.units if isinstance(u, Scores))
    first, second = network.into(scores)
    assert first.depth == network.port(first).words == TOKENS * HEADS * WIDTH // network.port(first).lanes
    assert second.depth == 2
    forked = [e for e in network.edges if e.source.endswith("fork")]
    assert forked and all(e.depth == network.port(e).words for e in forked)
