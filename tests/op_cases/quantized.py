"""Cases of ops on codes and accumulators."""

from __future__ import annotations

import numpy as np

from qcompiler.ir import DType, QuantParams

from .case import OpCase, Operand, case, f, i, q, w

U8 = QuantParams(DType.uint8, 0.02, 120)
S8 = QuantParams(DType.int8, 0.05, -7)
OUT8 = QuantParams(DType.uint8, 0.11, 3)
ACC = QuantParams(DType.int32, 0.001)


def per_channel(count: int, dtype: DType = DType.int8) -> QuantParams:
    """Symmetric weights along axis 0."""
    return QuantParams(dtype, np.linspace(0.01, 0.05, count), np.zeros(count, np.int32), axis=0)


def groups(rows: int, channels: int, size: int, dtype: DType) -> QuantParams:
    """Weights in groups along axis 1: scales of both signs, zero points where the type is unsigned."""
    count = -(-channels // size)
    scale = np.linspace(0.01, 0.05, rows * count).reshape(rows, count) * np.where(np.arange(count) % 2, -1, 1)
    zero = np.arange(rows * count).reshape(rows, count) % (dtype.max + 1) if dtype.min == 0 else np.zeros((rows, count))
    return QuantParams(dtype, scale, zero, axis=1, group_size=size)


def _codes(rows: int, channels: int, quant: QuantParams) -> Operand:
    return q(rows, channels, quant=quant, const=True)


def low_bit() -> list[OpCase]:
    """Weights in groups, with real operands and with operands quantized at run time."""
    int4, uint4 = groups(3, 64, 16, DType.int4), groups(3, 64, 32, DType.uint4)
    return [
        case("weight_only_linear", f(2, 5, 64), _codes(3, 64, int4), None, name="int4"),
        case("weight_only_linear", f(5, 64), _codes(3, 64, uint4), w(3), name="uint4-bias"),
        case("weight_only_linear", f(4, 48), _codes(3, 48, groups(3, 48, 16, DType.uint3)), None, name="uint3-odd-groups"),
        case("weight_only_linear", f(4, 64), _codes(3, 64, groups(3, 64, 32, DType.uint2)), None, name="uint2"),
        case("weight_only_linear", f(4, 64), _codes(3, 64, groups(3, 64, 64, DType.int6)), None, name="int6"),
        case("weight_only_linear", f(4, 24), _codes(3, 24, per_channel(3)), None, name="channels"),
        case("weight_only_linear", f(2, 64), _codes(3, 64, QuantParams(DType.int8, 0.02)), None, name="tensor"),
        case("dynamic_linear", f(2, 5, 64), _codes(3, 64, int4), w(3), granularity="group", name="int4-group"),
        case("dynamic_linear", f(2, 5, 64), _codes(3, 64, int4), None, granularity="token", name="int4-token"),
        case("dynamic_linear", f(5, 64), _codes(3, 64, uint4), None, granularity="group", name="uint4-group"),
        case("dynamic_linear", f(2, 5, 64), _codes(3, 64, int4), w(3), granularity="group", bits=16, name="int4-two-terms"),
        case("dynamic_linear", f(5, 64), _codes(3, 64, uint4), None, granularity="group", bits=16, name="uint4-two-terms"),
    ]


def quantized() -> list[OpCase]:
    acc = q(2, 3, 4, quant=ACC, low=-40000, high=40000)
    channels = QuantParams(DType.int32, np.array([0.001, 0.002, 0.003]), axis=1)
    wide = q(2, 3, 4, quant=channels, low=-40000, high=40000)
    i64 = {"dtype": DType.int64, "const": True}
    conv = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1)}
    sum3 = (q(2, 3, quant=U8), q(2, 3, quant=S8), q(3, quant=U8))
    return [
        *low_bit(),
        case("quantize", f(2, 3, low=-9, high=9), quant=U8),
        case("quantize", f(3, 4), quant=per_channel(3), name="per-channel"),
        case("dequantize", q(2, 3, quant=S8)),
        case("requantize", acc, w(values=0.0123), quant=OUT8, rounding="float32_half_even"),
        case(
            "requantize",
            wide,
            w(3, values=[0.01, 0.02, 0.003]),
            quant=OUT8,
            rounding="float32_half_even",
            qmin=3,
            qmax=200,
            name="channels",
        ),
        case(
            "requantize",
            acc,
            i(values=1527097956, **i64),
            i(values=37, **i64),
            quant=OUT8,
            rounding="dyadic",
            name="dyadic",
        ),
        case(
            "requantize",
            acc,
            i(values=1527097956, **i64),
            i(values=37, **i64),
            quant=OUT8,
            rounding="dyadic_double",
            name="dyadic-double",
        ),
        case(
            "requantize",
            acc,
            i(values=1, **i64),
            i(values=8, **i64),
            quant=OUT8,
            rounding="shift_half_even",
            name="shift",
        ),
        case(
            "requantize_sum",
            *sum3,
            quant=OUT8,
            rounding="float32_half_even",
            real_multipliers=(0.2, 0.5, 0.2),
        ),
        case(
            "requantize_sum",
            *sum3,
            quant=OUT8,
            rounding="dyadic",
            multipliers=(3000, 9000, 3000),
            shift=14,
            name="dyadic",
        ),
        case(
            "requantize_sum",
            *sum3,
            quant=OUT8,
            rounding="shift_half_even",
            multipliers=(1, 2, 1),
            shift=2,
            name="shift",
        ),
        case("dynamic_linear", f(2, 5, 6), q(4, 6, quant=per_channel(4), const=True), w(4)),
        case(
            "dynamic_linear",
            f(2, 5, 6),
            q(4, 6, quant=per_channel(4), const=True),
            None,
            granularity="token",
            name="token",
        ),
        case(
            "linear",
            q(3, 6, quant=U8),
            q(4, 6, quant=per_channel(4), const=True),
            i(4, low=-999, high=999, dtype=DType.int32, const=True),
            name="codes",
        ),
        case("matmul", q(2, 3, 6, quant=U8), q(2, 6, 4, quant=S8), name="codes"),
        case(
            "conv",
            q(2, 4, 5, 5, quant=U8),
            q(6, 2, 3, 3, quant=per_channel(6), const=True),
            None,
            **conv,
            groups=2,
            name="codes",
        ),
        case("reduce_mean", q(2, 3, 4, 4, quant=U8), axes=(2, 3), name="codes"),
        case(
            "max_pool",
            q(1, 2, 6, 6, quant=S8),
            kernel=(3, 3),
            strides=(2, 2),
            pads=(1, 1, 1, 1),
            name="codes",
        ),
        case("pad", q(2, 3, quant=U8), pads=(0, 1, 0, 1), name="codes"),
        case("concat", q(2, 3, quant=U8), q(2, 2, quant=U8), axis=1, name="codes"),
        case("transpose", q(3, 2, quant=U8), perm=(1, 0), name="codes"),
    ]
