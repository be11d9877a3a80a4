"""Cases of ops on codes and accumulators."""

from __future__ import annotations

import numpy as np

from qcompiler.ir import DType, QuantParams

from .case import OpCase, case, f, i, q, w

U8 = QuantParams(DType.uint8, 0.02, 120)
S8 = QuantParams(DType.int8, 0.05, -7)
OUT8 = QuantParams(DType.uint8, 0.11, 3)
ACC = QuantParams(DType.int32, 0.001)


def per_channel(count: int, dtype: DType = DType.int8) -> QuantParams:
    """Symmetric weights along axis 0."""
    return QuantParams(dtype, np.linspace(0.01, 0.05, count), np.zeros(count, np.int32), axis=0)


def quantized() -> list[OpCase]:
    acc = q(2, 3, 4, quant=ACC, low=-40000, high=40000)
    channels = QuantParams(DType.int32, np.array([0.001, 0.002, 0.003]), axis=1)
    wide = q(2, 3, 4, quant=channels, low=-40000, high=40000)
    i64 = {"dtype": DType.int64, "const": True}
    conv = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1)}
    sum3 = (q(2, 3, quant=U8), q(2, 3, quant=S8), q(3, quant=U8))
    return [
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
