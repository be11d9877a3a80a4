"""Rotary embedding of whole heads as one kernel, half by half in vectors."""

from __future__ import annotations

from typing import Any

from tvm import te

from qcompiler.ir import DType, Node
from qcompiler.targets.tvm.kernel import KernelBuilder, operand
from qcompiler.targets.tvm.views import ROWS, Layout, Point, View

VECTOR = 16
"""Elements that divide a half."""


def turns_halves(node: Node) -> bool:
    """True for heads whose first half turns with the second."""
    if node.op != "rotary" or node.attrs["interleaved"]:
        return False
    x, cos = operand(node, 0), operand(node, 1)
    size = x.shape[-1]
    return x.dtype is DType.float32 and isinstance(size, int) and cos.shape[-1] == size and size % (2 * VECTOR) == 0


def rotary(builder: KernelBuilder, node: Node) -> View:
    """x cos + (- second half, first half) sin."""
    x = operand(node, 0)
    layout, symbols = Layout(ROWS, x.shape), builder.symbols
    rows, size = layout.physical_shape(symbols)
    half = size // 2
    view, cos, sin = (builder.view(operand(node, i)) for i in range(3))

    def turned(r: Any, s: Any, c: Any) -> Any:
        place, other = (Point(x.shape, layout.logical((r, at), symbols), layout, (r, at)) for at in (s * half + c, (1 - s) * half + c))
        sign = (2 * s - 1).astype("float32")
        return view.at(place) * cos.read(place) + sign * view.at(other) * sin.read(place)

    both = te.compute((rows, 2, half), turned, name="turned")

    def at(point: Point) -> Any:
        same = point.layout is not None and point.layout.kind == ROWS
        r, c = point.place if same else layout.physical(point.index, symbols)
        return both[r, c // half, c % half]

    return View(node.output.shape, at)
