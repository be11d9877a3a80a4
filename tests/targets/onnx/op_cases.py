"""Small cases for every real op of the op table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qcompiler.ir import OPS, DType, Graph, GraphBuilder, dims

FLOAT_OPS = {name for name, op in OPS.items() if op.category != "quantized"}
S = dims.symbol("s")
B = dims.symbol("b")


@dataclass(frozen=True)
class Arg:
    """One operand: random values of a dtype and (possibly symbolic) shape, or given data."""

    shape: tuple[Any, ...]
    dtype: DType = DType.float32
    low: float = -3.0
    high: float = 3.0
    const: bool = False
    data: Any = None


@dataclass(frozen=True)
class Case:
    """One node over operands; symbols get the sizes in `sizes`."""

    op: str
    args: tuple[Arg | None, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    atol: float = 2e-6
    label: str = ""

    sizes = {"s": 5, "b": 2}

    def __str__(self) -> str:
        return f"{self.op}-{self.label}" if self.label else self.op

    def values(self) -> list[np.ndarray | None]:
        rng = np.random.default_rng([7, *self.op.encode()])
        return [None if a is None else _random(rng, a, self.sizes) for a in self.args]

    def arrays(self) -> list[np.ndarray]:
        return [v for v, a in zip(self.values(), self.args, strict=True) if a is not None and not a.const]


def _random(rng: np.random.Generator, arg: Arg, sizes: dict[str, int]) -> np.ndarray:
    if arg.data is not None:
        return np.asarray(arg.data, arg.dtype.numpy)
    shape = tuple(dims.evaluate(d, sizes) for d in arg.shape)
    if arg.dtype is DType.bool:
        return rng.random(shape) < 0.7
    if arg.dtype.is_float:
        return rng.uniform(arg.low, arg.high, shape).astype(arg.dtype.numpy)
    return rng.integers(max(arg.low, arg.dtype.min), arg.high + 1, shape).astype(arg.dtype.numpy)


def build(case: Case) -> Graph:
    """The case as a graph; symbols that only attributes use come in by an extra input's shape."""
    b = GraphBuilder(case.op)
    operands = []
    for i, (arg, value) in enumerate(zip(case.args, case.values(), strict=True)):
        if arg is None:
            operands.append(None)
        elif arg.const:
            operands.append(b.const(value, arg.dtype, name=f"c{i}"))
        else:
            operands.append(b.input(f"x{i}", arg.dtype, arg.shape))
    return b.build([b.op(case.op, *operands, **case.attrs)], ["y"])


def _a(*shape: Any, **kw: Any) -> Arg:
    return Arg(shape, **kw)


I64, I32, U8, BOOL = DType.int64, DType.int32, DType.uint8, DType.bool
POSITIVE = ("log", "log1p", "sqrt", "rsqrt", "reciprocal")
UNARY = (
    "exp expm1 sin cos tan atan tanh erf sigmoid floor ceil round silu mish hard_sigmoid hard_swish neg abs sign relu"
).split()
BINARY = "add sub mul maximum minimum floor_div mod fmod div".split()
COMPARE = "equal not_equal less less_equal greater greater_equal".split()
POOL = {"kernel": (3, 2), "strides": (2, 2), "pads": (1, 0, 1, 1)}
CONV = {"strides": (2, 1), "pads": (1, 0, 1, 2), "dilations": (1, 2)}

CASES: list[Case] = [
    *[Case(op, (_a(3, S),)) for op in UNARY],
    *[Case(op, (_a(3, 4, low=0.2),)) for op in POSITIVE],
    *[Case(op, (_a(2, 3, 4), _a(3, 1, low=0.5))) for op in BINARY],
    *[Case(op, (_a(2, 6, dtype=I64, low=-9, high=9), _a(6, dtype=I64, low=1, high=4)), label="int64") for op in BINARY],
    *[Case(op, (_a(2, 3, dtype=I32), _a(3, dtype=I32)), label="int32") for op in COMPARE],
    *[Case(op, (_a(2, 3), _a(1, 3))) for op in COMPARE],
    Case("add", (_a(4, dtype=U8, low=0, high=100), _a(4, dtype=U8, low=0, high=100)), label="uint8"),
    Case("equal", (_a(8, dtype=BOOL), _a(8, dtype=BOOL)), label="bool"),
    Case("pow", (_a(3, 4, low=0.1), _a(4)), atol=1e-5),
    *[Case(f"logical_{op}", (_a(3, 4, dtype=BOOL), _a(4, dtype=BOOL))) for op in ("and", "or", "xor")],
    Case("logical_not", (_a(5, dtype=BOOL),)),
    Case("is_nan", (_a(4, data=[0, np.nan, np.inf, -np.inf]),)),
    Case("is_inf", (_a(4, data=[0, np.nan, np.inf, -np.inf]),)),
    Case("neg", (_a(4, dtype=I64),), label="int64"),
    Case("relu", (_a(4, dtype=I64),), label="int64"),
    *[Case("cast", (_a(6),), {"dtype": d}, label=d.name) for d in (I32, I64, BOOL, DType.float16, DType.int8)],
    Case("cast", (_a(6, dtype=BOOL),), {"dtype": DType.float32}, label="bool-float32"),
    *[Case("where", (_a(3, 4, dtype=BOOL), _a(4, dtype=d), _a(3, 1, dtype=d)), label=d.name) for d in (DType.float32, BOOL)],
    Case("clip", (_a(4, 5),), {"min": 0.0, "max": 1.5}),
    Case("clip", (_a(4, 5),), {"max": 1.5}, label="max"),
    Case("clip", (_a(4, 5, dtype=I64, low=-9, high=9),), {"min": -2.0, "max": 3.0}, label="int64"),
    *[Case("gelu", (_a(4, 50),), {"approximate": form}, atol=5e-6, label=form) for form in ("none", "tanh", "sigmoid")],
    Case("softplus", (_a(4, 5, low=-30, high=30),)),
    Case("softplus", (_a(4, 5, low=-30, high=30),), {"beta": 2.0}, label="beta"),
    Case("elu", (_a(4, 5),), {"alpha": 1.3}),
    Case("leaky_relu", (_a(4, 5),), {"slope": 0.2}),
    Case("prelu", (_a(2, 3, 4, 4), _a(3, 1, 1))),
    Case("prelu", (_a(3, 1), _a(3, 4)), label="broadcast"),
    Case("reshape", (_a(2, 6),), {"shape": (3, 4)}),
    Case("reshape", (_a(B, S, 12),), {"shape": (B, S, 3, 4)}, label="heads"),
    Case("reshape", (_a(B, S, 12),), {"shape": (B * S, 12)}, label="flatten"),
    Case("reshape", (_a(B, S, 12),), {"shape": (S, B, 12)}, label="swapped"),
    Case("transpose", (_a(2, S, 4),), {"perm": (2, 0, 1)}),
    Case("expand", (_a(B, 1, 3),), {"shape": (B, 4, 3)}),
    Case("slice", (_a(3, 10),), {"axis": 1, "start": 2, "stop": 9, "step": 3}),
    Case("slice", (_a(3, S),), {"axis": -1, "start": -3}, label="negative"),
    Case("slice", (_a(3, S),), {"axis": 1, "start": 1, "stop": S - 1}, label="symbolic"),
    Case("concat", (_a(2, 3), _a(2, S)), {"axis": 1}),
    Case("pad", (_a(3, 4),), {"pads": (1, 0, 2, 3), "value": 0.5}),
    Case("pad", (_a(3, 4),), {"pads": (-1, 0, 0, -2)}, label="crop"),
    *[Case("pad", (_a(1, 3, 4),), {"pads": (0, 1, 2, 0, 1, 1), "mode": m}, label=m) for m in ("reflect", "edge")],
    Case("gather", (_a(6, 3), _a(2, 4, dtype=I64, low=-6, high=5))),
    Case("gather", (_a(2, 6, 3), _a(4, dtype=I32, low=0, high=5)), {"axis": 1}, label="axis"),
    Case("gather_elements", (_a(4, 3), _a(4, 2, dtype=I64, low=0, high=2)), {"axis": 1}),
    Case("flip", (_a(2, 3, 4),), {"axes": (0, 2)}),
    *[Case("tri", (_a(2, 4, 5, dtype=d),), {"upper": u, "diagonal": 1}, label=f"{d.name}-{u}") for d in (DType.float32, BOOL, I32) for u in (True, False)],
    Case("arange", (), {"stop": 7, "step": 2}),
    Case("full", (), {"shape": (2, 3), "value": 1.5, "dtype": DType.float32}),
    Case("full", (), {"shape": (90, 70), "value": 2, "dtype": I64}, label="large"),
    Case("dim", (), {"value": 3}),
    *[Case(f"reduce_{op}", (_a(2, 3, 4),), {"axes": (-1, 0), "keepdims": k}, label=str(k)) for op in ("sum", "mean", "max", "min", "prod") for k in (True, False)],
    Case("reduce_sum", (_a(2, 3),), label="all"),
    Case("reduce_max", (_a(2, 3, dtype=I64),), {"axes": (1,)}, label="int64"),
    *[Case(f"reduce_{op}", (_a(3, 4, dtype=BOOL),), {"axes": (1,)}) for op in ("any", "all")],
    *[Case(op, (_a(3, 7, dtype=d),), {"axis": 1, "keepdims": d is I64}, label=d.name) for op in ("argmax", "argmin") for d in (DType.float32, I64)],
    *[Case("cumsum", (_a(3, 4, dtype=d),), {"axis": -1}, label=d.name) for d in (DType.float32, I64)],
    Case("linear", (_a(B, S, 6), _a(4, 6, const=True), _a(4, const=True)), atol=2e-5),
    Case("linear", (_a(3, 6), _a(4, 6, const=True), _a(4, const=True)), atol=2e-5, label="2d"),
    Case("linear", (_a(3, 2, 6), _a(4, 6)), atol=2e-5, label="variable"),
    Case("matmul", (_a(2, 3, 4, 5), _a(3, 5, 2)), atol=2e-5),
    Case("conv", (_a(B, 4, 7, 8), _a(6, 2, 3, 3, const=True), _a(6, const=True)), {**CONV, "groups": 2}, atol=1e-4),
    Case("conv", (_a(1, 3, 9), _a(5, 3, 3, const=True)), {"strides": (1,), "pads": (1, 1), "dilations": (1,)}, atol=1e-4, label="1d"),
    Case("conv_transpose", (_a(1, 4, 5, 5), _a(4, 3, 3, 3, const=True), _a(6, const=True)), {"strides": (2, 2), "pads": (1, 1, 1, 1), "dilations": (1, 1), "groups": 2, "output_padding": (1, 0)}, atol=1e-4),
    Case("max_pool", (_a(2, 3, 8, 9),), POOL),
    Case("max_pool", (_a(2, 3, 8, 9),), {**POOL, "ceil_mode": True, "dilations": (2, 1)}, label="ceil"),
    *[Case("avg_pool", (_a(2, 3, 8, 8),), {**POOL, "ceil_mode": c, "count_include_pad": p}, label=f"{c}-{p}") for c in (True, False) for p in (True, False)],
    Case("resize", (_a(1, 2, 5, 6),), {"size": (10, 9)}),
    *[Case("resize", (_a(1, 2, 5, 6),), {"size": (10, 9), "mode": m, "align_corners": c}, atol=2e-5, label=f"{m}-{c}") for m in ("linear", "cubic") for c in (True, False)],
    Case("resize", (_a(1, 2, 6),), {"size": (9,), "mode": "linear"}, label="1d"),
    Case("layer_norm", (_a(B, S, 8), _a(8, const=True), _a(8, const=True)), {"eps": 1e-5}, atol=1e-5),
    Case("layer_norm", (_a(2, 3, 4),), {"eps": 1e-5, "axes": 2}, atol=1e-5, label="bare"),
    Case("rms_norm", (_a(B, S, 8), _a(8, const=True)), {"eps": 1e-6}, atol=1e-5),
    Case("rms_norm", (_a(3, 8),), {"eps": 1e-6}, atol=1e-5, label="bare"),
    Case("batch_norm", (_a(2, 3, 4, 4), _a(3, const=True), _a(3, low=0.5, const=True), _a(3, const=True), _a(3, const=True)), {"eps": 1e-3}, atol=1e-5),
    Case("batch_norm", (_a(2, 3, 4), _a(3, const=True), _a(3, low=0.5, const=True)), {"eps": 1e-3}, atol=1e-5, label="bare"),
    Case("group_norm", (_a(B, 6, 3, 3), _a(6, const=True), _a(6, const=True)), {"groups": 2, "eps": 1e-5}, atol=1e-5),
    *[Case(op, (_a(2, 3, 5),), {"axis": 1}) for op in ("softmax", "log_softmax")],
    Case("attention", (_a(B, 4, S, 8), _a(B, 4, S, 8), _a(B, 4, S, 8)), atol=1e-5),
    Case("attention", (_a(2, 4, 3, 8), _a(2, 2, 5, 8), _a(2, 2, 5, 6), _a(2, 1, 1, 5, dtype=BOOL, data=[[[[1, 1, 1, 0, 1]]], [[[1, 1, 1, 1, 1]]]])), {"scale": 0.3}, atol=1e-5, label="grouped-bool"),
    Case("attention", (_a(B, 4, S, 8), _a(B, 2, S, 8), _a(B, 2, S, 8), _a(B, 1, S, S)), {"causal": True}, atol=1e-5, label="causal"),
    Case("attention", (_a(2, 4, 3, 8), _a(2, 4, 3, 8), _a(2, 4, 3, 8)), {"causal": True}, atol=1e-5, label="causal-static"),
    *[Case("rotary", (_a(2, 3, S, 8), _a(S, w), _a(S, w)), {"interleaved": i}, atol=1e-5, label=f"{w}-{i}") for w in (8, 4) for i in (True, False)],
]  # fmt: skip
