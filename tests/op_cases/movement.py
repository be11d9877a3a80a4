"""Cases of data movement, creation and reductions."""

from __future__ import annotations

from qcompiler.ir import DType

from .case import OpCase, case, dim, f, i, t


def movement() -> list[OpCase]:
    return [
        case("reshape", f(2, 3, 4), shape=(4, 6)),
        case("reshape", f(2, 6, 4, declared=("b", 6, 4)), shape=(dim("b"), 2, 3, 4), name="symbolic"),
        case("reshape", f(2, 0, 3), shape=(0, 7), name="empty"),
        case("transpose", f(2, 3, 4), perm=(2, 0, 1)),
        case("transpose", f(2, 3, declared=("b", "s")), perm=(1, 0), name="symbolic"),
        case("expand", f(3, 1), shape=(2, 3, 4)),
        case("expand", f(1, 4, declared=(1, 4)), shape=(3, 4), name="rows"),
        case("slice", f(4, 6), axis=1, start=1, stop=5, step=2),
        case("slice", f(4, 6), axis=-1, start=-3, name="negative"),
        case("slice", f(4, 6), axis=0, start=1, stop=-1, name="negative-stop"),
        case("slice", f(4, 6), axis=0, start=-99, stop=99, name="clamped"),
        case("slice", f(4, 6), axis=1, start=5, stop=2, name="nothing"),
        case("slice", f(2, 6, declared=(2, "s")), axis=1, start=0, stop=dim("s - 1"), name="symbolic"),
        case("concat", f(2, 3), f(2, 1), f(2, 0), axis=-1),
        case("concat", i(1, 3), i(2, 3), axis=0, name="int"),
        case("pad", f(2, 3, 4), pads=(0, 1, 2, 0, 0, 1), value=1.5),
        case("pad", f(2, 3, 4), pads=(0, -1, 1, 0, 2, -2), name="crop"),
        case("pad", f(2, 3, 5), pads=(0, 0, 2, 0, 1, 3), mode="reflect", name="reflect"),
        case("pad", f(2, 3, 5), pads=(0, 0, -1, 0, 0, 3), mode="reflect", name="reflect-crop"),
        case("pad", f(2, 3, 5), pads=(1, 0, 2, 0, 1, 3), mode="edge", name="edge"),
        case("gather", f(7, 3), i(2, 4, low=-7, high=6)),
        case("gather", f(2, 5, 3), i(4, low=0, high=4, dtype=DType.int32), axis=-2, name="axis"),
        case("gather", f(2, 5), i(values=3), axis=1, name="scalar"),
        case("gather", f(2, 5), i(0), axis=1, name="empty"),
        case("gather_elements", f(4, 3), i(2, 3, low=-4, high=3), axis=0),
        case("gather_elements", f(2, 5), i(2, 3, low=0, high=4), axis=-1, name="last"),
        case("gather_nd", f(4, 5, 3), i(2, 6, 2, low=-4, high=3)),
        case("gather_nd", f(4, declared=("b",)), i(5, 1, low=0, high=3), name="vector"),
        case("scatter_nd", f(4, 5, 3), i(2, 2, values=[[0, 1], [-1, 4]]), f(2, 3)),
        case("scatter_nd", f(4, 3), i(3, 1, values=[[1], [2], [1]]), f(3, 3), accumulate=True, name="accumulate"),
        case("flip", f(2, 3, 4), axes=(0, -1)),
        case("tri", f(2, 4, 4), upper=True, diagonal=1),
        case("tri", f(3, 5), upper=False, diagonal=-1, name="lower"),
        case("arange", start=2, stop=9, step=3),
        case("arange", start=5, stop=0, step=-2, dtype=DType.float32, name="down"),
        case("arange", start=3, stop=1, name="empty"),
        case("full", shape=(2, 3), value=0.25, dtype=DType.float32),
        case("full", shape=(2, 0), value=7, dtype=DType.int64, name="empty"),
        case("dim", value=6),
    ]


def reduce() -> list[OpCase]:
    cases = []
    for op in ("reduce_sum", "reduce_mean", "reduce_max", "reduce_min", "reduce_prod"):
        cases += [
            case(op, f(2, 3, 4)),
            case(op, f(2, 3, 4), axes=(-1, 0), name="axes"),
            case(op, f(2, 3, 4, declared=("b", 3, "s")), axes=(2,), keepdims=True, name="keepdims"),
            case(op, f(), name="scalar"),
        ]
    cases += [
        case("topk", f(3, 6), k=4),
        case("topk", f(5, 2, 3), k=2, axis=0, largest=False, name="smallest"),
        case("topk", f(2, 6, values=[[1, 2, 2, 0, 2, 1], [0, 0, 0, 0, 1, 1]]), k=5, name="ties"),
    ]
    cases += [case(op, i(2, 3), axes=(1,), name="int") for op in ("reduce_sum", "reduce_max", "reduce_prod")]
    cases += [case(op, f(2, 0), axes=(1,), name="empty") for op in ("reduce_sum", "reduce_prod")]
    for op in ("reduce_any", "reduce_all"):
        cases += [case(op, t(3, 4), axes=(-1,)), case(op, t(3, 4), keepdims=True, name="all-axes")]
    for op in ("argmax", "argmin"):
        cases += [
            case(op, f(3, 4), axis=-1),
            case(op, f(3, 4), axis=0, keepdims=True, name="keepdims"),
            case(op, f(5, values=[1, 3, 0, 3, 0]), axis=0, name="ties"),
        ]
    cases += [case("cumsum", f(3, 4), axis=-1), case("cumsum", i(3, 4), axis=0, name="int")]
    return cases
