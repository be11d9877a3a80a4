"""Cases of softmax, tables, normalization and functions of 16-bit codes."""

from __future__ import annotations

import numpy as np

from qcompiler.ir import DType, GraphBuilder, QuantParams, Value
from qcompiler.kernels.mcu import pack

from . import draw
from .case import Call, Case, code_quant, reference, split_int64

PROBABILITIES = QuantParams(DType.int8, np.float32(2.0**-8), -128)


def _mask(rng: draw.Rng, rows: int, length: int) -> np.ndarray | None:
    """bool [rows or 1, length], or none; whole rows are masked sometimes."""
    if rng.random() < 0.5:
        return None
    mask = rng.random((rows if rng.random() < 0.5 else 1, length)) < rng.choice([0.9, 0.5, 0.0])
    return np.asarray(mask)


def _mask_blob(mask: np.ndarray | None) -> tuple[int, np.ndarray]:
    return (1, np.zeros(0, np.uint8)) if mask is None else (len(mask), mask.astype(np.uint8))


def softmax_lookup(rng: draw.Rng, profile: str) -> Case:
    """Rows of 8- and 16-bit codes, tables of any length."""
    bits = int(rng.choice([8, 8, 16]))
    rows, length = int(rng.integers(1, 6)), int(rng.integers(1, 60))
    x, mask = draw.wide_codes(rng, (rows, length), bits), _mask(rng, rows, length)
    size = int(rng.choice([1, 17, 255, 256, 600]))
    table = np.rint(32767 * np.exp(-np.arange(size) * rng.uniform(0.001, 0.2))).astype(np.int16)

    def build(b: GraphBuilder, values: list[Value]) -> Value:
        operand = None if mask is None else b.const(mask)
        return b.op("softmax_lookup", values[0], b.const(table), operand, quant=PROBABILITIES)

    y = reference(build, [(x, code_quant(bits, 0))])
    mask_rows, blob = _mask_blob(mask)
    scalars = (rows, length, mask_rows, size, -128)
    return Case(f"softmax_lookup_s{bits}", profile, y, lambda isa: Call(scalars, (x, table, blob)), {"scalars": scalars})


def shiftmax(rng: draw.Rng, profile: str) -> Case:
    """Both divisions."""
    bits = int(rng.choice([8, 16]))
    rows, length = int(rng.integers(1, 5)), int(rng.integers(1, 40))
    x, mask = draw.wide_codes(rng, (rows, length), bits), _mask(rng, rows, length)
    unit, exponent = int(rng.choice([1, 7, 16, 100, 3000])), int(rng.choice([1, 8, 15, 16]))
    division = str(rng.choice(["round", "reciprocal"]))
    zero = int(rng.integers(-128, 128))
    quant = PROBABILITIES if division == "round" else QuantParams(DType.int8, np.float32(2.0**-7), zero)

    def build(b: GraphBuilder, values: list[Value]) -> Value:
        operand = None if mask is None else b.const(mask)
        return b.op("shiftmax", values[0], operand, quant=quant, unit=unit, bits=exponent, division=division)

    y = reference(build, [(x, code_quant(bits))])
    mask_rows, blob = _mask_blob(mask)
    scalars = (
        rows, length, mask_rows, unit, exponent, int(division == "reciprocal"), bits, int(quant.zero_point), -128, 127,
    )  # fmt: skip
    return Case("shiftmax", profile, y, lambda isa: Call(scalars, (x, blob)), {"scalars": scalars})


def log2_softmax(rng: draw.Rng, profile: str) -> Case:
    """Tables of any length, with and without masks."""
    bits = int(rng.choice([8, 16]))
    rows, length = int(rng.integers(1, 5)), int(rng.integers(1, 40))
    x, mask = draw.wide_codes(rng, (rows, length), bits), _mask(rng, rows, length)
    size = int(rng.choice([1, 17, 256, 600]))
    table = np.rint(32767 * np.exp(-np.arange(size) * rng.uniform(0.001, 0.2))).astype(np.int16)
    quant = QuantParams(DType.int16, np.float32(2.0**-14))

    def build(b: GraphBuilder, values: list[Value]) -> Value:
        return b.op("log2_softmax", values[0], b.const(table), None if mask is None else b.const(mask), quant=quant)

    y = reference(build, [(x, code_quant(bits))])
    mask_rows, blob = _mask_blob(mask)
    scalars = (rows, length, mask_rows, size, bits)
    return Case("log2_softmax", profile, y, lambda isa: Call(scalars, (x, table, blob)), {"scalars": scalars})


def shift_sigmoid(rng: draw.Rng, profile: str) -> Case:
    """All forms, both widths, factors of either rounding."""
    x_bits, y_bits = int(rng.choice([8, 16])), int(rng.choice([8, 16]))
    x, zero_x = draw.wide_codes(rng, (int(rng.integers(1, 40)),), x_bits), int(rng.integers(-100, 100)) * (x_bits == 8)
    unit, bits = int(rng.choice([1, 3, 20, 600, 5000])), int(rng.choice([8, 12, 15]))
    gate_bits, form = int(rng.choice([8, 15])), int(rng.integers(3))
    name = ("sigmoid", "tanh", "gated")[form]
    rounding = "dyadic" if rng.random() < 0.3 else profile
    m, s = draw.factors(rng, rounding, float(rng.choice([1e-6, 1e-3, 0.1])), None)
    zero, low, high = _wide_limits(rng, y_bits)

    def build(b: GraphBuilder, values: list[Value]) -> Value:
        acc = b.op("shift_sigmoid", values[0], unit=unit, bits=bits, gate_bits=gate_bits, form=name)
        quant = code_quant(y_bits, zero)
        return b.op("requantize", acc, b.const(m), b.const(s), quant=quant, rounding=rounding, qmin=low, qmax=high)

    y = reference(build, [(x, code_quant(x_bits, zero_x))])
    factor, shift = pack.pack_any_factor(int(m), int(s), rounding, profile)
    scalars = (x.size, unit, factor, shift, bits, gate_bits, form, zero_x, zero, low, high, x_bits, y_bits)
    return Case("shift_sigmoid", profile, y, lambda isa: Call(scalars, (x,)), {"scalars": scalars})


def _widths(rng: draw.Rng) -> tuple[int, int, int]:
    a, b, y = (int(v) for v in rng.choice([8, 16], 3))
    return a, b, y


def _wide_limits(rng: draw.Rng, bits: int) -> tuple[int, int, int]:
    """Zero point, qmin, qmax of results of 8 or 16 bits."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    zero = int(rng.choice([0, low, high, rng.integers(low, high + 1)]))
    if rng.random() < 0.6:
        return zero, low, high
    first, second = sorted(int(v) for v in rng.integers(low, high + 1, 2))
    return zero, first, second


def add_s16(rng: draw.Rng, profile: str) -> Case:
    """Sums of codes of any widths."""
    wa, wb, wy = _widths(rng)
    period, repeat = int(rng.integers(1, 40)), int(rng.choice([1, 1, 3]))
    a, b = draw.wide_codes(rng, (repeat, period), wa), draw.wide_codes(rng, (1, period), wb)
    zeros = tuple(int(rng.integers(-100, 100)) for _ in range(2))
    y_zero, low, high = _wide_limits(rng, wy)
    dyadic = profile == "dyadic"
    shift = int(rng.integers(1, 63)) if rng.random() < 0.3 else int(rng.integers(20, 34) if dyadic else rng.integers(0, 6))
    top = 31 if dyadic else 6
    m = [int(rng.integers(1, 1 << int(rng.integers(1, top + 1)))) * int(rng.choice([1, 1, -1])) for _ in range(2)]

    def build(g: GraphBuilder, values: list[Value]) -> Value:
        return g.op(
            "requantize_sum", *values, quant=code_quant(wy, y_zero), rounding=profile, qmin=low, qmax=high,
            multipliers=tuple(m), shift=shift,
        )  # fmt: skip

    expected = reference(build, [(a, code_quant(wa, zeros[0])), (b, code_quant(wb, zeros[1]))])
    packed = pack.pack_add((m[0], m[1]), shift, (zeros[0], zeros[1]), profile)
    numbers = (*split_int64(packed.offset), *packed.multipliers, packed.shift, y_zero, low, high)
    scalars = (a.size, period, *numbers, wa, wb, wy)
    return Case("add_s16", profile, expected, lambda isa: Call(scalars, (a, b)), {"scalars": scalars})


def _rescaled(rng: draw.Rng, profile: str, product: np.ndarray, wy: int) -> tuple[np.ndarray, tuple[int, ...]]:
    """The reference's codes of int32 products and (multiplier, shift, zero, qmin, qmax)."""
    y_zero, low, high = _wide_limits(rng, wy)
    m, s = draw.factors(rng, profile, float(rng.choice([1e-4, 0.01, 1.0])), None)

    def build(g: GraphBuilder, values: list[Value]) -> Value:
        quant = code_quant(wy, y_zero)
        return g.op("requantize", values[0], g.const(m), g.const(s), quant=quant, rounding=profile, qmin=low, qmax=high)

    y = reference(build, [(product.astype(np.int32), QuantParams(DType.int32, np.float32(0.01)))])
    factor, shift = pack.pack_factor(int(m), int(s), profile)
    return y, (factor, shift, y_zero, low, high)


def mul_s16(rng: draw.Rng, profile: str) -> Case:
    """Products of codes of any widths that fit int32."""
    wa, wb, wy = _widths(rng)
    period, repeat = int(rng.integers(1, 40)), int(rng.choice([1, 1, 3]))
    a, b = draw.wide_codes(rng, (repeat, period), wa), draw.wide_codes(rng, (1, period), wb)
    zeros = int(rng.integers(0, 100)) * (wa == 8), int(rng.integers(0, 100)) * (wb == 8)
    product = (a.astype(np.int64) - zeros[0]) * (b.astype(np.int64) - zeros[1])
    expected, (m, s, zero, low, high) = _rescaled(rng, profile, product, wy)
    scalars = (a.size, period, m, s, *zeros, zero, low, high, wa, wb, wy)
    return Case("mul_s16", profile, expected, lambda isa: Call(scalars, (a, b)), {"scalars": scalars})


def requantize_s16(rng: draw.Rng, profile: str) -> Case:
    """Codes of one width to codes of another."""
    wa, _, wy = _widths(rng)
    x, zero_x = draw.wide_codes(rng, (int(rng.integers(1, 60)),), wa), int(rng.integers(-100, 100))
    expected, (m, s, zero, low, high) = _rescaled(rng, profile, x.astype(np.int64) - zero_x, wy)
    scalars = (x.size, 0, m, s, zero_x, 0, zero, low, high, wa, 8, wy)
    return Case("requantize_s16", profile, expected, lambda isa: Call(scalars, (x,)), {"scalars": scalars})


def lookup_s8_s16(rng: draw.Rng, profile: str) -> Case:
    """Tables of 16-bit results."""
    x, table = draw.codes(rng, (int(rng.integers(1, 80)),)), draw.wide_codes(rng, (256,), 16)
    y = table[x.astype(np.int64) + 128]
    return Case("lookup_s8_s16", profile, y, lambda isa: Call((x.size,), (x, table)))


def lookup_interpolated(rng: draw.Rng, profile: str) -> Case:
    """Any knots, both widths of the result."""
    bits, shift = int(rng.choice([8, 16])), int(rng.integers(8, 17))
    x, table = draw.wide_codes(rng, (int(rng.integers(1, 80)),), 16), draw.wide_codes(rng, (257,), 16)
    quant = code_quant(bits, int(rng.integers(-128, 128)))

    def build(b: GraphBuilder, values: list[Value]) -> Value:
        return b.op("lookup_interpolated", values[0], b.const(table), quant=quant, shift=shift)

    y = reference(build, [(x, code_quant(16))])
    scalars = (x.size, shift, int(quant.zero_point), quant.dtype.min, quant.dtype.max, bits)
    return Case("lookup_interpolated_s16", profile, y, lambda isa: Call(scalars, (x, table)), {"scalars": scalars})


def normalize(rng: draw.Rng, profile: str) -> Case:
    """Layer norm and RMS norm; rows without variance included."""
    x_bits, y_bits = int(rng.choice([8, 16])), int(rng.choice([8, 16]))
    rows, length = int(rng.integers(1, 5)), int(rng.integers(1, 70))
    x = draw.wide_codes(rng, (rows, length), x_bits)
    if rng.random() < 0.2:
        x[0] = x[0, 0]
    zero_x, fraction = int(rng.integers(-100, 100)), int(rng.choice([0, 0, 2, 6]))
    eps, shift = int(rng.choice([1, 1000, 1 << 30])), int(rng.integers(20, 46))
    weight = rng.integers(-(1 << 20), 1 << 20, length).astype(np.int32)
    centre = bool(rng.random() < 0.7)
    bias = rng.integers(-(1 << 45), 1 << 45, length) if centre and rng.random() < 0.7 else None
    quant = code_quant(y_bits, int(rng.integers(-128, 128)))

    def build(b: GraphBuilder, values: list[Value]) -> Value:
        attrs = {"quant": quant, "eps": eps, "fraction": fraction, "shift": shift}
        if centre:
            given = None if bias is None else b.const(bias)
            return b.op("integer_layer_norm", values[0], b.const(weight), given, **attrs)
        return b.op("integer_rms_norm", values[0], b.const(weight), **attrs)

    y = reference(build, [(x, code_quant(x_bits, zero_x))])
    numbers = (fraction, shift, zero_x, int(quant.zero_point), quant.dtype.min, quant.dtype.max)
    scalars = (rows, length, *split_int64(eps), *numbers, int(centre), x_bits, y_bits)
    blob = np.zeros(0, np.int64) if bias is None else bias
    return Case("normalize_s16", profile, y, lambda isa: Call(scalars, (x, weight, blob)), {"scalars": scalars})


def mean(rng: draw.Rng, profile: str) -> Case:
    """Means over the middle axis."""
    wa, _, wy = _widths(rng)
    outer, count, inner = (int(v) for v in rng.integers(1, 9, 3))
    x, zero_x = draw.wide_codes(rng, (outer, count, inner), wa), int(rng.integers(-100, 100))
    y, (m, s, zero, low, high) = _rescaled(rng, profile, (x.astype(np.int64) - zero_x).sum(1), wy)
    scalars = (outer, count, inner, m, s, zero_x, 0, zero, low, high, wa, 8, wy)
    return Case("mean_s16", profile, y, lambda isa: Call(scalars, (x,)), {"scalars": scalars})
