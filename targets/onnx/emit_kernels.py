"""Quantized ops as ONNX Runtime's own CPU kernels: QLinearConv, MatMulIntegerToFloat, QLinearAdd, ...

They are written down directly: the runtime's own Q/DQ fusion misses static MatMulIntegerToFloat with bias, and
depends on patterns.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qcompiler.ir import Node, QuantParams, Value, constant

from .emit_elementwise import Rule
from .emit_groups import RUNTIME as GROUPS
from .emit_groups import groups_runtime
from .emit_integer import RULES as INTEGER
from .emit_integer import dynamic_codes_of, token_codes
from .emit_linear import conv_attrs
from .emit_qdq import FUSED as QDQ_FUSED
from .emit_qdq import RULES as QDQ_RULES
from .emit_qdq import FusedRule, is_global_pool, plain_sum, real_bias
from .emitter import Emitter
from .quantized_common import (
    Fusion,
    WeightFormat,
    narrowed,
    output_limits,
    quant_of,
    scale_name,
    weight_format,
    weight_scale,
    zero_name,
)  # fmt: skip


def _note(e: Emitter, node: Node, kernel: str, weight: WeightFormat | None = None) -> None:
    x = node.operands[0]
    kinds = x.dtype.name if weight is None else f"{x.dtype.name} x {weight.kind}"
    e.row(node, kernel, kinds, "" if weight is None else weight.why)


def _finish(e: Emitter, tail: Node, codes: str) -> str:
    return narrowed(e, codes, tail.attrs["quant"], *output_limits(tail))


def _linear(e: Emitter, fusion: Fusion) -> str:
    """u8 x s8 product with real result and bias; a requantize becomes QuantizeLinear, or QGemm in two dimensions."""
    head, tail = fusion.head, fusion.tail
    x, w = head.inputs[0], head.inputs[1]
    assert x is not None and w is not None
    bias = head.inputs[2] if head.op == "linear" else None
    if bias is not None and bias.data is None:
        return QDQ_FUSED["linear"](e, fusion)
    weight = weight_format(e, w, x, transposed=head.op == "linear")
    if tail.op == "requantize":
        return _linear_to_codes(e, fusion, weight, bias)
    real = None if bias is None else e.const(real_bias(fusion, bias), hint="bias")
    _note(e, head, "MatMulIntegerToFloat", weight)
    return str(
        e.ms(
            "MatMulIntegerToFloat", x, weight.codes, scale_name(e, quant_of(x).scale),
            scale_name(e, weight_scale(fusion)), zero_name(e, quant_of(x)), weight.zero_point, real,
        )
    )  # fmt: skip


def _linear_to_codes(e: Emitter, fusion: Fusion, weight: WeightFormat, bias: Value | None) -> str:
    head, tail = fusion.head, fusion.tail
    x = head.inputs[0]
    assert x is not None
    out: QuantParams = tail.attrs["quant"]
    scales = [scale_name(e, quant_of(x).scale), scale_name(e, weight_scale(fusion)), scale_name(e, out.scale)]
    zeros = zero_name(e, quant_of(x)), zero_name(e, out)
    if bias is None:
        _note(e, head, "QLinearMatMul", weight)
        y = e.op(
            "QLinearMatMul", x, scales[0], zeros[0], weight.codes, scales[1], weight.zero_point, scales[2], zeros[1]
        )
        return _finish(e, tail, y)
    _note(e, head, "QGemm", weight)
    rows = e.name(x) if len(x.shape) == 2 else e.op("Reshape", x, e.ints([-1, int(x.shape[-1])]))
    y = e.ms(
        "QGemm", rows, scales[0], zeros[0], weight.codes, scales[1], weight.zero_point, bias, scales[2], zeros[1]
    )
    if len(x.shape) != 2:
        y = e.op("Reshape", y, e.shape(head.output.shape))
    return _finish(e, tail, y)


def _conv(e: Emitter, fusion: Fusion) -> str:
    head, tail = fusion.head, fusion.tail
    x, w, bias = head.inputs
    assert x is not None and w is not None
    if tail.op != "requantize" or (bias is not None and bias.data is None):
        return QDQ_FUSED["conv"](e, fusion)
    out: QuantParams = tail.attrs["quant"]
    codes, w = _channels_in_fours(e, x, w, head.attrs["groups"])
    weight = weight_format(e, w, x, head.attrs["groups"])
    _note(e, head, "QLinearConv", weight)
    y = e.op(
        "QLinearConv", codes, scale_name(e, quant_of(x).scale), zero_name(e, quant_of(x)), weight.codes,
        scale_name(e, weight_scale(fusion)), weight.zero_point, scale_name(e, out.scale), zero_name(e, out), bias,
        **conv_attrs(head.attrs, w),
    )  # fmt: skip
    return _finish(e, tail, y)


# Kernels of at most this many positions gain by padded channels (0.75 of the time on Zen 3); 7x7 loses.
MOST_TAPS = 9


def _channels_in_fours(e: Emitter, x: Value, w: Value, groups: int) -> tuple[str, Value]:
    """Codes and weight with the input channels padded to a multiple of 4, where that is faster.

    The kernels read 4 channels at a time; other counts (the 3 colours of an image) go by way of im2col. The new
    channels hold the zero point and meet weights of 0: the sums are the same.
    """
    taps = int(np.prod(w.shape[2:]))
    missing = -w.shape[1] % 4
    if w.data is None or groups != 1 or not missing or len(w.shape) != 4 or not 1 < taps <= MOST_TAPS:
        return e.name(x), w
    if w not in e.padded:
        data = np.pad(w.data, [(0, 0), (0, missing), (0, 0), (0, 0)])
        e.padded[w] = constant(data, quant=quant_of(w), name=f"{w.name or 'weight'}.padded")
    pads = e.ints([0, 0, 0, 0, 0, missing, 0, 0])
    return str(e.op("Pad", x, pads, zero_name(e, quant_of(x)))), e.padded[w]


def _reduce(e: Emitter, fusion: Fusion) -> str:
    head, tail = fusion.head, fusion.tail
    (x,) = head.operands
    if tail.op != "requantize" or not is_global_pool(head) or len(x.shape) != 4 or not _plain_mean(fusion):
        return QDQ_FUSED[head.op](e, fusion)
    out: QuantParams = tail.attrs["quant"]
    _note(e, head, "QLinearGlobalAveragePool")
    y = e.ms(
        "QLinearGlobalAveragePool", x, scale_name(e, quant_of(x).scale), zero_name(e, quant_of(x)),
        scale_name(e, out.scale), zero_name(e, out), channels_last=0,
    )  # fmt: skip
    return _finish(e, tail, y)


def _plain_mean(fusion: Fusion) -> bool:
    multiplier = fusion.tail.inputs[1]
    assert multiplier is not None and multiplier.data is not None
    out: QuantParams = fusion.tail.attrs["quant"]
    return bool(np.allclose(quant_of(fusion.head.output).scale / out.scale, multiplier.data, rtol=1e-6, atol=0))


def _requantize_sum(e: Emitter, node: Node) -> str:
    fits = len(node.operands) == 2 and node.attrs["rounding"] == "float32_half_even" and plain_sum(node)
    if not fits or node.output.dtype.bits != 8 or any(v.dtype is not node.output.dtype for v in node.operands):
        return str(QDQ_RULES["requantize_sum"](e, node))
    out: QuantParams = node.attrs["quant"]
    _note(e, node, "QLinearAdd")
    operands: list[str | Value] = []
    for value in node.operands:
        operands += [value, scale_name(e, quant_of(value).scale), zero_name(e, quant_of(value))]
    y = e.ms("QLinearAdd", *operands, scale_name(e, out.scale), zero_name(e, out))
    return narrowed(e, y, out, *output_limits(node))


def _dynamic_linear(e: Emitter, node: Node) -> str:
    x, w, bias = node.inputs
    assert x is not None and w is not None
    quant = quant_of(w)
    if quant.group_size is not None:
        return groups_runtime(e, node)
    weight = weight_format(e, w, dynamic_codes_of(x), transposed=True)
    if node.attrs["granularity"] == "tensor":
        e.row(node, "DynamicQuantizeMatMul", f"uint8 x {weight.kind}", weight.why)
        scale = scale_name(e, quant.scale)
        return str(e.ms("DynamicQuantizeMatMul", x, weight.codes, scale, weight.zero_point, bias))
    e.row(node, "MatMulIntegerToFloat", f"uint8 x {weight.kind}", weight.why)
    rows, row_scale = token_codes(e, x)
    zero = e.const(128, np.uint8, "zero_point")
    y = e.ms(
        "MatMulIntegerToFloat", rows, weight.codes, e.scalar(1), scale_name(e, quant.scale), zero, weight.zero_point
    )
    y = e.op("Mul", y, row_scale)
    return str(y if bias is None else e.op("Add", y, bias))


def _if_possible(rule: FusedRule) -> FusedRule:
    """The rule where its kernels take the codes; others stay real numbers between dequantize and quantize."""

    def choose(e: Emitter, fusion: Fusion) -> str:
        reason = _refusal(fusion)
        if not reason:
            return rule(e, fusion)
        y = QDQ_FUSED[fusion.head.op](e, fusion)
        why = f"no kernel for {reason}: dequantized, computed in float32, quantized"
        e.rows[-1] = replace(e.rows[-1], dtype="float32", why=why)
        return y

    return choose


def _refusal(fusion: Fusion) -> str:
    """What the kernels do not take; "" if they take it. Weights of fewer bits are widened."""
    operands = fusion.head.operands[:2]
    codes = [v.dtype for v in operands if v.data is None]
    codes += [fusion.tail.attrs["quant"].dtype] if fusion.tail.op == "requantize" else []
    weights = [v for v in operands if v.data is not None]
    odd = [d.name for d in codes if d.bits != 8] + [v.dtype.name for v in weights if v.dtype.bits > 8]
    if odd:
        return f"codes of {', '.join(dict.fromkeys(odd))}"
    if fusion.head.op == "conv" and any(np.ptp(quant_of(v).zero_point) for v in weights):
        return "zero points of weights that differ between channels"
    return ""


FUSED: dict[str, FusedRule] = {
    "linear": _if_possible(_linear),
    "matmul": _if_possible(_linear),
    "conv": _if_possible(_conv),
    "reduce_mean": _if_possible(_reduce),
    "reduce_sum": QDQ_FUSED["reduce_sum"],
}
RULES: dict[str, Rule] = {**INTEGER, "requantize_sum": _requantize_sum, "dynamic_linear": _dynamic_linear, **GROUPS}
