"""What both quantized forms share: which nodes fuse, scales, zero points, codes, weight formats."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np

from qcompiler.ir import DType, Graph, Node, QuantParams, Value

from ..saturation import is_pair_safe
from .emitter import Emitter

# Ops whose int32 accumulators a following requantize or dequantize can absorb.
ACCUMULATING = ("linear", "matmul", "conv", "reduce_mean", "reduce_sum")

PACKED = {DType.int4: ml_dtypes.int4, DType.uint4: ml_dtypes.uint4}
"""Types of codes that ONNX stores two to a byte, as NumPy knows them."""


@dataclass(frozen=True)
class Fusion:
    """An accumulating node and the one reader of its accumulators, emitted as one kernel."""

    head: Node
    tail: Node


def plan_fusions(graph: Graph) -> dict[Node, Fusion]:
    """Fusions keyed by both of their nodes."""
    plan: dict[Node, Fusion] = {}
    for node in graph.nodes:
        if node.op not in ACCUMULATING or node.output.quant is None:
            continue
        tail = graph.sole_user(node.output)
        if tail is None or tail.op not in ("requantize", "dequantize"):
            continue
        if tail.op == "requantize" and (tail.attrs["rounding"] != "float32_half_even" or not _constant_multiplier(tail)):
            continue
        plan[node] = plan[tail] = Fusion(node, tail)
    return plan


def _constant_multiplier(node: Node) -> bool:
    return all(v.is_const for v in node.operands[1:])


def quant_of(value: Value | None) -> QuantParams:
    """Quantization parameters of an operand that has them."""
    assert value is not None and value.quant is not None
    return value.quant


def scale_name(e: Emitter, scale: np.ndarray) -> str:
    """A scale, per tensor or per channel, as a float32 initializer."""
    return e.const(scale, np.float32, "scale")


def zero_name(e: Emitter, quant: QuantParams, packed: bool = False) -> str:
    """The zero point in the type of the codes, with the shape of the scale."""
    zero = np.broadcast_to(quant.zero_point, quant.scale.shape)
    return e.const(zero, PACKED[quant.dtype] if packed else quant.dtype.numpy, "zero_point")


def is_packed(e: Emitter, value: Value) -> bool:
    """True for codes that are a 4-bit tensor in the file; others of that width are bytes, limited to their range.

    ONNX Runtime 1.31 quantizes to 4 bits and back, and moves no such tensor (no Reshape, no Slice). It fails to load a
    model with Clip or Relu before such a QuantizeLinear.
    """
    quant, producer = value.quant, e.graph.producer(value)
    if e.style.runtime_kernels or quant is None or quant.dtype not in PACKED or not quant.per_tensor:
        return False
    if producer is None or producer.op != "quantize" or e.graph.is_output(value):
        return False
    source = e.graph.producer(producer.operands[0])
    readers = e.graph.uses(value)
    limited = source is not None and source.op in ("relu", "clip")
    return not limited and bool(readers) and all(n.op in (*ACCUMULATING, "dequantize") for n, _ in readers)


def quantize(e: Emitter, x: str | Value, quant: QuantParams, result: Value | None = None) -> str:
    """`QuantizeLinear`; types narrower than their storage are clipped, where `result` is not stored in its own bits."""
    if result is not None and is_packed(e, result):
        return str(e.op("QuantizeLinear", x, scale_name(e, quant.scale), zero_name(e, quant, packed=True)))
    axis = {} if quant.axis is None else {"axis": quant.axis}
    if quant.group_size is not None:
        axis["block_size"] = quant.group_size
    y = e.op("QuantizeLinear", x, scale_name(e, quant.scale), zero_name(e, quant), **axis)
    return narrowed(e, y, quant)


def dequantize(e: Emitter, codes: str | Value, quant: QuantParams) -> str:
    """`DequantizeLinear`, float32."""
    axis = {} if quant.axis is None else {"axis": quant.axis}
    if quant.group_size is not None:
        axis["block_size"] = quant.group_size
    packed = isinstance(codes, Value) and is_packed(e, codes)
    return str(e.op("DequantizeLinear", codes, scale_name(e, quant.scale), zero_name(e, quant, packed), **axis))


def narrowed(e: Emitter, codes: str, quant: QuantParams, low: int | None = None, high: int | None = None) -> str:
    """Codes clipped to [low, high] and to their type, where storage allows more than that."""
    storage = np.iinfo(quant.dtype.numpy)
    low = quant.dtype.min if low is None else low
    high = quant.dtype.max if high is None else high
    if low <= storage.min and high >= storage.max:
        return codes
    kind = quant.dtype.numpy
    return str(e.op("Clip", codes, e.const(low, kind), e.const(high, kind)))


def output_limits(tail: Node) -> tuple[int | None, int | None]:
    """Qmin and qmax of a requantize node; None where the type itself limits."""
    return tail.attrs["qmin"], tail.attrs["qmax"]


def weight_scale(fusion: Fusion) -> np.ndarray:
    """Weight scale with which `sx * sw / sy`, as kernels compute it, gives the multiplier of the program.

    That is the weight's own scale, except where a pass has put another factor into the multiplier.
    """
    x, w = quant_of(fusion.head.inputs[0]), quant_of(fusion.head.inputs[1])
    if fusion.tail.op != "requantize":
        return w.scale
    multiplier = fusion.tail.inputs[1]
    assert multiplier is not None and multiplier.data is not None
    out: QuantParams = fusion.tail.attrs["quant"]
    computed = (x.scale * w.scale) / out.scale
    if np.allclose(computed, multiplier.data, rtol=1e-6, atol=0):
        return w.scale
    return np.asarray(multiplier.data * out.scale / x.scale, np.float32)


@dataclass(frozen=True)
class WeightFormat:
    """Names of weight codes and zero point, and what was chosen."""

    codes: str
    zero_point: str
    kind: str
    why: str


def weight_format(e: Emitter, w: Value, x: Value, groups: int = 1, transposed: bool = False) -> WeightFormat:
    """Weight operand of an integer kernel.

    int8 codes stay int8, except where u8 x s8 products could saturate: those become uint8 with zero point 128,
    the same integers at about 1.15 (matrix product) to 1.3 (convolution) times the time.

    Args:
        w: constant codes [N, K] or [O, I, kernel...], or an activation.
        x: the other operand.
        groups: of a convolution.
        transposed: give [K, N].
    """
    quant = quant_of(w)
    name = "transposed" if transposed else "codes"
    saturates = e.style.int16_pair_products and x.dtype.numpy == np.uint8 and w.dtype.numpy == np.int8
    if w.data is None:
        codes = e.op("Transpose", w, perm=[1, 0]) if transposed else e.name(w)
        if saturates:
            return _offset_activation(e, codes, quant)
        return WeightFormat(codes, e.const(quant.zero_point, quant.dtype.numpy, "zero_point"), quant.dtype.name, "")
    data = w.data.T if transposed else w.data
    zeros = np.broadcast_to(quant.zero_point, quant.scale.shape)
    if saturates and not is_pair_safe(w.data, groups):
        offset = (data.astype(np.int16) + 128).astype(np.uint8)
        codes = e.weight(w, name + ".u8", offset)
        why = "a pair of int8 weights could saturate on this ISA; stored as uint8 with zero point 128"
        return WeightFormat(codes, e.const(zeros + 128, np.uint8, "zero_point"), "uint8", why)
    codes = e.weight(w, name, data) if transposed else e.name(w)
    why = "pair sums proven <= 128" if saturates else ""
    return WeightFormat(codes, e.const(zeros, data.dtype, "zero_point"), w.dtype.name, why)


def _offset_activation(e: Emitter, codes: str, quant: QuantParams) -> WeightFormat:
    """int8 codes that are known at run time only as uint8, 128 higher: their products could saturate."""
    one = e.scalar(1)
    centred = e.op("DequantizeLinear", codes, one, e.const(0, np.int8, "zero_point"))
    moved = e.op("QuantizeLinear", centred, one, e.const(128, np.uint8, "zero_point"))
    zero = e.const(quant.zero_point + 128, np.uint8, "zero_point")
    return WeightFormat(moved, zero, "uint8", "int8 codes of an activation could saturate on this ISA; offset by 128")
