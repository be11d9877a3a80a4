"""Cases of elementwise ops."""

from __future__ import annotations

import numpy as np

from qcompiler.ir import DType

from .case import OpCase, case, f, i, t, w


def elementwise() -> list[OpCase]:
    positive = {"log", "sqrt", "rsqrt", "log1p"}
    unary = [
        "exp",
        "log",
        "log1p",
        "expm1",
        "sqrt",
        "rsqrt",
        "reciprocal",
        "sin",
        "cos",
        "tan",
        "atan",
        "tanh",
        "erf",
        "sigmoid",
        "floor",
        "ceil",
        "round",
        "silu",
        "mish",
        "hard_sigmoid",
        "hard_swish",
        "neg",
        "abs",
        "sign",
        "relu",
        "is_nan",
        "is_inf",
    ]
    cases = []
    for op in unary:
        low = 0.1 if op in positive else -4.0
        high = 1.4 if op == "tan" else 4.0
        if op == "reciprocal":
            low = 0.3
        cases.append(case(op, f(2, 3, 5, low=max(low, -1.4) if op == "tan" else low, high=high)))
        cases.append(case(op, f(0, 3), name="empty"))
    cases.append(case("round", f(6, values=[-2.5, -1.5, -0.5, 0.5, 1.5, 2.5]), name="ties"))
    cases.append(case("tanh", f(), name="scalar"))
    cases += [
        case(op, f(4, values=[np.nan, np.inf, -np.inf, 1.0]), name="special") for op in ("is_nan", "is_inf")
    ]
    cases += [case(op, i(2, 3), name="int") for op in ("neg", "abs", "sign", "relu")]
    for op in ("add", "sub", "mul", "div", "maximum", "minimum", "mod", "fmod", "floor_div", "pow"):
        base = {"low": 0.5} if op in ("div", "mod", "fmod", "floor_div", "pow") else {}
        cases.append(case(op, f(2, 1, 5, **base), f(3, 1, **base), name="broadcast"))
        cases.append(case(op, f(2, 3, declared=("batch", 3), **base), w(3, **base), name="symbolic"))
        cases.append(case(op, f(**base), f(2, **base), name="scalar"))
    for op in ("add", "sub", "mul", "div", "mod", "fmod", "floor_div", "maximum"):
        divisor = [3, -3, 2, 7, -2, 5]
        cases.append(case(op, i(6, values=[7, 7, -7, -7, 0, 9]), i(6, values=divisor), name="int"))
    for op in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"):
        cases += [case(op, f(2, 3), f(2, 1)), case(op, i(4, 5), i(5), name="int")]
    cases += [case(op, t(2, 3), t(3)) for op in ("logical_and", "logical_or", "logical_xor")]
    cases += [
        case("logical_not", t(2, 3)),
        case("cast", f(2, 3, low=-9, high=9), dtype=DType.int64, name="truncate"),
        case("cast", i(2, 3), dtype=DType.float32, name="from-int"),
        case("cast", f(5, values=[0, 0.5, -1, 2, 0]), dtype=DType.bool, name="to-bool"),
        case("cast", t(4), dtype=DType.float32, name="from-bool"),
        case("where", t(2, 1, 4), f(3, 1), f(1, 4)),
        case("where", t(3), i(2, 3), i(1), name="int"),
        case("clip", f(3, 4), min=-0.5, max=1.0),
        case("clip", f(3, 4), min=0.0, name="low"),
        case("clip", f(3, 4), max=0.5, name="high"),
        case("clip", f(3, 4), name="none"),
        case("clip", i(3, 4), min=-2.0, max=2.0, name="int"),
        *[case("gelu", f(3, 7, low=-6, high=6), approximate=a, name=a) for a in ("none", "tanh", "sigmoid")],
        case("round_log2", f(3, 7, low=0.001, high=1.0)),
        case("round_log2", f(4, 9, low=0.0, high=0.4), step=0.5, scale=0.5, zero=True, name="half-steps"),
        case("round_log2", f(4, values=[0.0, -1.0, 1e-30, 4.0]), bits=3, name="saturates"),
        case("round_log2", f(5, 40, low=1e-6, high=1.0), bits=8, step=0.125, name="8-bit"),
        case("softplus", f(3, 7, low=-30, high=30)),
        case("softplus", f(3, 7), beta=2.0, threshold=1.0, name="beta"),
        case("elu", f(3, 4), alpha=0.7),
        case("leaky_relu", f(3, 4), slope=0.2),
        case("prelu", f(2, 3, 4, 4), w(3, 1, 1)),
    ]
    return cases
