"""Functions of level INTEGER: tables, Shiftmax, shift-based activation functions, products of codes.

Every body is the definition that C, ONNX, TVM and HLS code computes bit for bit. Notation: `>>` is the arithmetic
shift (floor), `div` the integer quotient of two numbers that are never negative, isqrt the exact floor square root;
codes are centred (less their zero point) unless said. All intermediate results fit 64-bit integers; interval
analysis proves for a given program which of them fit 32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import GraphError
from ..dims import same_shape
from ..dtypes import DType
from ..graph import Value
from ..quant import QuantParams
from .spec import AttrSpec, Op, RunContext, TensorType, broadcast_shapes, centred

# Fractional bits of the exponentials in a softmax table: exp(0) is 2^15 - 1.
TABLE_ONE = (1 << 15) - 1
# Bits of a probability: one is 256 steps (255 is the largest code).
PROBABILITY_BITS = 8
KNOTS = 257


def codes_of(x: Value, what: str, bits: int = 16) -> QuantParams:
    """Per-tensor parameters of an operand of at most `bits` bits.

    Raises:
        GraphError: it has none, or is wider.
    """
    if x.quant is None or not x.quant.per_tensor or x.dtype.bits > bits:
        raise GraphError(f"{what} must be codes of at most {bits} bits, quantized per tensor; got {x!r}")
    return x.quant


def result_quant(attrs: Mapping[str, Any]) -> QuantParams:
    """The parameters of the result.

    Raises:
        GraphError: per channel, or wider than 16 bits.
    """
    quant: QuantParams = attrs["quant"]
    if not quant.per_tensor or quant.dtype.bits > 16:
        raise GraphError(f"results are codes of at most 16 bits, quantized per tensor; got {quant.dtype.name}")
    return quant


def saturated(y: np.ndarray, quant: QuantParams) -> np.ndarray:
    """Zero point added, clipped to the type."""
    return np.clip(y + int(quant.zero_point), quant.dtype.min, quant.dtype.max).astype(quant.dtype.numpy)


def source_quant(ctx: RunContext) -> QuantParams:
    """Parameters of the first operand."""
    value = ctx.node.inputs[0]
    assert value is not None and value.quant is not None
    return value.quant


# -- tables


def _lookup_infer(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    x, table = inputs
    if x.quant is not None or x.dtype not in (DType.int8, DType.uint8):
        codes_of(x, "x", 8)
    quant = result_quant(attrs)
    if table.shape != (1 << x.dtype.bits,) or table.dtype is not quant.dtype:
        raise GraphError(f"table must be {quant.dtype.name}[{1 << x.dtype.bits}], got {table!r}")
    return [TensorType(quant.dtype, x.shape, quant)]


def _lookup(ctx: RunContext, x: np.ndarray, table: np.ndarray) -> np.ndarray:
    """y = table[x - min], min the smallest code of x's type; entries are codes of the result. Plain bytes count as codes."""
    value = ctx.node.inputs[0]
    assert value is not None
    return table[x.astype(np.int64) - value.dtype.min]


def _interpolated_infer(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    x, table = inputs
    codes_of(x, "x")
    quant = result_quant(attrs)
    if x.dtype is not DType.int16 or table.shape != (KNOTS,) or table.dtype is not DType.int16:
        raise GraphError(f"needs x int16 and table int16[{KNOTS}], got {x!r}, {table!r}")
    if not 8 <= attrs["shift"] <= 16:
        raise GraphError(f"shift lies in [8, 16], got {attrs['shift']}")
    return [TensorType(quant.dtype, x.shape, quant)]


def _lookup_interpolated(ctx: RunContext, x: np.ndarray, table: np.ndarray) -> np.ndarray:
    """u = x + 32768 (x as stored); i = u >> 8; f = u & 255; t = 256 table[i] + (table[i+1] - table[i]) f.

    y = clip(((t + 2^(shift-1)) >> shift) + zero_point). Everything fits 32 bits.
    """
    u = x.astype(np.int64) + (1 << 15)
    i, f = u >> 8, u & 255
    knots = table.astype(np.int64)
    t = (knots[i] << 8) + (knots[i + 1] - knots[i]) * f
    shift = ctx.attrs["shift"]
    return saturated((t + (1 << (shift - 1))) >> shift, ctx.attrs["quant"])


# -- products


def _mul_infer(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    a, b = (codes_of(v, name) for v, name in zip(inputs, ("a", "b"), strict=True))
    shape = broadcast_shapes(inputs[0].shape, inputs[1].shape)
    return [TensorType(DType.int32, shape, QuantParams(DType.int32, a.scale * b.scale))]


def _integer_mul(ctx: RunContext, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """y = (a - z_a)(b - z_b) as int32, broadcast."""
    first, second = (v.quant if v is not None else None for v in ctx.node.inputs)
    return (centred(a, first) * centred(b, second)).astype(np.int32)


# -- softmax over the last axis


def _softmax_types(inputs: Sequence[Any], attrs: Mapping[str, Any], mask: Value | None) -> list[TensorType]:
    x = inputs[0]
    codes_of(x, "x")
    quant = result_quant(attrs)
    if not x.shape:
        raise GraphError("needs x [..., T]")
    if mask is not None:
        if mask.dtype is not DType.bool or not same_shape(broadcast_shapes(mask.shape, x.shape), x.shape):
            raise GraphError(f"mask must be bool and broadcast to {list(x.shape)}, got {mask!r}")
    return [TensorType(quant.dtype, x.shape, quant)]


def _probabilities(attrs: Mapping[str, Any]) -> None:
    quant: QuantParams = attrs["quant"]
    if float(quant.scale) != 2.0**-PROBABILITY_BITS or quant.dtype.bits > 8 or int(quant.zero_point) != quant.dtype.min:
        raise GraphError("probabilities are 8-bit codes of scale 1/256 whose smallest code is the zero point")


def _table_infer(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    _, table, mask = inputs
    _probabilities(attrs)
    if len(table.shape) != 1 or table.dtype is not DType.int16:
        raise GraphError(f"table must be int16[n], got {table!r}")
    return _softmax_types(inputs, attrs, mask)


def row_distance(x: np.ndarray, mask: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """(max - x over what the mask keeps, 0 elsewhere; the mask broadcast). int64; rows that keep nothing give 0."""
    keep = np.ones(x.shape, bool) if mask is None else np.broadcast_to(mask, x.shape)
    wide = x.astype(np.int64)
    lowest = np.int64(-(1 << 40))
    top = np.where(keep, wide, lowest).max(-1, keepdims=True, initial=lowest)
    return np.where(keep, top - wide, 0), keep


def rounded_probabilities(e: np.ndarray, bits: int = PROBABILITY_BITS) -> np.ndarray:
    """(e 2^(bits+1) + sum) div (2 sum): e / sum in steps of 2^-bits, rounded half up; 0 where the sum is 0."""
    total = e.sum(-1, keepdims=True)
    return ((e << (bits + 1)) + total) // np.maximum(2 * total, 1)


def _softmax_lookup(ctx: RunContext, x: np.ndarray, table: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """d = max(row) - x over the elements that the mask keeps; e = table[d] for d < n, else 0; e = 0 where masked.

    p = (512 e + sum e) div (2 sum e); y = min(p, 255) + zero_point. A row without any kept element gives p = 0.
    Rows of up to 2^15 elements fit 32 bits.
    """
    d, keep = row_distance(x, mask)
    n = len(table)
    e = np.where(keep & (d < n), table.astype(np.int64)[np.minimum(d, n - 1)], 0)
    return saturated(rounded_probabilities(e), ctx.attrs["quant"])


def shift_exp(p: np.ndarray, unit: int, bits: int) -> np.ndarray:
    """I-ViT's Shift-exp of p <= 0 in steps of about 1 / unit: about unit 2^bits exp(p / unit).

    p = p + (p >> 1) - (p >> 4); p = max(p, -bits unit); q = -p div unit; r = -p - q unit;
    e = ((2 unit - r) << (bits - q)) >> 1.

    (Li and Gu, "I-ViT: Integer-only Quantization for Efficient Vision Transformer Inference", arXiv:2207.01405,
    section 3.2; unit is floor(1 / S) there.)
    """
    p = p + (p >> 1) - (p >> 4)
    p = np.maximum(p, -bits * unit)
    q = -p // unit
    r = -p - q * unit
    return ((2 * unit - r) << (bits - q)) >> 1


def _check_shift(attrs: Mapping[str, Any]) -> None:
    if attrs["unit"] < 1 or not 1 <= attrs["bits"] <= 30:
        raise GraphError(f"unit must be >= 1 and bits in [1, 30], got {attrs['unit']}, {attrs['bits']}")


def _shiftmax_infer(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    _check_shift(attrs)
    if attrs["division"] not in ("round", "reciprocal"):
        raise GraphError(f"division is round or reciprocal, got {attrs['division']!r}")
    if attrs["division"] == "round":
        _probabilities(attrs)
    return _softmax_types(inputs, attrs, inputs[1])


def _shiftmax(ctx: RunContext, x: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """e = shift_exp(x - max(row)) over the elements that the mask keeps, 0 elsewhere.

    division round: p = (512 e + sum e) div (2 sum e), y = min(p, 255) + zero_point.
    division reciprocal (I-ViT's own): F = (2^31 - 1) div min(sum e, 2^31 - 1); p = (e F) >> 24, in steps of 1/128.
    """
    d, keep = row_distance(x, mask)
    e = np.where(keep, shift_exp(-d, ctx.attrs["unit"], ctx.attrs["bits"]), 0)
    if ctx.attrs["division"] == "round":
        return saturated(rounded_probabilities(e), ctx.attrs["quant"])
    top = (1 << 31) - 1
    reciprocal = top // np.clip(e.sum(-1, keepdims=True), 1, top)
    return saturated((e * reciprocal) >> 24, ctx.attrs["quant"])


def _log2_infer(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    _, table, mask = inputs
    quant = result_quant(attrs)
    if quant.dtype is not DType.int16 or float(quant.scale) != 2.0**-14 or int(quant.zero_point):
        raise GraphError("powers of two are int16 codes of scale 2^-14 with zero point 0")
    if len(table.shape) != 1 or table.dtype is not DType.int16:
        raise GraphError(f"table must be int16[n], got {table!r}")
    return _softmax_types(inputs, attrs, mask)


def _log2_softmax(ctx: RunContext, x: np.ndarray, table: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """e as in softmax_lookup; p = (e 2^16 + sum e) div (2 sum e), a probability in steps of 2^-15.

    The nearest power of two in the logarithm, by compares: k = the largest with 2^k <= p; k + 1 where
    p p >= 2^(2k+1). y = 2^(k-1), 0 where p < 2: products with it are shifts.
    """
    d, keep = row_distance(x, mask)
    n = len(table)
    e = np.where(keep & (d < n), table.astype(np.int64)[np.minimum(d, n - 1)], 0)
    p = rounded_probabilities(e, 15)
    k = np.zeros(p.shape, np.int64)
    for bit in range(1, 16):
        k += p >= (1 << bit)
    k += p * p >= (np.int64(1) << (2 * k + 1))
    return np.where(p < 2, 0, np.int64(1) << np.maximum(k - 1, 0)).astype(np.int16)


# -- activation functions by shifts


def _sigmoid_infer(inputs: Sequence[Any], attrs: Mapping[str, Any]) -> list[TensorType]:
    quant = codes_of(inputs[0], "x")
    _check_shift(attrs)
    if attrs["form"] not in ("sigmoid", "gated", "tanh") or not 1 <= attrs["gate_bits"] <= 15:
        raise GraphError(f"form is sigmoid, gated or tanh and gate_bits in [1, 15], got {attrs['form']}, {attrs['gate_bits']}")
    step = np.float32(2.0 ** -attrs["gate_bits"])
    scale = np.asarray(quant.scale * step if attrs["form"] == "gated" else step)
    return [TensorType(DType.int32, inputs[0].shape, QuantParams(DType.int32, scale))]


def _shift_sigmoid(ctx: RunContext, x: np.ndarray) -> np.ndarray:
    """v = x - z; m = max(v, 0); a = shift_exp(v - m), b = shift_exp(-m); g = (a 2^(gate_bits+1) + s) div (2 s), s = a + b.

    g is the sigmoid of v / unit in steps of 2^-gate_bits. Result int32: sigmoid g; tanh (of v / (2 unit))
    2 g - 2^gate_bits; gated v g, which is ShiftGELU where unit = floor(1 / (1.702 S)) and SiLU where floor(1 / S).
    """
    attrs = ctx.attrs
    v = centred(x, source_quant(ctx))
    m = np.maximum(v, 0)
    a, b = shift_exp(v - m, attrs["unit"], attrs["bits"]), shift_exp(-m, attrs["unit"], attrs["bits"])
    s = a + b
    g = ((a << (attrs["gate_bits"] + 1)) + s) // (2 * s)
    forms = {"sigmoid": g, "tanh": 2 * g - (1 << attrs["gate_bits"]), "gated": v * g}
    return forms[attrs["form"]].astype(np.int32)


QUANT = AttrSpec("quant", "quant")

OPS: list[Op] = [
    Op("lookup", ("x", "table"), (QUANT,), _lookup_infer, _lookup, "table[x - smallest code]; one entry per code, or per plain byte", "integer"),
    Op(
        "lookup_interpolated",
        ("x", "table"),
        (QUANT, AttrSpec("shift", "int", 8)),
        _interpolated_infer,
        _lookup_interpolated,
        "int16 x between 257 equidistant knots, linear; table entries in steps of the result's scale 2^(8-shift)",
        "integer",
    ),
    Op(
        "integer_mul",
        ("a", "b"),
        (),
        _mul_infer,
        _integer_mul,
        "(a - z_a)(b - z_b) elementwise, int32 accumulators of scale s_a s_b",
        "integer",
    ),
    Op(
        "softmax_lookup",
        ("x", "table", "mask?"),
        (QUANT,),
        _table_infer,
        _softmax_lookup,
        "softmax over the last axis with exponentials from a table, probabilities rounded to 1/256",
        "integer",
    ),
    Op(
        "shiftmax",
        ("x", "mask?"),
        (QUANT, AttrSpec("unit", "int"), AttrSpec("bits", "int", 15), AttrSpec("division", "str", "round")),
        _shiftmax_infer,
        _shiftmax,
        "softmax over the last axis with exponentials by shifts (I-ViT); unit = floor(1 / scale of x)",
        "integer",
    ),
    Op(
        "log2_softmax",
        ("x", "table", "mask?"),
        (QUANT,),
        _log2_infer,
        _log2_softmax,
        "softmax over the last axis with probabilities rounded to powers of two",
        "integer",
    ),
    Op(
        "shift_sigmoid",
        ("x",),
        (
            AttrSpec("unit", "int"),
            AttrSpec("bits", "int", 15),
            AttrSpec("gate_bits", "int", 15),
            AttrSpec("form", "str", "sigmoid"),
        ),
        _sigmoid_infer,
        _shift_sigmoid,
        "sigmoid, tanh, or x times sigmoid with exponentials by shifts; int32",
        "integer",
    ),
]
