"""Linear layers, activation products and convolutions as `Product`s: what kernel libraries schedule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import te, tirx

from qcompiler.errors import UnsupportedError
from qcompiler.ir import Node, Value
from qcompiler.ir.dims import normalize, product, same
from qcompiler.kernels.common.product import IMAGE, Product
from qcompiler.targets.tvm.kernel import KernelBuilder, operand, storage, weight_codes, zero_of
from qcompiler.targets.tvm.views import CHANNELS_LAST, ROWS, Layout, Point, View, unflatten

Finish = Callable[[Any, Point], Any]
WORD, FEW_CHANNELS = 4, 16
"""Codes of a word; images of fewer channels, and no whole words of them, are filled up."""


def linear(builder: KernelBuilder, node: Node, finish: Finish, out_type: str) -> Product:
    """x [..., K], w [N, K] constant or computed."""
    x, w, bias = operand(node, 0), operand(node, 1), node.inputs[2]
    layout = Layout(ROWS, node.output.shape)
    rows, columns = layout.physical_shape(builder.symbols)
    view = builder.view(x)
    lead = builder.symbols.shape(x.shape[:-1])
    source = Layout(ROWS, x.shape)

    def a(b: Any, m: Any, tap: Any, c: Any) -> Any:
        return view.at(Point(x.shape, (*unflatten(m, lead), c), source, (m, c)))

    weight: Any
    if w.data is not None:
        weight = np.ascontiguousarray(weight_codes(w)[0]).reshape(1, w.shape[0], 1, w.shape[1])
    else:
        held = builder.view(w)
        weight = lambda b, n, c: held(n, c)  # noqa: E731
    depth = builder.symbols(x.shape[-1])
    return _product(builder, node, layout, 1, rows, columns, 1, depth, a, weight, x, w, bias, finish, out_type)


def matmul(builder: KernelBuilder, node: Node, finish: Finish, out_type: str) -> Product:
    """a [..., M, K], b [..., K, N]; a constant b without batch is a weight."""
    x, w = operand(node, 0), operand(node, 1)
    symbols, shape = builder.symbols, node.output.shape
    layout = Layout(ROWS, shape)
    lead = symbols.shape(shape[:-2])
    left, right = builder.view(x), builder.view(w)

    def batch_index(value: Value, b: Any) -> tuple[Any, ...]:
        index = unflatten(b, lead)
        dims = value.shape[:-2]
        tail = index[len(index) - len(dims) :]
        full = shape[:-2][len(index) - len(dims) :]
        return tuple(0 if isinstance(d, int) and d == 1 and not same(d, e) else i for i, d, e in zip(tail, dims, full, strict=True))

    if w.data is not None and all(isinstance(d, int) and d == 1 for d in w.shape[:-2]):
        rows, columns = layout.physical_shape(symbols)
        dims = symbols.shape(shape[:-1])
        source = Layout(ROWS, x.shape)
        as_rows = len(x.shape) == len(shape)

        def flat(b: Any, m: Any, tap: Any, c: Any) -> Any:
            index = unflatten(m, dims)[len(shape) - len(x.shape) :]
            if not as_rows or not all(same(p, q) for p, q in zip(x.shape[:-1], shape[:-1], strict=True)):
                return left.read(Point((*shape[:-1], x.shape[-1]), (*unflatten(m, dims), c)))
            return left.at(Point(x.shape, (*index, c), source, (m, c)))

        weight = np.ascontiguousarray(weight_codes(w)[0].reshape(w.shape[-2:]).T)
        weight = weight.reshape(1, weight.shape[0], 1, weight.shape[1])
        depth = symbols(x.shape[-1])
        return _product(builder, node, layout, 1, rows, columns, 1, depth, flat, weight, x, w, None, finish, out_type)

    def a(b: Any, m: Any, tap: Any, c: Any) -> Any:
        return left(*batch_index(x, b), m, c)

    def element(b: Any, n: Any, c: Any) -> Any:
        return right(*batch_index(w, b), c, n)

    batch = symbols(normalize(product(shape[:-2])))
    return _product(
        builder, node, layout, batch, symbols(shape[-2]), symbols(shape[-1]), 1, symbols(x.shape[-1]), a, element, x, w,
        None, finish, out_type,
    )  # fmt: skip


def conv(builder: KernelBuilder, node: Node, finish: Finish, out_type: str) -> Product:
    """x [N, C, spatial...], w [O, C/groups, kernel...]: patches as rows, (kernel position, channel) as depth."""
    x, w, bias, attrs = operand(node, 0), operand(node, 1), node.inputs[2], node.attrs
    if w.data is None:
        raise UnsupportedError(f"{node.where()}: weights of a convolution must be constant")
    symbols, shape, groups = builder.symbols, node.output.shape, attrs["groups"]
    layout = Layout(CHANNELS_LAST, shape)
    rows, _ = layout.physical_shape(symbols)
    kernel = w.shape[2:]
    inner, outer = w.shape[1], w.shape[0] // groups
    codes, _, w_zero = weight_codes(w)
    if _one_channel(node):  # places of a row of the kernel are the channels of the kernel's other places
        kernel, inner = kernel[:-1], kernel[-1]
        grown = _words(inner)
        patch = patch_reader(builder, node, view=_rows_of_kernel(builder, node, grown), rows_of_kernel=True)
        weight = codes.reshape(1, outer, -1, inner)
    else:
        grown = _words(inner) if _few_channels(node) else inner
        patch = patch_reader(builder, node, view=_image(builder, x, grown) if grown > inner else None)
        weight = codes.reshape(groups, outer, inner, -1).transpose(0, 1, 3, 2)
    weight = np.pad(weight, ((0, 0), (0, 0), (0, 0), (0, grown - inner)), constant_values=w_zero)

    def a(b: Any, m: Any, tap: Any, c: Any) -> Any:
        channel = c if groups == 1 else b * inner + c
        return patch(m, unflatten(tap, kernel), channel)

    return _product(
        builder, node, layout, groups, rows, outer, int(np.prod(kernel)), grown, a, np.ascontiguousarray(weight), x, w, bias,
        finish, out_type, groups > 1,
    )  # fmt: skip


def _words(count: int) -> int:
    """Codes of as many whole words."""
    return count + -count % WORD


def _known_codes(node: Node) -> bool:
    """Convolutions of several places over images of 8-bit codes whose sizes are known, all channels in one group."""
    x, w = operand(node, 0), operand(node, 1)
    known = all(isinstance(d, int) for d in (*x.shape[1:], *node.output.shape[1:]))
    return known and node.attrs["groups"] == 1 and storage(x) in ("int8", "uint8") and int(np.prod(w.shape[2:])) > 1


def _few_channels(node: Node) -> bool:
    """Where windows are copied word by word if the channels fill whole words."""
    return _known_codes(node) and 1 < operand(node, 1).shape[1] < FEW_CHANNELS


def _one_channel(node: Node) -> bool:
    """Where one code per place would leave words almost empty, but places of a row of the kernel fill them."""
    w = operand(node, 1)
    return _known_codes(node) and w.shape[1] == 1 and w.shape[-1] > 1


def _rows_of_kernel(builder: KernelBuilder, node: Node, count: int) -> View:
    """A stage [N, ..., places of the result, `count`]: what a row of the kernel reads for a place of the result."""
    x, attrs = operand(node, 0), node.attrs
    rank = len(x.shape) - 2
    view, kind, outside = builder.view(x), storage(x), zero_of(x)
    n, _, *sizes = builder.symbols.shape(x.shape)
    stride, pad, dilation = attrs["strides"][-1], attrs["pads"][rank - 1], (attrs["dilations"] or (1,) * rank)[-1]

    def code(n: Any, *at: Any) -> Any:
        *lines, place, step = at
        column = place * stride + step * dilation - pad
        inside = tirx.all(column >= 0, column < sizes[-1])
        return tirx.if_then_else(inside, view(n, 0, *lines, column), tirx.const(outside, kind))

    stage = te.compute((n, *sizes[:-1], node.output.shape[-1], count), code, name=IMAGE)
    shape = (x.shape[0], count, *x.shape[2:-1], node.output.shape[-1])
    return View(shape, lambda p: stage(p.index[0], *p.index[2:], p.index[1]))


def _image(builder: KernelBuilder, x: Value, channels: int) -> View:
    """A stage that holds the image channels last, filled up to so many channels."""
    view, kind = builder.view(x), storage(x)
    n, given, *sizes = builder.symbols.shape(x.shape)
    stage = te.compute(
        (n, *sizes, channels),
        lambda n, *at: tirx.if_then_else(at[-1] < given, view(n, at[-1], *at[:-1]), tirx.const(0, kind)),
        name=IMAGE,
    )
    return View((x.shape[0], channels, *x.shape[2:]), lambda p: stage(p.index[0], *p.index[2:], p.index[1]))


def patch_reader(
    builder: KernelBuilder, node: Node, outside: float | None = None, view: View | None = None, rows_of_kernel: bool = False
) -> Callable[[Any, tuple[Any, ...], Any], Any]:
    """(row m, kernel position, channel) -> element of the image, `outside` of it that number or the zero point.

    `view` is the image where it is not the operand as it lies; `rows_of_kernel` says that it has the last axis of the
    result and of the kernel, as places and channels, and the kernel position none.
    """
    x, attrs = operand(node, 0), node.attrs
    symbols, shape = builder.symbols, node.output.shape
    view, rank = view or builder.view(x), len(x.shape) - 2
    sizes = symbols.shape(x.shape[2:])
    outs = symbols.shape((shape[0], *shape[2:]))
    kind, fill = storage(x), zero_of(x) if outside is None else outside
    kernel = node.attrs["kernel"] if "kernel" in attrs else operand(node, 1).shape[2:]
    dilations = attrs.get("dilations") or (1,) * rank
    source = Layout(CHANNELS_LAST, x.shape)
    plain = all(k == 1 for k in kernel) and all(s == 1 for s in attrs["strides"]) and not any(attrs["pads"])

    def read(m: Any, position: tuple[Any, ...], channel: Any) -> Any:
        n, *at = unflatten(m, outs)
        if plain:
            return view.at(Point(x.shape, (n, channel, *at), source, (m, channel)))
        places, inside = [], []
        for i in range(rank - 1 if rows_of_kernel else rank):
            place = at[i] * attrs["strides"][i] + position[i] * dilations[i] - attrs["pads"][i]
            # windows that never leave the image need no test
            reach = (kernel[i] - 1) * dilations[i]
            if attrs["pads"][i] > 0:
                inside.append(place >= 0)
            known = isinstance(sizes[i], int) and isinstance(outs[1 + i], int)
            if not known or (outs[1 + i] - 1) * attrs["strides"][i] + reach - attrs["pads"][i] >= sizes[i]:
                inside.append(place < sizes[i])
            places.append(place)
        if rows_of_kernel:
            places.append(at[-1])
        value = view(n, channel, *places)
        return tirx.if_then_else(tirx.all(*inside), value, tirx.const(fill, kind)) if inside else value

    return read


def _product(
    builder: KernelBuilder, node: Node, layout: Layout, batch: Any, rows: Any, columns: Any, taps: int, channels: Any,
    a: Any, w: Any, x_value: Value, w_value: Value, bias: Value | None, finish: Finish, out_type: str,
    channels_last_groups: bool = False,
) -> Product:  # fmt: skip
    if isinstance(w, np.ndarray):
        _, w_type, w_zero = weight_codes(w_value)
    else:
        w_type, w_zero = storage(w_value), zero_of(w_value)
    offsets = None
    if bias is not None:
        if bias.data is None:
            raise UnsupportedError(f"{node.where()}: a computed bias has no kernel")
        offsets = bias.data.reshape(batch if isinstance(batch, int) else 1, -1)

    batch, rows, columns, channels = (builder.size(d) for d in (batch, rows, columns, channels))

    def done(acc: Any, b: Any, m: Any, n: Any) -> Any:
        if channels_last_groups:
            place = (m, b * columns + n)
        elif isinstance(batch, int) and batch == 1:
            place = (m, n)
        else:
            place = (b * rows + m, n)
        index = layout.logical(place, builder.symbols)
        return finish(acc, Point(layout.shape, index, layout, place))

    return Product(
        batch=batch, rows=rows, columns=columns, taps=taps, channels=channels, a=a, a_type=storage(x_value), w=w,
        w_type=w_type, finish=done, out_type=out_type, a_zero=zero_of(x_value), w_zero=w_zero,
        bias=offsets, channels_last_groups=channels_last_groups,
    )  # fmt: skip


PRODUCTS = {"linear": linear, "matmul": matmul, "conv": conv}


def is_depthwise(node: Node) -> bool:
    """A convolution whose groups have one input channel each: a product would waste its vectors."""
    return node.op == "conv" and operand(node, 1).shape[1] == 1 and node.attrs["groups"] > 1
