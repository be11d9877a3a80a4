"""Products with constant weights, each with the rescale of its accumulators in one call."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from qcompiler.errors import ConstraintError
from qcompiler.ir import DType, Graph, Node, Value
from qcompiler.kernels.mcu import layouts as weight_layouts
from qcompiler.kernels.mcu import overlap, pack, scratch
from qcompiler.kernels.mcu.geometry import Window
from qcompiler.targets.mcu.layouts import channels_last, plain
from qcompiler.targets.mcu.legalize import IN_PLACE, PRODUCTS, Legalizer, NoKernel, Rule, known_shape
from qcompiler.targets.mcu.memory_plan import Overlap
from qcompiler.targets.mcu.program import At, Scratch, Step, Struct, Tensor
from qcompiler.targets.mcu.rule_tools import factors, first, limits, same_rounding, window_of, zero_point
from qcompiler.targets.mcu.rules_activations import ACTIVATIONS

Addition = tuple[Node, Value, Struct]
"""A residual sum computed with a convolution: its node, the other operand, its parameters."""

def _later(low: Legalizer, node: Node) -> None:
    """A product is computed where its accumulators are rescaled."""
    if low.graph.is_output(node.output):
        raise NoKernel("its accumulators are an output of the model; outputs are codes")


def product_takes_add(graph: Graph, product: Node, rescale: Node) -> Node | None:
    """The residual sum that a convolution computes in the same call, None if there is none.

    It has to be the only reader, and the convolution the last to compute one of the two operands: then nothing is
    computed later, and kept longer, than in the graph.
    """
    adder = graph.sole_user(rescale.output)
    if product.op != "conv" or adder is None or adder.op != "requantize_sum" or len(adder.operands) != 2:
        return None
    other = next((v for v in adder.operands if v is not rescale.output), None)
    same = [tuple(v.shape) == tuple(adder.output.shape) for v in adder.operands]
    if other is None or other.is_const or not all(same) or is_depthwise(product):
        return None
    if any(v.dtype is not DType.int8 for v in (*adder.operands, adder.output)) or known_shape(adder.output)[0] != 1:
        return None
    order = {node: i for i, node in enumerate(graph.nodes)}
    source = graph.producer(other)
    return adder if source is None or order[source] < order[product] else None


def is_depthwise(node: Node) -> bool:
    """True for one filter per channel."""
    x, w = node.inputs[:2]
    return x is not None and w is not None and node.attrs["groups"] == x.shape[1] == w.shape[0] and w.shape[1] == 1


def emit_product(low: Legalizer, product: Node, rescale: Node, addition: Addition | None = None) -> None:
    """Append the call for a product, the requantize that reads it, and the sum that reads that."""
    if product.op in ACTIVATIONS:
        ACTIVATIONS[product.op](low, product, rescale)
        return
    wide = rescale.output.dtype is DType.int16 and product.op == "linear"
    if first(product).dtype is not DType.int8 or not (wide or rescale.output.dtype is DType.int8):
        raise NoKernel(f"{product.op} of {first(product).dtype.name} to {rescale.output.dtype.name} has no kernel")
    if product.op == "conv":
        _conv(low, product, rescale, addition)
    else:
        _linear(low, product, rescale)


def _rescale(low: Legalizer, product: Node, rescale: Node, weights: np.ndarray, name: str) -> dict[str, Any]:
    """qc_rescale_params; `weights` [C, K]."""
    bias = product.inputs[2]
    if bias is not None and bias.data is None:
        raise NoKernel("its bias is computed")
    same_rounding(low, rescale)
    bounds = limits(rescale)
    try:
        folded = pack.fold_zero_point(None if bias is None else bias.data, weights, zero_point(first(product)))
        m, s = factors(rescale)
        found = pack.pack_rescale(folded, m, s, low.profile, bounds["qmin"], bounds["qmax"], weights)
    except ValueError as error:
        raise ConstraintError(f"{product.where()}: {error}") from None
    return {
        "bias": low.data(f"{name}_bias", found.bias, "int32_t"),
        "multiplier": None if found.multiplier is None else low.data(f"{name}_multiplier", found.multiplier, "int32_t"),
        "shift": low.data(f"{name}_shift", found.shift, "int8_t"),
        **bounds,
        "flags": found.flags,
    }


def _weights(product: Node) -> tuple[np.ndarray, int]:
    """Codes of the weights as int8, and their bits."""
    w = product.inputs[1]
    assert w is not None
    if w.data is None or w.quant is None:
        raise NoKernel("its weights are computed")
    if not w.dtype.is_signed or w.dtype.bits > 8 or not w.quant.symmetric:
        raise NoKernel(f"weights of {w.dtype.name} with zero points have no kernel; symmetric signed ones of up to 8 bits have")
    return w.data.astype(np.int8), 4 if w.dtype.bits <= 4 else 8


def depthwise_scratch(step: Step, isa: str, rows: int) -> int:
    """Scratch bytes of a depthwise convolution if it gathered `rows` rows at a time."""
    params = next(a for a in step.arguments if isinstance(a, Struct))
    window, block = params.fields["window"], params.fields["channel_block"]
    assert isinstance(window, dict) and isinstance(block, int)
    return scratch.depthwise_conv2d_s8(Window(**window), block, isa, rows)


def is_average(product: Node, rescale: Node) -> bool:
    """True for a depthwise convolution that adds up its window: what average pooling was lowered to."""
    w, bias = product.inputs[1:3]
    if not is_depthwise(product) or bias is not None or w is None or w.data is None or set(product.attrs["dilations"]) != {1}:
        return False
    return bool((w.data == 1).all()) and all((f == f.ravel()[0]).all() for f in factors(rescale))


def _average(low: Legalizer, product: Node, rescale: Node) -> None:
    value, w = product.operands[:2]
    order = channels_last(len(value.shape))
    x = low.ordered(value, order, product)
    y = low.new(rescale.output, order)
    window = window_of(x, known_shape(w)[2:], {k: product.attrs[k] for k in ("strides", "pads", "dilations")}, y.shape)
    m, s = (int(f.ravel()[0]) for f in factors(rescale))
    m, s = pack.pack_any_factor(m, s, str(rescale.attrs["rounding"]), low.profile)
    fields = {"window": vars(window), "multiplier": m, "shift": s, "input_zero_point": zero_point(value), **limits(rescale)}
    params = Struct(low.fresh(product.origin.module or "pool"), "qc_avg_pool_s8_params", fields)
    batch = x.shape[0]
    arguments = (At(x, x.count // batch), At(y, y.count // batch), params)
    low.steps.append(Step("qc_avg_pool_s8", arguments, (x,), y, (product, rescale), repeat=batch, note="average pool"))
    low.bind(rescale.output, y)


def is_scale(low: Legalizer, product: Node) -> bool:
    """True for a scale per channel: a depthwise convolution by one pixel. MVE's depthwise kernel is faster at it."""
    a, w = product.attrs, product.operands[1]
    plain_window = set(w.shape[2:]) == {1} and set(a["strides"]) == {1} and not any(a["pads"])
    return is_depthwise(product) and plain_window and low.isa != "mve"


def _scale(low: Legalizer, product: Node, rescale: Node) -> None:
    value = first(product)
    w, _ = _weights(product)
    order = channels_last(len(value.shape))
    x, y = low.ordered(value, order, product), low.new(rescale.output, order)
    name = low.fresh(product.origin.module or "scale")
    weights = low.data(f"{name}_weights", w.reshape(-1), "int8_t")
    params = Struct(name, "qc_rescale_params", _rescale(low, product, rescale, w.reshape(len(w), 1), name))
    arguments = (At(x), At(y), x.count // len(w), len(w), weights, params)
    low.steps.append(
        Step("qc_scale_channels_s8", arguments, (x,), y, (product, rescale), overlaps={0: IN_PLACE}, macs=x.count)
    )
    low.bind(rescale.output, y)


def _conv(low: Legalizer, product: Node, rescale: Node, addition: Addition | None) -> None:
    if addition is None and is_average(product, rescale):
        _average(low, product, rescale)
        return
    if addition is None and is_scale(low, product):
        _scale(low, product, rescale)
        return
    value = first(product)
    w, bits = _weights(product)
    order = channels_last(len(value.shape))
    x = low.ordered(value, order, product)
    last = rescale if addition is None else addition[0]
    y = low.new(last.output, order)
    attrs = {k: product.attrs[k] for k in ("strides", "pads", "dilations")}
    window = window_of(x, w.shape[2:], attrs, y.shape)
    groups = product.attrs["groups"]
    filters = w.transpose(0, *range(2, w.ndim), 1).reshape(w.shape[0], -1)
    name = low.fresh(product.origin.module or "conv")
    fields: dict[str, Any] = {
        "window": vars(window),
        "rescale": _rescale(low, product, rescale, filters, name),
    }
    depthwise = is_depthwise(product) and bits == 8
    batch = x.shape[0]
    if depthwise:
        packed = weight_layouts.pack_depthwise(filters, low.isa)
        if int(w.min(initial=0)) > -128:
            fields["rescale"]["flags"] |= pack.NARROW_WEIGHTS
        block, rows = low.schedule.channel_block, low.schedule.row_block(product)
        size = scratch.depthwise_conv2d_s8(window, block, low.isa, rows)
        tail = {"input_zero_point": zero_point(value), "channel_block": block, "row_block": rows}
        overlaps = {0: Overlap(None, same=True)} if batch == 1 and overlap.depthwise_in_place(window) else {}
    else:
        packed = weight_layouts.pack_weights(filters, low.isa, groups, bits)
        columns = low.schedule.columns
        size = scratch.conv2d_s8(window, groups, columns, low.isa, addition is not None)
        tail = {"groups": groups, "input_zero_point": zero_point(value), "columns": columns, "weight_bits": bits}
        distance = overlap.conv2d_distance(window, groups, columns) if batch == 1 else None
        overlaps = {} if distance is None else {0: Overlap(distance)}
    fields |= {"weights": low.data(f"{name}_weights", packed, "uint8_t", 8), **tail}
    kind = "depthwise_conv2d_s8" if depthwise else "conv2d_s8"
    params = Struct(name, f"qc_{kind}_params", fields)
    macs = math.prod(y.shape) * filters.shape[1]
    pointers = (At(x, x.count // batch), At(y, y.count // batch))
    if addition is None:
        step = Step(f"qc_{kind}", (*pointers, params, Scratch()), (x,), y, (product, rescale), size, overlaps, batch, macs)
    else:
        adder, other, add = addition
        residual = low.ordered(other, order, adder)
        arguments = (pointers[0], At(residual), pointers[1], params, add, Scratch())
        nodes = (product, rescale, adder)
        overlaps = {**overlaps, 1: IN_PLACE}
        step = Step("qc_conv2d_add_s8", arguments, (x, residual), y, nodes, size, overlaps, 1, macs, "with the residual sum")
    low.steps.append(step)
    low.bind(last.output, y)


def _linear(low: Legalizer, product: Node, rescale: Node) -> None:
    value = first(product)
    x = low.tensor(value)
    w, bits = _weights(product)
    if x.columns is not None:
        w = w[:, x.columns]
    elif x.order[-1] != len(x.shape) - 1 and not x.lies_as((*[a for a in x.order if a != len(x.shape) - 1], len(x.shape) - 1)):
        x = low.ordered(value, plain(len(x.shape)), product)
    y = low.new(rescale.output, plain(len(x.shape)) if x.columns is not None else _rows_order(x))
    rows, inner, outer = x.count // w.shape[1], w.shape[1], w.shape[0]
    columns = low.schedule.columns
    name = low.fresh(product.origin.module or "linear")
    fields = {
        "rows": rows,
        "in_features": inner,
        "out_features": outer,
        "rescale": _rescale(low, product, rescale, w, name),
        "weights": low.data(f"{name}_weights", weight_layouts.pack_weights(w, low.isa, 1, bits), "uint8_t", 8),
        "columns": columns,
        "weight_bits": bits,
        "y_bits": y.bits,
    }
    if y.bits == 16 and bits != 8:
        raise NoKernel("weights of 4 bits with results of 16 have no kernel")
    params = Struct(name, "qc_fully_connected_s8_params", fields)
    size = scratch.fully_connected_s8(rows, inner, columns, low.isa)
    overlaps = {0: Overlap(overlap.fully_connected_distance(rows, inner, outer * y.item, columns if y.item == 1 else 1))}
    arguments = (At(x), At(y), params, Scratch())
    low.steps.append(
        Step("qc_fully_connected_s8", arguments, (x,), y, (product, rescale), size, overlaps, macs=rows * inner * outer)
    )
    low.bind(rescale.output, y)


def _rows_order(x: Tensor) -> tuple[int, ...]:
    """The order of the rows as it is, features innermost."""
    last = len(x.shape) - 1
    return (*[a for a in x.order if a != last], last)


RULES: dict[str, Rule] = dict.fromkeys(PRODUCTS, _later)
