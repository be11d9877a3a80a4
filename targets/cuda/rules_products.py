"""Products, sums over axes and functions with int32 results, each with the requantize that reads it in one launch."""

from __future__ import annotations

import math

import numpy as np

from qcompiler.ir import DType, Node, Value
from qcompiler.kernels.gpu import gemm, pointwise, real, windows
from qcompiler.kernels.gpu.gemm import Geometry
from qcompiler.kernels.gpu.launch import Buffer, View, constant, in_order, memory_order
from qcompiler.kernels.gpu.rescale import OUTPUTS
from qcompiler.targets.cuda.fuse import after
from qcompiler.targets.cuda.lower import Lowering, NoKernel, Rule, first, known_shape, rescale_of, zero_point


def requantize(low: Lowering, node: Node) -> None:
    """The launch of the product that is rescaled, or of a rescale of codes."""
    value = first(node)
    product = low.graph.producer(value)
    if node.output.dtype.name not in OUTPUTS:
        raise NoKernel(f"results are {', '.join(OUTPUTS)}, this one is {node.output.dtype.name}")
    if product is None or product.op not in EMIT:
        rescale = rescale_of(node, low.fresh("rescale"))
        if value.quant is not None and value.quant.zero_point.ndim and not value.quant.symmetric:
            raise NoKernel("codes with zero points by channel")
        x = low.view(value)
        y = low.like(node.output, x)
        zero, axis = 0 if value.quant is None or value.quant.zero_point.ndim else zero_point(value), value.quant.axis if value.quant else None
        low.add(pointwise.requantize(x, zero, y, rescale, axis if rescale.per_channel else None), [node], node.output, y)
        return
    EMIT[product.op](low, product, node)


def nodes(product: Node, node: Node, last: Node) -> list[Node]:
    """The nodes of one launch, each once."""
    return list(dict.fromkeys((product, node, last)))


def _weights(product: Node) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """int8 codes, bias, and zero points by channel of a layer."""
    w, bias = product.inputs[1], product.inputs[2]
    assert w is not None
    if w.data is None or w.quant is None:
        raise NoKernel("its weights are computed")
    if w.dtype.bits > 8:
        raise NoKernel(f"weights of {w.dtype.name} have no kernel; those of up to 8 bits have")
    if bias is not None and bias.data is None:
        raise NoKernel("its bias is computed")
    shift = 128 if w.dtype is DType.uint8 else 0
    zeros = np.broadcast_to(w.quant.zero_point.astype(np.int64) - shift, w.data.shape[:1])
    return (w.data.astype(np.int64) - shift).astype(np.int8), None if bias is None else bias.data, zeros


def _codes(product: Node, *values: Value) -> None:
    wrong = [v.dtype.name for v in values if v.dtype not in (DType.int8, DType.uint8, DType.int16)]
    if wrong:
        raise NoKernel(f"{product.op} of {', '.join(wrong)} codes has no kernel; int8, uint8 and int16 have")


def _signed(low: Lowering, value: Value, node: Node) -> View:
    """An operand of a product; uint8 codes 128 lower, as int8."""
    view = low.view(value)
    if value.dtype is not DType.uint8:
        return view
    order = memory_order(view) if view.dense else None
    made = in_order(Buffer(low.fresh(f"{value.name or 'value'}.signed"), view.count), np.dtype(np.int8), view.shape, order)
    middle = constant(low.fresh("middle"), np.asarray(128, np.int64))
    low.add(pointwise.plain("sub", [view, middle.expand(view.shape)], made), (node,), None, made)
    return made


def _bytes(low: Lowering, view: View, value: Value, node: Node, order: tuple[int, ...] | None = None) -> tuple[View, int]:
    """An int8 operand of a product, or the planes of bytes of an int16 one, and the zero point of these."""
    if view.dtype == np.int8:
        return view, zero_point(value) - (128 if value.dtype is DType.uint8 else 0)
    place = None if order is None else (0, *(a + 1 for a in order))
    buffer = Buffer(low.fresh(f"{value.name or 'value'}.bytes"), 2 * view.count)
    planes = in_order(buffer, np.dtype(np.int8), (2, *view.shape), place)
    low.add(pointwise.byte_planes(view, planes), (node,), None, planes)
    return planes, zero_point(value) - 128


def _linear(low: Lowering, product: Node, node: Node) -> None:
    value = first(product)
    _codes(product, value)
    codes, bias, zeros = _weights(product)
    n, k = codes.shape
    x = _signed(low, value, product)
    rows = x.count // max(k, 1)
    flat = x.reshape((rows, k)) if x.strides[-1] == 1 or k == 1 else None
    if flat is None:
        flat = low.copy(x, value, (product,)).reshape((rows, k))
    assert flat is not None
    operand, zero = _bytes(low, flat, value, product)
    name = low.fresh(product.origin.module or "linear")
    follows, last = after(low, node, range(len(x.shape))) if rows > gemm.MOST_ROWS else (gemm.NOTHING, node)
    y = low.new(last.output)
    c = y.reshape((rows, n))
    assert c is not None
    weights = gemm.pack_weights(name, codes, bias, zero, zeros=zeros)
    launch = gemm.linear(operand, weights, c, rescale_of(node, name), arch=low.arch, after=follows)
    low.add(launch, nodes(product, node, last), last.output, y)


def _matmul(low: Lowering, product: Node, node: Node) -> None:
    a, b = product.operands
    _codes(product, a, b)
    rescale = rescale_of(node, low.fresh(product.origin.module or "matmul"))
    if rescale.per_channel or any(v.quant is None or not v.quant.per_tensor for v in (a, b)):
        raise NoKernel("a product of activations has one scale per operand")
    y = low.new(node.output, order_of_reader(low, node.output))
    batch, rank = y.shape[:-2], len(y.shape)
    left = _signed(low, a, product).expand((*batch, *a.shape[-2:]))
    right = _signed(low, b, product).expand((*batch, *b.shape[-2:])).transpose([*range(rank - 2), rank - 1, rank - 2])
    out = two_batches(low, y, None, product)
    operands = [two_batches(low, v, of, product, any_strides=v.dtype == np.int16) for v, of in ((left, a), (right, b))]
    (left, left_zero), (right, right_zero) = (_bytes(low, v, of, product) for v, of in zip(operands, (a, b)))
    low.add(gemm.matmul(left, right, out, (left_zero, right_zero), rescale, arch=low.arch), nodes(product, node, node), node.output, y)


def order_of_reader(low: Lowering, value: Value) -> tuple[int, ...] | None:
    """The order of axes that makes the only reader's transpose a view without gaps; innermost stays innermost."""
    reader = low.graph.sole_user(value)
    if reader is None or reader.op != "transpose":
        return None
    perm = tuple(reader.attrs["perm"])
    return perm if perm[-1] == len(perm) - 1 else None


def two_batches(low: Lowering, view: View, of: Value | None, node: Node, any_strides: bool = False) -> View:
    """[Z0, Z1, rows, columns] with neighbouring columns unless `any_strides`; operands that do not lie so are copied."""
    *batch, rows, columns = view.shape
    split = max(len(batch) - 1, 0)
    shape = (math.prod(batch[:split]), math.prod(batch[split:]), rows, columns)
    found = view.reshape(shape) if any_strides or view.strides[-1] == 1 or columns == 1 else None
    if found is None:
        if of is None:
            raise NoKernel(f"a product with {len(batch)} batch axes")
        found = low.copy(view, of, (node,)).reshape(shape)
    assert found is not None
    return found


def planes_of(view: View) -> View:
    """[N, C, H, W] of a tensor with one or two spatial axes, [N, C, D, H, W] of one with three."""
    if len(view.shape) in (4, 5):
        return view
    if len(view.shape) != 3:
        raise NoKernel(f"windows over {len(view.shape) - 2} axes have no kernel; 1, 2 and 3 have")
    n, c, length = view.shape
    sn, sc, sl = view.strides
    return View(view.buffer, view.dtype, (n, c, 1, length), (sn, sc, 0, sl), view.offset)


def geometry_of(kernel: tuple[int, ...], node: Node) -> Geometry:
    """Of a node with strides, pads and dilations over one to three axes."""
    rank = len(kernel)
    front = (1,) * (2 - rank)
    strides, pads = tuple(node.attrs["strides"]), tuple(node.attrs["pads"])
    dilations = tuple(node.attrs.get("dilations") or (1,) * rank)
    return Geometry((*front, *kernel), (*front, *strides), ((0,) * (2 - rank) + pads[:rank]), (*front, *dilations))


def channels_last(rank: int) -> tuple[int, ...]:
    """Order of axes in memory for windows."""
    return (0, *range(2, rank), 1)


def _check_reach(geometry: Geometry, size: tuple[int, ...]) -> None:
    """The table of taps holds their distances in 16 bits each, over three axes in fewer."""
    farthest = gemm.FARTHEST[len(geometry.kernel)]
    reach = [(k - 1) * d for k, d in zip(geometry.kernel, geometry.dilation)]
    if any(r > f for r, f in zip(reach, farthest)) or size[0] + geometry.pad[0] > farthest[0]:
        raise NoKernel(f"windows that reach over {reach} in {list(size)} elements; distances go to {list(farthest)}")


def _conv(low: Lowering, product: Node, node: Node) -> None:
    value = first(product)
    _codes(product, value)
    codes, bias, zeros = _weights(product)
    x, groups, rank = _signed(low, value, product), product.attrs["groups"], len(value.shape)
    order = channels_last(rank)
    depthwise = groups == codes.shape[0] and codes.shape[1] == 1 and groups > 1 and rank < 5
    wide = x.dtype == np.int16 and not depthwise
    if not wide and x.strides[1] != 1 and x.shape[1] != 1 and (depthwise or codes.shape[1] % 4 == 0):
        x = low.copy(x, value, (product,), order)  # neighbouring channels can be read together
    follows, last = (gemm.NOTHING, node) if depthwise else after(low, node, order)
    y = low.new(last.output, order)
    x, planes = planes_of(x), planes_of(y)
    geometry = geometry_of(codes.shape[2:], product)
    _check_reach(geometry, x.shape[2:])
    name = low.fresh(product.origin.module or "conv")
    rescale = rescale_of(node, name)
    filters = codes.reshape(*codes.shape[:2], *geometry.kernel)
    real_zero = zero_point(value) - (128 if value.dtype is DType.uint8 else 0)
    if depthwise:
        launch = windows.depthwise(name, x, filters[:, 0], bias, planes, geometry, real_zero, rescale, zeros)
    else:
        operand, zero = _bytes(low, x, value, product, channels_last(len(x.shape)))
        flat = np.moveaxis(filters, 1, -1).reshape(len(filters), -1)
        weights = gemm.pack_weights(name, flat, bias, zero, groups, zeros, windows=True)
        launch = gemm.conv(name, operand, weights, planes, geometry, real_zero, rescale, arch=low.arch, after=follows)
    low.add(launch, nodes(product, node, last), last.output, y)


def _mul(low: Lowering, product: Node, node: Node) -> None:
    a, b = product.operands
    views = [low.view(v) for v in (a, b)]
    whole = next((v for v in views if v.shape == known_shape(node.output)), None)
    y = low.new(node.output) if whole is None else low.like(node.output, whole)
    rescale = rescale_of(node, low.fresh("mul"))
    if rescale.per_channel:
        raise NoKernel("a product of codes has one factor")
    operands = [(v, zero_point(of)) for v, of in zip(views, (a, b))]
    low.add(pointwise.multiply(*operands, y, rescale), nodes(product, node, node), node.output, y)


def _sum(low: Lowering, product: Node, node: Node) -> None:
    value = first(product)
    x = low.view(value)
    axes = sorted(a % len(x.shape) for a in product.attrs["axes"]) or list(range(len(x.shape)))
    y = low.new(node.output)
    rescale = rescale_of(node, low.fresh("sum"))
    low.add(windows.sum_axes(x, zero_point(value), axes, y, rescale), nodes(product, node, node), node.output, y)


def _sigmoid(low: Lowering, product: Node, node: Node) -> None:
    value, attrs = first(product), product.attrs
    x = low.view(value)
    y = low.like(node.output, x)
    rescale = rescale_of(node, low.fresh("sigmoid"))
    launch = pointwise.shift_sigmoid(
        (x, zero_point(value)), attrs["unit"], attrs["bits"], attrs["gate_bits"], attrs["form"], y, rescale
    )
    low.add(launch, nodes(product, node, node), node.output, y)


def _max_pool(low: Lowering, node: Node) -> None:
    value = first(node)
    x = low.view(value)
    y = low.new(node.output, memory_order(x) if x.dense else channels_last(len(x.shape)))
    launch = windows.max_pool(planes_of(x), planes_of(y), geometry_of(tuple(node.attrs["kernel"]), node))
    low.add(launch, [node], node.output, y)


EMIT = {
    "conv": _conv,
    "linear": _linear,
    "matmul": _matmul,
    "integer_mul": _mul,
    "reduce_mean": _sum,
    "reduce_sum": _sum,
    "shift_sigmoid": _sigmoid,
}

TO_REAL = ("conv", "linear", "matmul")


def dequantize(low: Lowering, node: Node) -> None:
    """The launch of the product whose accumulators become real numbers, or codes as real numbers."""
    value = first(node)
    quant, product = value.quant, low.graph.producer(value)
    assert quant is not None
    if product is not None and product.op in EMIT and value.dtype is DType.int32:
        if product.op not in TO_REAL:
            raise NoKernel(f"accumulators of {product.op} have to be rescaled to codes")
        EMIT[product.op](low, product, node)
        return
    if quant.group_size is not None or not quant.per_tensor and not quant.symmetric:
        raise NoKernel("codes in groups, or with zero points by channel")
    x = low.view(value)
    y = low.like(node.output, x)
    scale = constant(low.fresh("scale"), quant.broadcast(quant.scale, known_shape(value)))
    low.add(real.pointwise("dequantize", [(x, 0 if quant.zero_point.ndim else zero_point(value)), (scale, 0)], y), [node], node.output, y)


def later(low: Lowering, node: Node) -> None:
    """A product is computed where its accumulators are rescaled; here if anything else reads them."""
    others = [user for user, _ in low.graph.uses(node.output) if user.op not in ("requantize", "dequantize")]
    if others or low.graph.is_output(node.output):
        EMIT[node.op](low, node, node)


RULES: dict[str, Rule] = {
    **dict.fromkeys(EMIT, later), "requantize": requantize, "dequantize": dequantize, "max_pool": _max_pool,
}  # fmt: skip
