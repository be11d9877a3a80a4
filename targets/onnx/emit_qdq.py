"""Quantized ops in Q/DQ form: dequantize, the real op, quantize. Standard domain, what every runtime understands.

Runtimes fuse these patterns into integer kernels; run as written they compute the program to within one step.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from qcompiler.ir import Node, QuantParams, Value

from .emit_elementwise import Rule
from .emit_groups import PORTABLE as GROUPS
from .emit_integer import RULES as INTEGER
from .emit_linear import conv_attrs
from .emitter import Emitter
from .quantized_common import Fusion, dequantize, quant_of, quantize, scale_name, weight_format, weight_scale

FusedRule = Callable[[Emitter, Fusion], str]


def real(e: Emitter, value: Value) -> str:
    """A quantized value dequantized; one DequantizeLinear serves all readers."""
    key = (value, "real")
    if key not in e.cache:
        e.cache[key] = dequantize(e, value, quant_of(value))
    return e.cache[key]


def _real_weight(e: Emitter, fusion: Fusion) -> str:
    """Dequantized weight; linear weights [N, K] are stored as [K, N].

    The codes are those an integer kernel would get: a runtime that fuses the pattern must not saturate either.
    """
    head = fusion.head
    x, w = head.inputs[0], head.inputs[1]
    assert x is not None and w is not None
    if w.data is None:
        return real(e, w)
    quant = quant_of(w)
    axis = quant.axis
    if head.op == "linear" and axis is not None:
        axis = 1 - axis
    weight = weight_format(e, w, x, head.attrs.get("groups", 1), transposed=head.op == "linear")
    scale = scale_name(e, weight_scale(fusion))
    return str(e.op("DequantizeLinear", weight.codes, scale, weight.zero_point, axis=axis))


def _real_bias(e: Emitter, fusion: Fusion, bias: Value) -> str:
    """int32 bias dequantized with the accumulator's scale."""
    x = quant_of(fusion.head.inputs[0])
    scale = np.broadcast_to(x.scale * weight_scale(fusion), bias.shape)
    zero = e.const(np.zeros(bias.shape), np.int32, "zero_point")
    return str(e.op("DequantizeLinear", bias, scale_name(e, scale), zero, axis=0))


def finish(e: Emitter, fusion: Fusion, y: str) -> str:
    """Quantize a real result as the tail says; the clip before it is exact as limits are codes."""
    if fusion.tail.op == "dequantize":
        return y
    out: QuantParams = fusion.tail.attrs["quant"]
    low, high = fusion.tail.attrs["qmin"], fusion.tail.attrs["qmax"]
    bounds = [None if q is None else np.float32((q - int(out.zero_point)) * out.scale) for q in (low, high)]
    low = None if low is None or low <= out.dtype.min else bounds[0]
    high = None if high is None or high >= out.dtype.max else bounds[1]
    if low is not None or high is not None:
        limits = [None if b is None else e.scalar(float(b)) for b in (low, high)]
        y = e.op("Relu", y) if low == 0 and high is None else e.op("Clip", y, *limits)
    return quantize(e, y, out)


def _note(e: Emitter, fusion: Fusion, kernel: str) -> None:
    kinds = " x ".join(v.dtype.name for v in fusion.head.operands[:2])
    e.row(fusion.head, f"Q/DQ {kernel}", kinds)


def _linear(e: Emitter, fusion: Fusion) -> str:
    head = fusion.head
    x, w = head.inputs[0], head.inputs[1]
    bias = head.inputs[2] if head.op == "linear" else None
    assert x is not None and w is not None
    weight = _real_weight(e, fusion)
    if head.op == "linear" and w.data is None:
        weight = e.op("Transpose", weight, perm=[1, 0])
    if bias is not None and len(x.shape) == 2:
        _note(e, fusion, "Gemm")
        y = e.op("Gemm", real(e, x), weight, _real_bias(e, fusion, bias))
    else:
        _note(e, fusion, "MatMul")
        y = e.op("MatMul", real(e, x), weight)
        if bias is not None:
            y = e.op("Add", y, _float_bias(e, fusion, bias))
    return finish(e, fusion, y)


def _float_bias(e: Emitter, fusion: Fusion, bias: Value) -> str:
    """The bias in real numbers: runtimes add it to the real product, where an integer bias would not fuse."""
    if bias.data is None:
        return _real_bias(e, fusion, bias)
    return e.const(real_bias(fusion, bias), hint="bias")


def real_bias(fusion: Fusion, bias: Value) -> np.ndarray:
    """float32 values of a constant int32 bias."""
    x = quant_of(fusion.head.inputs[0])
    assert bias.data is not None
    return (bias.data.astype(np.float32) * (x.scale * weight_scale(fusion))).astype(np.float32)


def _conv(e: Emitter, fusion: Fusion) -> str:
    head = fusion.head
    x, w, bias = head.inputs
    assert x is not None and w is not None
    _note(e, fusion, "Conv")
    shift = None if bias is None else _real_bias(e, fusion, bias)
    y = e.op("Conv", real(e, x), _real_weight(e, fusion), shift, **conv_attrs(head.attrs, w))
    return finish(e, fusion, y)


def _reduce(e: Emitter, fusion: Fusion) -> str:
    (x,) = fusion.head.operands
    attrs = fusion.head.attrs
    if is_global_pool(fusion.head):
        _note(e, fusion, "GlobalAveragePool")
        return finish(e, fusion, e.op("GlobalAveragePool", real(e, x)))
    op_type = "ReduceMean" if fusion.head.op == "reduce_mean" else "ReduceSum"
    _note(e, fusion, op_type)
    axes = e.ints(attrs["axes"]) if attrs["axes"] else None
    return finish(e, fusion, e.op(op_type, real(e, x), axes, keepdims=int(attrs["keepdims"])))


def is_global_pool(node: Node) -> bool:
    """True for a mean over all spatial axes of [N, C, ...] that keeps them."""
    rank = len(node.operands[0].shape)
    axes = sorted(a % rank for a in node.attrs["axes"])
    return node.op == "reduce_mean" and node.attrs["keepdims"] and rank > 2 and axes == list(range(2, rank))


def _requantize_sum(e: Emitter, node: Node) -> str:
    """Add of dequantized operands, where the multipliers are the ratios of scales."""
    out: QuantParams = node.attrs["quant"]
    if node.attrs["rounding"] != "float32_half_even" or not plain_sum(node):
        return INTEGER["requantize_sum"](e, node)  # type: ignore[return-value]
    terms = [real(e, v) for v in node.operands]
    e.row(node, "Q/DQ Add" if len(terms) == 2 else "Q/DQ Sum", out.dtype.name)
    y = e.op("Add" if len(terms) == 2 else "Sum", *terms)
    return finish(e, Fusion(node, node), y)


def plain_sum(node: Node) -> bool:
    """True if each multiplier of a requantize_sum is the ratio of its operand's scale to the output's."""
    out: QuantParams = node.attrs["quant"]
    ratios = [float(quant_of(v).scale / out.scale) for v in node.operands]
    return bool(np.allclose(ratios, node.attrs["real_multipliers"], rtol=1e-6, atol=0))


FUSED: dict[str, FusedRule] = {
    "linear": _linear,
    "matmul": _linear,
    "conv": _conv,
    "reduce_mean": _reduce,
    "reduce_sum": _reduce,
}
RULES: dict[str, Rule] = {**INTEGER, "requantize_sum": _requantize_sum, **GROUPS}
