"""Quantized ops as separate integer ops, standard domain: used where no fused kernel fits. Exact.

`quantize` and `dequantize` are here too: both styles emit them the same way.
"""

from __future__ import annotations

import numpy as np

from qcompiler.errors import UnsupportedError
from qcompiler.ir import DType, Node, QuantParams, Value

from . import emit_functions, emit_rescale
from .emit_elementwise import Rule
from .emit_groups import dynamic_groups_portable
from .emit_linear import conv_attrs
from .emit_movement import RULES as MOVEMENT
from .emitter import Emitter
from .integer_arithmetic import centred, unsigned
from .quantized_common import (
    dequantize,
    narrowed,
    output_limits,
    quant_of,
    quantize,
    scale_name,
    weight_format,
)


def _operand(node: Node, index: int) -> Value:
    value = node.inputs[index]
    assert value is not None
    return value


def channel_shape(values: np.ndarray, axis: int | None, rank: int) -> np.ndarray:
    """[C] made broadcastable along `axis` of a tensor of `rank`; scalars stay."""
    if values.ndim == 0 or axis is None:
        return values
    return values.reshape([-1 if i == axis else 1 for i in range(rank)])


def _zero(e: Emitter, quant: QuantParams) -> str:
    return e.const(quant.zero_point, quant.dtype.numpy, "zero_point")


def _with_bias(e: Emitter, acc: str, bias: Value | None, axis: int, rank: int) -> str:
    if bias is None:
        return acc
    if bias.data is None:
        shape = e.ints([-1 if i == axis else 1 for i in range(rank)])
        return str(e.op("Add", acc, e.op("Reshape", bias, shape)))
    return str(e.op("Add", acc, e.const(channel_shape(bias.data, axis, rank), np.int32, "bias")))


def linear_accumulators(e: Emitter, node: Node) -> str:
    """int32 `MatMulInteger` of linear and matmul, bias added; `MatMul` on int32 where codes are wider than 8 bits."""
    x, w = _operand(node, 0), _operand(node, 1)
    rank = len(node.output.shape)
    bias = node.inputs[2] if node.op == "linear" else None
    if max(x.dtype.bits, w.dtype.bits) > 8:
        second = e.cast(centred(e, w), DType.int32)
        if node.op == "linear":
            second = e.op("Transpose", second, perm=[1, 0])
        return _with_bias(e, e.op("MatMul", e.cast(centred(e, x), DType.int32), second), bias, rank - 1, rank)
    codes, x = unsigned(e, x)
    if w.data is None and node.op == "matmul":
        second, w = unsigned(e, w)
        acc = e.op("MatMulInteger", codes, second, _zero(e, quant_of(x)), _zero(e, quant_of(w)))
        return _with_bias(e, acc, bias, rank - 1, rank)
    weight = weight_format(e, w, x, transposed=node.op == "linear")
    zeros = _one_zero(e, weight.zero_point) or weight.zero_point
    return _with_bias(e, e.op("MatMulInteger", codes, weight.codes, _zero(e, quant_of(x)), zeros), bias, rank - 1, rank)


def _one_zero(e: Emitter, name: str) -> str | None:
    """The zero point of all channels as a scalar; None where channels have their own, as only MatMulInteger takes them."""
    zeros = e.initializers[name]
    if zeros.ndim == 0:
        return name
    return None if (zeros != zeros.flat[0]).any() else e.const(zeros.flat[0], zeros.dtype, "zero_point")


def _linear(e: Emitter, node: Node) -> str:
    e.row(node, "MatMulInteger", _kinds(node))
    return linear_accumulators(e, node)


def _conv(e: Emitter, node: Node) -> str:
    x, w = _operand(node, 0), _operand(node, 1)
    if x.dtype.bits > 8:
        raise UnsupportedError(f"{node.where()}: convolution of {x.dtype.name} codes has no integer kernel in ONNX")
    codes, x = unsigned(e, x)
    weight = weight_format(e, w, x, node.attrs["groups"])
    e.row(node, "ConvInteger", _kinds(node), weight.why)
    zero = _one_zero(e, weight.zero_point)
    if zero is None:
        raise UnsupportedError(f"{node.where()}: ConvInteger takes one zero point of weights; these differ between channels")
    acc = e.op("ConvInteger", codes, weight.codes, _zero(e, quant_of(x)), zero, **conv_attrs(node.attrs, w))
    return _with_bias(e, acc, node.inputs[2], 1, len(x.shape))


def _kinds(node: Node) -> str:
    return " x ".join(v.dtype.name for v in node.operands[:2])


def _sum(e: Emitter, node: Node) -> str:
    """int32 sum of (x - zero point): of reduce_sum, and of reduce_mean (whose scale is divided by the count)."""
    x = _operand(node, 0)
    zero = e.const(quant_of(x).zero_point, np.int32)
    centred = e.op("Sub", e.cast(x, DType.int32), zero)
    axes = e.ints(node.attrs["axes"]) if node.attrs["axes"] else None
    e.row(node, "ReduceSum", "int32")
    return str(e.op("ReduceSum", centred, axes, keepdims=int(node.attrs["keepdims"])))


def _real(e: Emitter, value: Value) -> str:
    """Codes minus zero point as float32."""
    quant = quant_of(value)
    real = e.cast(value, DType.float32)
    if quant.symmetric:
        return real
    zero = channel_shape(quant.zero_point.astype(np.float32), quant.axis, len(value.shape))
    return str(e.op("Sub", real, e.const(zero)))


def _requantize(e: Emitter, node: Node) -> str:
    """rint(float32(acc) * m) + zero point, which is QuantizeLinear with scale 1; other profiles in integer ops."""
    if node.attrs["rounding"] != "float32_half_even":
        return emit_rescale.requantize(e, node)
    acc, multiplier = _operand(node, 0), _operand(node, 1)
    out: QuantParams = node.attrs["quant"]
    if multiplier.data is None:
        raise UnsupportedError(f"{node.where()}: the multiplier must be a constant")
    factor = channel_shape(multiplier.data, quant_of(acc).axis, len(acc.shape))
    scaled = e.op("Mul", _real(e, acc), e.const(factor, np.float32))
    codes = e.op("QuantizeLinear", scaled, scale_name(e, np.float32(1)), _zero(e, out))
    e.row(node, "QuantizeLinear", out.dtype.name)
    return narrowed(e, codes, out, *output_limits(node))


def _dequantize(e: Emitter, node: Node) -> str:
    x = _operand(node, 0)
    quant = quant_of(x)
    e.row(node, "DequantizeLinear", x.dtype.name)
    if x.dtype is DType.int32 and x.data is None:
        scale = channel_shape(quant.scale, quant.axis, len(x.shape))
        return str(e.op("Mul", _real(e, x), e.const(scale, np.float32, "scale")))
    return dequantize(e, x, quant)


def _quantize(e: Emitter, node: Node) -> str:
    e.row(node, "QuantizeLinear", node.attrs["quant"].dtype.name)
    return quantize(e, _operand(node, 0), node.attrs["quant"], node.output)


def requantize_sum(e: Emitter, node: Node) -> str:
    """Sum of m_i (x_i - z_i) in float32, then QuantizeLinear with scale 1; other profiles in integer ops."""
    if node.attrs["rounding"] != "float32_half_even":
        return emit_rescale.requantize_sum(e, node)
    terms = [
        e.op("Mul", _real(e, x), e.scalar(m)) for x, m in zip(node.operands, node.attrs["real_multipliers"], strict=True)
    ]
    out: QuantParams = node.attrs["quant"]
    codes = e.op("QuantizeLinear", e.op("Sum", *terms), scale_name(e, np.float32(1)), _zero(e, out))
    e.row(node, "Sum", out.dtype.name)
    return narrowed(e, codes, out, *output_limits(node))


def _dynamic_linear(e: Emitter, node: Node) -> str:
    """DynamicQuantizeLinear (per tensor) or symmetric rows with zero point 128 (per token), MatMulInteger, rescale."""
    x, w, bias = node.inputs
    assert x is not None and w is not None
    quant = quant_of(w)
    if quant.group_size is not None:
        return dynamic_groups_portable(e, node)
    if node.attrs["granularity"] == "tensor":
        codes, scale, zero = e.op("DynamicQuantizeLinear", x, count=3)
    else:
        codes, scale = token_codes(e, x)
        zero = e.const(128, np.uint8, "zero_point")
    weight = weight_format(e, w, dynamic_codes_of(x), transposed=True)
    acc = e.op("MatMulInteger", codes, weight.codes, zero, _one_zero(e, weight.zero_point) or weight.zero_point)
    factor = e.op("Mul", scale, scale_name(e, quant.scale))
    y = e.op("Mul", e.cast(acc, DType.float32), factor)
    e.row(node, "MatMulInteger", f"uint8 x {weight.kind}", weight.why)
    return str(y if bias is None else e.op("Add", y, bias))


def dynamic_codes_of(x: Value) -> Value:
    """Stands for the codes of x, which exist at run time only."""
    return Value(DType.uint8, x.shape, QuantParams(DType.uint8, np.float32(1), np.int32(128)), x.name)


def token_codes(e: Emitter, x: Value) -> tuple[str, str]:
    """uint8 codes with zero point 128 and scale [..., 1] = max|row| / 127 (1 for a row of zeros)."""
    peak = e.op("ReduceMax", e.op("Abs", x), e.ints([-1]), keepdims=1)
    zero = e.op("Equal", peak, e.scalar(0))
    scale = e.op("Where", zero, e.scalar(1), e.op("Div", peak, e.scalar(127)))
    codes = e.op("QuantizeLinear", e.op("Div", x, scale), e.scalar(1), e.const(128, np.uint8, "zero_point"))
    return str(codes), str(scale)


RULES: dict[str, Rule] = {
    "linear": _linear,
    "matmul": _linear,
    "conv": _conv,
    "reduce_sum": _sum,
    "reduce_mean": _sum,
    "requantize": _requantize,
    "dequantize": _dequantize,
    "quantize": _quantize,
    "requantize_sum": requantize_sum,
    "dynamic_linear": _dynamic_linear,
    "reduce_max": MOVEMENT["reduce_max"],
    "reduce_min": MOVEMENT["reduce_min"],
    **emit_functions.RULES,
}
