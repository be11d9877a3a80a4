"""Cases that only ONNX emission needs: symbolic dimensions in every role, types without kernels of their own."""

from __future__ import annotations

import numpy as np

from op_cases.case import OpCase, case, dim, f, i, t
from qcompiler.ir import DType

I32, U8 = {"dtype": DType.int32}, {"dtype": DType.uint8, "low": 0, "high": 90}


# the second query may see nothing
BLIND = np.array([[0, 0, -np.inf], [-np.inf] * 3, [0, -1, 0]])


def _dims(*entries: object) -> tuple[object, ...]:
    return tuple(dim(e) for e in entries)


def extra_cases() -> list[OpCase]:
    tokens = f(2, 5, 12, declared=("b", "s", 12))
    grouped = (f(2, 4, 5, 8, declared=("b", 4, "s", 8)), *[f(2, 2, 5, 8, declared=("b", 2, "s", 8))] * 2)
    return [
        case("reshape", tokens, shape=_dims("b", "s", 3, 4), name="heads"),
        case("reshape", tokens, shape=_dims("b*s", 12), name="flatten"),
        case("reshape", tokens, shape=_dims("s", "b", 12), name="swapped"),
        case("expand", f(2, 1, 3, declared=("b", 1, 3)), shape=_dims("b", 4, 3), name="symbolic"),
        case("slice", f(3, 5, declared=(3, "s")), axis=1, start=1, stop=dim("s - 1"), name="symbolic-stop"),
        case("slice", f(3, 5, declared=(3, "s")), axis=1, stop=dim("floor(s/2)"), name="floor"),
        case("concat", f(2, 3), f(2, 5, declared=(2, "s")), axis=1, name="symbolic"),
        case("group_norm", f(2, 6, 5, declared=("b", 6, "s")), None, None, groups=2, eps=1e-5, name="symbolic"),
        case("layer_norm", f(2, 5, declared=("b", 5)), None, None, eps=1e-5, name="symbolic"),
        case("attention", *grouped, causal=True, name="grouped-symbolic"),
        case("attention", *grouped, t(2, 1, 1, 5, declared=("b", 1, 1, "s")), causal=True, name="causal-bool"),
        case("attention", *[f(1, 2, 3, 4)] * 3, f(1, 1, 3, 3, values=BLIND), name="blind-real"),
        *[case(op, i(2, 6, low=-9, high=9), i(6, low=1, high=4), name="int64") for op in ("floor_div", "mod", "fmod")],
        case("add", i(4, **U8), i(4, **U8), name="uint8"),
        case("less", i(3, 4, **U8), i(4, **U8), name="uint8"),
        case("where", t(3, 4), t(4), t(3, 1), name="bool"),
        case("cumsum", i(3, 4, **I32), axis=-1, name="int32"),
        *[case("tri", i(4, 5, **I32), upper=u, diagonal=-1, name=f"int32-{u}") for u in (True, False)],
        case("argmax", i(3, 7), axis=1, name="int64"),
        case("is_inf", f(4, values=np.array([0, np.nan, np.inf, -np.inf])), name="values"),
        case("full", shape=(90, 70), value=2.0, dtype=DType.int64, name="large"),
    ]
