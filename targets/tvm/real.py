"""Real arithmetic between integer kernels: float32 islands of QUANTIZED programs, and plain integers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import te, tirx

from qcompiler.errors import UnsupportedError
from qcompiler.ir import Node
from qcompiler.ir.ops.rounding import log2_table
from qcompiler.targets.tvm.arithmetic import kind_of
from qcompiler.targets.tvm.exponential import exponential
from qcompiler.targets.tvm.kernel import KernelBuilder, operand, storage
from qcompiler.targets.tvm.views import ROWS, Layout, Point, View


def f(value: float) -> Any:
    """A float32 number."""
    return tirx.const(float(np.float32(value)), "float32")


def number(value: float, like: Any) -> Any:
    """A number of an expression's type."""
    kind = kind_of(like)
    return tirx.const(float(value) if kind.startswith("float") else int(value), kind)


def _plain(x: Any) -> Any:
    """A tensor element as an expression."""
    return x.asobject() if hasattr(x, "asobject") else x


def _softplus(x: Any) -> Any:
    """log(1 + e^x) without overflow."""
    return tirx.max(x, f(0)) + tirx.log1p(tirx.exp(f(0) - tirx.abs(x)))


def _expm1(x: Any) -> Any:
    """e^x - 1; the series where the difference would cancel."""
    series = x * (f(1) + x * (f(1 / 2) + x * (f(1 / 6) + x * f(1 / 24))))
    return tirx.Select(tirx.abs(x) < f(0.05), series, tirx.exp(x) - f(1))


def _sigmoid(x: Any) -> Any:
    return f(1) / (f(1) + exponential(f(0) - x))


def _erf(x: Any) -> Any:
    return tirx.erf(x)


_UNARY: dict[str, Callable[[Any], Any]] = {
    "exp": exponential,
    "log": tirx.log,
    "log1p": tirx.log1p,
    "expm1": _expm1,
    "sqrt": tirx.sqrt,
    "rsqrt": lambda x: f(1) / tirx.sqrt(x),
    "reciprocal": lambda x: f(1) / x,
    "sin": tirx.sin,
    "cos": tirx.cos,
    "tan": tirx.tan,
    "atan": tirx.atan,
    "tanh": tirx.tanh,
    "erf": _erf,
    "sigmoid": _sigmoid,
    "floor": tirx.floor,
    "ceil": tirx.ceil,
    "round": tirx.nearbyint,
    "silu": lambda x: x * _sigmoid(x),
    "mish": lambda x: x * tirx.tanh(_softplus(x)),
    "hard_sigmoid": lambda x: tirx.max(tirx.min(x / f(6) + f(0.5), f(1)), f(0)),
    "hard_swish": lambda x: x * tirx.max(tirx.min(x + f(3), f(6)), f(0)) / f(6),
    "neg": lambda x: number(0, x) - x,
    "abs": lambda x: tirx.max(x, number(0, x) - x) if not kind_of(x).startswith("float") else tirx.abs(x),
    "sign": lambda x: tirx.Select(x > number(0, x), number(1, x), tirx.Select(x < number(0, x), number(-1, x), number(0, x))),
    "relu": lambda x: tirx.max(x, number(0, x)),
    "logical_not": lambda x: tirx.Select(x, tirx.const(False, "bool"), tirx.const(True, "bool")),
    "is_nan": lambda x: tirx.isnan(x) if kind_of(x).startswith("float") else tirx.const(False, "bool"),
    "is_inf": lambda x: tirx.abs(x) == f(math.inf) if kind_of(x).startswith("float") else tirx.const(False, "bool"),
}


def _div(a: Any, b: Any) -> Any:
    return a / b if kind_of(a).startswith("float") else tirx.truncdiv(a, b)


def _floor_div(a: Any, b: Any) -> Any:
    return tirx.floor(a / b) if kind_of(a).startswith("float") else tirx.floordiv(a, b)


def _mod(a: Any, b: Any) -> Any:
    return a - tirx.floor(a / b) * b if kind_of(a).startswith("float") else tirx.floormod(a, b)


def _fmod(a: Any, b: Any) -> Any:
    return a - tirx.trunc(a / b) * b if kind_of(a).startswith("float") else tirx.truncmod(a, b)


def _pow(a: Any, b: Any) -> Any:
    if not kind_of(a).startswith("float"):
        raise UnsupportedError("powers of integers have no kernel; cast to float32")
    return tirx.power(a, b)


def _bool_equal(a: Any, b: Any) -> Any:
    if kind_of(a) == "bool":  # LLVM compares bools as real numbers
        a, b = a.astype("int8"), b.astype("int8")
    return a == b


_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": _div,
    "pow": _pow,
    "maximum": tirx.max,
    "minimum": tirx.min,
    "floor_div": _floor_div,
    "mod": _mod,
    "fmod": _fmod,
    "equal": _bool_equal,
    "not_equal": lambda a, b: tirx.Select(_bool_equal(a, b), tirx.const(False, "bool"), tirx.const(True, "bool")),
    "less": lambda a, b: a < b,
    "less_equal": lambda a, b: a <= b,
    "greater": lambda a, b: a > b,
    "greater_equal": lambda a, b: a >= b,
    "logical_and": lambda a, b: (a.astype("int8") * b.astype("int8")).astype("bool"),
    "logical_or": lambda a, b: (a.astype("int8") + b.astype("int8") > tirx.const(0, "int8")),
    "logical_xor": lambda a, b: tirx.Select(_bool_equal(a, b), tirx.const(False, "bool"), tirx.const(True, "bool")),
    "prelu": lambda a, b: tirx.Select(a >= f(0), a, a * b),
}

Body = Callable[[KernelBuilder, Node, Point, list[Any]], Any]


def _of(fn: Callable[..., Any]) -> Body:
    return lambda builder, node, point, xs: fn(*[_plain(x) for x in xs if x is not None])


def _cast(builder: KernelBuilder, node: Node, point: Point, xs: list[Any]) -> Any:
    kind, x = storage(node.output), _plain(xs[0])
    if kind == "bool":
        return tirx.Select(_bool_equal(x, number(0, x)), tirx.const(False, "bool"), tirx.const(True, "bool"))
    return x.astype(kind)


def _clip(builder: KernelBuilder, node: Node, point: Point, xs: list[Any]) -> Any:
    x, low, high = _plain(xs[0]), node.attrs["min"], node.attrs["max"]
    x = x if low is None else tirx.max(x, number(low, x))
    return x if high is None else tirx.min(x, number(high, x))


def _gelu(builder: KernelBuilder, node: Node, point: Point, xs: list[Any]) -> Any:
    x, form = _plain(xs[0]), node.attrs["approximate"]
    if form == "tanh":
        return f(0.5) * x * (f(1) + tirx.tanh(f(math.sqrt(2 / math.pi)) * (x + f(0.044715) * x * x * x)))
    if form == "sigmoid":
        return x * _sigmoid(f(1.702) * x)
    return f(0.5) * x * (f(1) + _erf(x * f(math.sqrt(0.5))))


def _scaled_softplus(builder: KernelBuilder, node: Node, point: Point, xs: list[Any]) -> Any:
    x, beta = _plain(xs[0]), node.attrs["beta"]
    return tirx.Select(f(beta) * x > f(node.attrs["threshold"]), x, _softplus(f(beta) * x) / f(beta))


def _elu(builder: KernelBuilder, node: Node, point: Point, xs: list[Any]) -> Any:
    x = _plain(xs[0])
    return tirx.Select(x > f(0), x, f(node.attrs["alpha"]) * _expm1(tirx.min(x, f(0))))


def _leaky_relu(builder: KernelBuilder, node: Node, point: Point, xs: list[Any]) -> Any:
    x = _plain(xs[0])
    return tirx.Select(x >= f(0), x, f(node.attrs["slope"]) * x)


def _round_log2(builder: KernelBuilder, node: Node, point: Point, xs: list[Any]) -> Any:
    attrs, x = node.attrs, _plain(xs[0])
    top = (1 << attrs["bits"]) - 1
    exact = tirx.log2(tirx.max(x, f(1e-38)) / f(attrs["scale"])) / f(-attrs["step"])
    code = tirx.max(tirx.min(tirx.nearbyint(tirx.Select(x > f(0), exact, f(top))), f(top)), f(0))
    return builder.constant(log2_table(attrs).astype(np.float32))(code.astype("int32"))


def _arange(builder: KernelBuilder, node: Node, point: Point, xs: list[Any]) -> Any:
    attrs, kind = node.attrs, storage(node.output)
    start = builder.symbols(attrs["start"])
    return (point.index[0] * attrs["step"] + start).astype(kind)


def _full(builder: KernelBuilder, node: Node, point: Point, xs: list[Any]) -> Any:
    kind, value = storage(node.output), node.attrs["value"]
    return tirx.const(bool(value) if kind == "bool" else float(value) if kind.startswith("float") else int(value), kind)


def _dim(builder: KernelBuilder, node: Node, point: Point, xs: list[Any]) -> Any:
    value, kind = builder.symbols(node.attrs["value"]), storage(node.output)
    return tirx.const(value, kind) if isinstance(value, int) else value.astype(kind)


ELEMENTWISE: dict[str, Body] = {
    **{name: _of(fn) for name, fn in _UNARY.items()},
    **{name: _of(fn) for name, fn in _BINARY.items()},
    "cast": _cast,
    "clip": _clip,
    "gelu": _gelu,
    "softplus": _scaled_softplus,
    "elu": _elu,
    "leaky_relu": _leaky_relu,
    "round_log2": _round_log2,
    "arange": _arange,
    "full": _full,
    "dim": _dim,
}


# -- along axes


def _row_stages(builder: KernelBuilder, node: Node, count: int = 1) -> tuple[Any, Any, Callable[[Any, Any], Any], Callable[[Any], View]]:
    """(rows, length, element of the operand by (row, column), view of a result from the same)."""
    from qcompiler.ir.dims import normalize, product

    shape = operand(node, 0).shape
    merged = (*shape[:-count], normalize(product(shape[-count:])))
    layout = Layout(ROWS, merged)
    rows, length = layout.physical_shape(builder.symbols)
    view, own = builder.view(operand(node, 0)), Layout(ROWS, shape)

    def element(r: Any, c: Any) -> Any:
        if count == 1:
            return view.at(Point(shape, own.logical((r, c), builder.symbols), own, (r, c)))
        from qcompiler.targets.tvm.views import reshape_index

        return view(*reshape_index(shape, merged, layout.logical((r, c), builder.symbols), builder.symbols))

    def result(fn: Any) -> View:
        def at(point: Point) -> Any:
            if count == 1:
                place = point.place if point.layout is not None and point.layout.kind == ROWS else own.physical(point.index, builder.symbols)
                return fn(*place)
            from qcompiler.targets.tvm.views import reshape_index

            return fn(*layout.physical(reshape_index(merged, shape, point.index, builder.symbols), builder.symbols))

        return View(node.output.shape, at)

    return rows, length, element, result


def _sum(rows: Any, length: Any, element: Callable[[Any, Any], Any], name: str) -> Any:
    k = te.reduce_axis((0, length), f"{name}_k")
    return te.compute((rows,), lambda r: te.sum(element(r, k), axis=k), name=name)


def _norm(builder: KernelBuilder, node: Node) -> View:
    rows, length, element, result = _row_stages(builder, node, node.attrs["axes"])
    count = f(length) if isinstance(length, int) else length.astype("float32")
    weight, bias = (*node.inputs[1:], None)[:2]
    held = te.compute((rows, length), element, name="held")
    centred: Any = held
    if node.op == "layer_norm":
        total = _sum(rows, length, lambda r, c: held[r, c], "total")
        centred = te.compute((rows, length), lambda r, c: held[r, c] - total[r] / count, name="centred")
    squares = _sum(rows, length, lambda r, c: centred[r, c] * centred[r, c], "squares")
    eps = f(node.attrs["eps"])
    scale = te.compute((rows,), lambda r: f(1) / tirx.sqrt(squares[r] / count + eps), name="scale")
    views = [None if v is None else builder.view(v) for v in (weight, bias)]
    axes = node.attrs["axes"]

    def affine(view: View | None, c: Any) -> Any:
        if view is None:
            return None
        if axes == 1:
            return view(c)
        from qcompiler.targets.tvm.views import unflatten

        return view(*unflatten(c, builder.symbols.shape(operand(node, 0).shape[-axes:])))

    def normal(r: Any, c: Any) -> Any:
        y = centred[r, c] * scale[r]
        gamma, beta = (affine(v, c) for v in views)
        y = y if gamma is None else y * gamma
        return y if beta is None else y + beta

    return result(normal)


def _softmax(builder: KernelBuilder, node: Node) -> View:
    if node.attrs["axis"] % len(operand(node, 0).shape) != len(operand(node, 0).shape) - 1:
        raise UnsupportedError(f"{node.where()}: softmax along another axis than the last; transpose it there")
    rows, length, element, result = _row_stages(builder, node)
    held = te.compute((rows, length), element, name="held")
    k = te.reduce_axis((0, length), "k")
    top = te.compute((rows,), lambda r: te.max(held[r, k], axis=k), name="top")
    exps = te.compute((rows, length), lambda r, c: exponential(held[r, c] - top[r]), name="exps")
    total = _sum(rows, length, lambda r, c: exps[r, c], "total")
    if node.op == "log_softmax":
        return result(lambda r, c: held[r, c] - top[r] - tirx.log(total[r]))
    return result(lambda r, c: exps[r, c] / total[r])


def _arg(builder: KernelBuilder, node: Node) -> View:
    """The first extreme: pairs (index, value), the smaller index where values are equal."""
    x, attrs = operand(node, 0), node.attrs
    axis, kind = attrs["axis"] % len(x.shape), storage(x)
    shape = builder.symbols.shape(x.shape)
    view, largest = builder.view(x), node.op == "argmax"
    kept = [i for i in range(len(shape)) if i != axis]
    k = te.reduce_axis((0, shape[axis]), "k")
    worst = tirx.min_value(kind) if largest else tirx.max_value(kind)

    def better(a: Any, b: Any) -> tuple[Any, Any]:
        wins = a[1] > b[1] if largest else a[1] < b[1]
        first = tirx.any(wins, tirx.all(a[1] == b[1], a[0] < b[0]))
        return tirx.Select(first, a[0], b[0]), tirx.Select(first, a[1], b[1])

    choose = te.comm_reducer(better, lambda t0, t1: (tirx.const((1 << 31) - 1, t0), worst.astype(t1)), name="arg")

    def pairs(*index: Any) -> Any:
        full: list[Any] = [None] * len(shape)
        for i, place in zip(kept, index, strict=True):
            full[i] = place
        full[axis] = k
        return choose((k.var.astype("int64"), view(*full)), axis=k)

    outer = tuple(shape[i] for i in kept) or (1,)
    stage = te.compute(outer, pairs if kept else lambda _: pairs(), name="reduced")[0]

    def at(point: Point) -> Any:
        index = [point.index[i] for i in kept] if attrs["keepdims"] else list(point.index)
        return stage(*(index or [0]))

    return View(node.output.shape, at)


def _cumsum(builder: KernelBuilder, node: Node) -> View:
    """Each element from its own prefix: quadratic, for the short axes that programs accumulate."""
    x = operand(node, 0)
    shape, axis, kind = builder.symbols.shape(x.shape), node.attrs["axis"] % len(x.shape), storage(x)
    view = builder.view(x)
    k = te.reduce_axis((0, shape[axis]), "k")

    def prefix(*index: Any) -> Any:
        value = view(*index[:axis], k, *index[axis + 1 :])
        return te.sum(tirx.Select(k.var <= index[axis], _plain(value), tirx.const(0, kind)), axis=k)

    stage = te.compute(shape, prefix, name="reduced")
    return View(node.output.shape, lambda point: stage(*point.index))


REAL_STAGES: dict[str, Callable[[KernelBuilder, Node], View]] = {
    "layer_norm": _norm,
    "rms_norm": _norm,
    "softmax": _softmax,
    "log_softmax": _softmax,
    "argmax": _arg,
    "argmin": _arg,
    "cumsum": _cumsum,
}
