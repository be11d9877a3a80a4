"""ONNX forms of real matrix products, convolutions, pooling and resizing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from qcompiler.errors import UnsupportedError
from qcompiler.ir import DType, Graph, Node, Value
from qcompiler.ir.dims import is_symbolic

from .emit_elementwise import Rule
from .emit_movement import reshape
from .emitter import Emitter


def transposed_weight(e: Emitter, w: Value) -> str:
    """W [N, K] as [K, N]. A constant is stored transposed, unless others read it as it is (tied embeddings)."""
    tied = any(user.op != "linear" for user, _ in e.graph.uses(w)) or e.graph.is_output(w)
    if w.data is None or tied:
        key = (w, "transposed")
        if key not in e.cache:
            e.cache[key] = e.op("Transpose", w, perm=[1, 0])
        return e.cache[key]
    return e.weight(w, "transposed", w.data.T)


def real_operand(e: Emitter, node: Node) -> str | Value:
    """What a layer that stays real reads.

    ONNX Runtime takes DequantizeLinear -> Conv (or ConvTranspose) -> QuantizeLinear for a layer that is meant to be
    quantized, and rounds its weights to 8 bits with one scale (1.31, from the first level of optimizations on). It does not
    look through a maximum, and one with the least float32 changes nothing. Files for other compilers (QONNX) are not for it.
    """
    x = node.inputs[0]
    assert x is not None
    source = e.graph.producer(x)
    if e.style.simulated or source is None or source.op != "dequantize" or not _is_quantized_next(e.graph, node.output):
        return x
    return str(e.op("Max", x, e.const(np.finfo(np.float32).min, np.float32, "least")))


def _is_quantized_next(graph: Graph, value: Value) -> bool:
    """Whether a reader, or one behind a clip or a relu, quantizes the value."""
    users = [user for user, _ in graph.uses(value)]
    return any(u.op == "quantize" or (u.op in ("clip", "relu") and _is_quantized_next(graph, u.output)) for u in users)


def _linear(e: Emitter, node: Node) -> str:
    x, w, bias = node.inputs
    assert x is not None and w is not None
    if len(x.shape) == 2 and bias is not None:
        return str(e.op("Gemm", x, w, bias, transB=1))
    y = e.op("MatMul", x, transposed_weight(e, w))
    return str(y if bias is None else e.op("Add", y, bias))


def conv_attrs(attrs: Mapping[str, Any], w: Value) -> dict[str, Any]:
    """Attributes of ONNX Conv and its quantized relatives."""
    return {
        "kernel_shape": [int(d) for d in w.shape[2:]],
        "strides": list(attrs["strides"]),
        "pads": list(attrs["pads"]),
        "dilations": list(attrs["dilations"]),
        "group": attrs["groups"],
    }


def _conv(e: Emitter, node: Node) -> str:
    _, w, bias = node.inputs
    assert w is not None
    return str(e.op("Conv", real_operand(e, node), w, bias, **conv_attrs(node.attrs, w)))


def _conv_transpose(e: Emitter, node: Node) -> str:
    _, w, bias = node.inputs
    assert w is not None
    extra = list(node.attrs["output_padding"])
    return str(e.op("ConvTranspose", real_operand(e, node), w, bias, **conv_attrs(node.attrs, w), output_padding=extra))


def _extra_end_pads(x: Value, node: Node) -> list[int]:
    """What ceil_mode adds to the end pads so that plain floor pooling gives the op's output size."""
    a, rank = node.attrs, len(x.shape) - 2
    dilations = a.get("dilations") or (1,) * rank
    extra = []
    for i in range(rank):
        size, out = x.shape[2 + i], node.output.shape[2 + i]
        if is_symbolic(size) or is_symbolic(out):
            raise UnsupportedError(f"{node.where()}: pooling with ceil_mode needs known sizes, got {list(x.shape)}")
        need = (out - 1) * a["strides"][i] + dilations[i] * (a["kernel"][i] - 1) + 1
        extra.append(max(0, need - size - a["pads"][i] - a["pads"][rank + i]))
    return extra


def pool_attrs(x: Value, node: Node) -> dict[str, Any]:
    """Attributes of MaxPool and AveragePool, ceil_mode resolved into explicit pads."""
    a, rank = node.attrs, len(x.shape) - 2
    pads = list(a["pads"])
    if a["ceil_mode"]:
        pads = pads[:rank] + [p + n for p, n in zip(pads[rank:], _extra_end_pads(x, node), strict=True)]
    return {"kernel_shape": list(a["kernel"]), "strides": list(a["strides"]), "pads": pads}


def _max_pool(e: Emitter, node: Node) -> str:
    (x,) = node.operands
    attrs = {"dilations": list(node.attrs["dilations"]) or None, **pool_attrs(x, node)}
    if x.dtype.is_float or x.dtype.bits == 8:
        return str(e.op("MaxPool", x, **attrs))
    if x.dtype.bits > 16:
        raise UnsupportedError(f"{node.where()}: maximum pooling of {x.dtype.name} has no form in ONNX")
    # ONNX pools codes of 8 bits only; float32 holds 16 bits exactly, and the maximum is one of them.
    return e.cast(e.op("MaxPool", e.cast(x, DType.float32), **attrs), x.dtype)


def _avg_pool_rule(e: Emitter, node: Node) -> str:
    (x,) = node.operands
    include = int(node.attrs["count_include_pad"])
    attrs = pool_attrs(x, node)
    if attrs["pads"] == list(node.attrs["pads"]):
        return str(e.op("AveragePool", x, count_include_pad=include, **attrs))
    # ceil_mode reaches beyond the padding, and that part never counts: average over full windows, then set right.
    full = e.op("AveragePool", x, count_include_pad=1, **attrs)
    correction = np.prod(attrs["kernel_shape"]) / _window_counts(x, node, attrs)
    return str(e.op("Mul", full, e.const(correction.astype(x.dtype.numpy))))


def _window_counts(x: Value, node: Node, attrs: Mapping[str, Any]) -> np.ndarray:
    """How many elements of each window count, [1, 1, out...]; at least 1."""
    rank = len(x.shape) - 2
    given, wide = node.attrs["pads"], attrs["pads"]
    padding = float(node.attrs["count_include_pad"])
    marks = np.ones([int(d) for d in x.shape[2:]])
    marks = np.pad(marks, [(given[i], given[rank + i]) for i in range(rank)], constant_values=padding)
    marks = np.pad(marks, [(0, wide[rank + i] - given[rank + i]) for i in range(rank)])
    windows = np.lib.stride_tricks.sliding_window_view(marks, attrs["kernel_shape"])
    windows = windows[tuple(slice(None, None, s) for s in attrs["strides"])]
    return np.maximum(windows.sum(tuple(range(-rank, 0))), 1)[None, None]


_COORDINATES = {"nearest": "asymmetric", "linear": "half_pixel", "cubic": "half_pixel"}


def _resize(e: Emitter, node: Node) -> str:
    """1-d signals gain an axis: ONNX Runtime interpolates over two axes."""
    (x,) = node.operands
    mode, corners = node.attrs["mode"], node.attrs["align_corners"]
    coordinates = "align_corners" if corners and mode != "nearest" else _COORDINATES[mode]
    attrs: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": coordinates}
    if mode == "nearest":
        attrs["nearest_mode"] = "floor"
    if mode == "cubic":
        attrs["cubic_coeff_a"] = -0.75
    shape = (*x.shape[:2], *node.attrs["size"])
    if len(shape) != 3:
        return str(e.op("Resize", x, None, None, e.shape(shape), **attrs))
    wide = e.op("Unsqueeze", x, e.ints([2]))
    y = e.op("Resize", wide, None, None, e.shape((*shape[:2], 1, shape[2])), **attrs)
    return str(e.op("Squeeze", y, e.ints([2])))


RULES: dict[str, Rule] = {
    "linear": _linear,
    "matmul": lambda e, node: e.op("MatMul", *node.operands),
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool_rule,
    "resize": _resize,
}

__all__ = ["RULES", "conv_attrs", "pool_attrs", "reshape", "transposed_weight"]
