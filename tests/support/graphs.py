"""Random small graphs for round-trip and rewrite tests."""

from __future__ import annotations

import numpy as np

from qcompiler.ir import DType, Graph, GraphBuilder, Level, Origin, QuantParams, Value
from qcompiler.ir.dims import symbol

NAMES = ["x", "fc.weight", "a b", "é", "_", "", "0", "model/layer:0", "x"]
MODULES = [
    "",
    "encoder.layer.3",
    'odd "quotes" \\ and\nnewline',
    "ünïcode\u2028",
    "a%b: float32[1] = relu(_) {} !{}",
]


def random_graph(seed: int, quantized: bool = False) -> Graph:
    """A verifiable graph of 3 to 12 nodes over [batch, 4, 6] values, deterministic in the seed."""
    rng = np.random.default_rng(seed)
    b = GraphBuilder(f'g"{seed}"', Level.QUANTIZED if quantized else Level.FLOAT)
    shape = (symbol("batch"), 4, 6)
    live = [b.input(n, DType.float32, shape) for n in ("x", "y")]
    shared = b.const(rng.normal(size=(6, 6)).astype(np.float32), name="shared")
    for _ in range(rng.integers(3, 12)):
        b.origin = Origin(
            str(rng.choice(MODULES)), str(rng.choice(["", "net.py:12"])), ("fold", "fuse")[: rng.integers(3)]
        )
        live.append(_step(b, rng, live, shared, quantized))
    return b.build(live[-2:], ['out "0"', "out\n1"])


def _step(
    b: GraphBuilder, rng: np.random.Generator, live: list[Value], shared: Value, quantized: bool
) -> Value:
    pick = lambda: live[rng.integers(len(live))]  # noqa: E731
    name = str(rng.choice(NAMES))
    kind = int(rng.integers(8 if quantized else 7))
    if kind == 0:
        return b.op("add", pick(), pick(), name=name)
    if kind == 1:
        return b.op("mul", pick(), b.const(rng.normal(size=rng.choice([1, 6])).astype(np.float32)), name=name)
    if kind == 2:
        return b.op("linear", pick(), shared, None, name=name)
    if kind == 3:
        return b.op("clip", pick(), min=float(rng.choice([-np.inf, -0.1])), max=None, name=name)
    if kind == 4:
        turned = b.op("transpose", pick(), perm=(0, 2, 1))
        return b.op("reshape", turned, shape=live[0].shape, name=name)
    if kind == 5:
        halves = [b.op("slice", pick(), axis=-1, start=i, step=2) for i in (0, 1)]
        return b.op("concat", *halves, axis=2, name=name)
    if kind == 6:
        return b.op(
            "where", b.op("less", pick(), pick()), pick(), b.const(np.float32(rng.normal())), name=name
        )
    return _integer_linear(b, rng, pick(), name)


def _integer_linear(b: GraphBuilder, rng: np.random.Generator, x: Value, name: str) -> Value:
    """Quantize -> linear -> requantize -> dequantize with a per-channel weight."""
    codes = b.op("quantize", x, quant=QuantParams(DType.uint8, 0.03, 128))
    wq = QuantParams(DType.int8, rng.uniform(0.01, 0.02, 6), np.zeros(6, np.int32), axis=0)
    weight = b.const(rng.integers(-127, 128, (6, 6)), quant=wq)
    acc = b.op("linear", codes, weight, b.const(rng.integers(-99, 99, 6).astype(np.int32)), name=name)
    out = QuantParams(DType.int8, 0.05, -3)
    factor = b.const((acc.quant.scale / out.scale).astype(np.float32))
    return b.op(
        "dequantize",
        b.op("requantize", acc, factor, quant=out, rounding="float32_half_even", qmin=-3),
        name=name,
    )
