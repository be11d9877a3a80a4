"""Linear layers with real operands and weights that are codes: `weight_only_linear`, `dynamic_linear`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import te, tirx

from qcompiler.ir import Node, Value
from qcompiler.kernels.common.grouped import GroupedProduct
from qcompiler.targets.tvm.kernel import KernelBuilder, operand
from qcompiler.targets.tvm.real import f
from qcompiler.targets.tvm.views import ROWS, Layout, Point

Finish = Callable[[Any, Point], Any]
LANES = 8
"""Partial extrema of a row, so that they are computed in vectors."""


def grouped(builder: KernelBuilder, node: Node, finish: Finish) -> GroupedProduct:
    """The product of a layer; what quantizes its operand are further stages of the kernel."""
    x, w = operand(node, 0), operand(node, 1)
    quant = w.quant
    assert w.data is not None and quant is not None
    layout = Layout(ROWS, node.output.shape)
    rows = builder.size(layout.physical_shape(builder.symbols)[0])
    n, k = w.data.shape
    size = quant.group_size or k
    count = -(-k // size)
    scale, zero = (np.broadcast_to(a if a.ndim == 2 else a.reshape(-1, 1), (n, count)) for a in (quant.scale, quant.zero_point))
    source, view = Layout(ROWS, x.shape), builder.view(x)

    def element(m: Any, c: Any) -> Any:
        return view.at(Point(x.shape, source.logical((m, c), builder.symbols), source, (m, c)))

    a: Callable[[Any, Any, Any], Any] = lambda m, term, c: element(m, c)  # noqa: E731
    a_range, a_scale, terms = None, None, 1
    if node.op == "dynamic_linear":
        a, a_scale, a_range, terms = _codes(node, element, rows, k, size)
    bias = node.inputs[2]

    def done(acc: Any, m: Any, column: Any) -> Any:
        return finish(acc, Point(layout.shape, layout.logical((m, column), builder.symbols), layout, (m, column)))

    return GroupedProduct(
        rows=rows, w=w.data, scale=scale, zero=zero, group=size, a=a, terms=terms, a_range=a_range, a_scale=a_scale,
        bias=None if bias is None else _constant(bias), finish=done,
    )  # fmt: skip


def _constant(bias: Value) -> np.ndarray:
    assert bias.data is not None
    return np.asarray(bias.data)


Read = Callable[[Any, Any, Any], Any]


def _codes(node: Node, element: Callable[[Any, Any], Any], rows: Any, k: int, size: int) -> tuple[Read, Read, tuple[int, int], int]:
    """(code of (m, term, channel), scale of (m, term, group), range of the codes, terms)."""
    granularity = node.attrs["granularity"]
    if granularity == "tensor":
        return (*_one_range(element, rows, k), (-255, 255), 1)
    part = size if granularity == "group" else k
    first, scale = _symmetric(element, rows, k, part, "first")
    if node.attrs["bits"] == 8:
        return (lambda m, term, c: first(m, c)), (lambda m, term, g: scale(m, g * size // part)), (-127, 127), 1

    def rest(m: Any, c: Any) -> Any:
        return element(m, c) - first(m, c).astype("float32") * scale(m, c // part)

    left = te.compute((rows, k), rest, name="rest")
    second, step = _symmetric(lambda m, c: left(m, c), rows, k, part, "second")
    return (
        lambda m, term, c: tirx.Select(term == 0, _plain(first(m, c)), _plain(second(m, c))),
        lambda m, term, g: tirx.Select(term == 0, _plain(scale(m, g)), _plain(step(m, g))),
        (-127, 127),
        2,
    )


def _plain(x: Any) -> Any:
    """A tensor element as an expression."""
    return x.asobject() if hasattr(x, "asobject") else x


def _symmetric(element: Callable[[Any, Any], Any], rows: Any, k: int, part: int, name: str) -> tuple[Any, Any]:
    """(codes [rows, k] int32 in -127..127, scale [rows, k / part]) of rows in parts with a range each."""
    count, chunks = -(-k // part), -(-min(part, k) // LANES)
    j, lane = te.reduce_axis((0, chunks), "j"), te.reduce_axis((0, LANES), "lane")

    def magnitude(m: Any, g: Any, place: Any) -> Any:
        within = place if part == k else g * part + place
        if chunks * LANES == part and k % part == 0:
            return tirx.abs(element(m, within))
        value = tirx.abs(element(m, tirx.min(within, k - 1)))
        return tirx.if_then_else(tirx.all(place < part, within < k), value, f(0))

    peaks = te.compute(
        (rows, count, LANES), lambda m, g, i: te.max(magnitude(m, g, j * LANES + i), axis=j), name=f"{name}_peaks"
    )
    peak = te.compute((rows, count), lambda m, g: te.max(peaks[m, g, lane], axis=lane), name=f"{name}_peak")
    scale = te.compute(
        (rows, count), lambda m, g: tirx.Select(peak[m, g] > f(0), peak[m, g] / f(127), f(1)), name=f"{name}_scale"
    )
    # the division is the reference's: a product with the reciprocal has other ties
    codes = te.compute(
        (rows, k),
        lambda m, c: tirx.max(tirx.min(tirx.nearbyint(element(m, c) / scale[m, c // part]), f(127)), f(-127)).astype("int32"),
        name=f"{name}_codes",
    )
    return codes, scale


def _one_range(element: Callable[[Any, Any], Any], rows: Any, k: int) -> tuple[Read, Read]:
    """ONNX DynamicQuantizeLinear: one asymmetric range for the whole operand, 0 in it; codes less their zero point."""
    j, r = te.reduce_axis((0, k), "j"), te.reduce_axis((0, rows), "r")
    lows = te.compute((rows,), lambda m: te.min(element(m, j), axis=j), name="lows")
    j = te.reduce_axis((0, k), "j")
    highs = te.compute((rows,), lambda m: te.max(element(m, j), axis=j), name="highs")
    low = te.compute((1,), lambda _: te.min(lows[r], axis=r), name="low")
    r = te.reduce_axis((0, rows), "r")
    high = te.compute((1,), lambda _: te.max(highs[r], axis=r), name="high")

    def step(_: Any) -> Any:
        span = tirx.max(high[0], f(0)) - tirx.min(low[0], f(0))
        return tirx.Select(span > f(0), span / f(255), f(1))

    scale = te.compute((1,), step, name="scale")
    zero = te.compute(
        (1,),
        lambda _: tirx.max(tirx.min(tirx.nearbyint((f(0) - tirx.min(low[0], f(0))) / scale[0]), f(255)), f(0)),
        name="zero",
    )

    def code(m: Any, c: Any) -> Any:
        whole = tirx.nearbyint(element(m, c) / scale[0]) + zero[0]
        return (tirx.max(tirx.min(whole, f(255)), f(0)) - zero[0]).astype("int32")

    codes = te.compute((rows, k), code, name="codes")
    return (lambda m, term, c: codes(m, c)), (lambda m, term, g: scale[0])


GROUPED = {"weight_only_linear": grouped, "dynamic_linear": grouped}
