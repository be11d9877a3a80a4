"""Cases of the ops of level INTEGER."""

from __future__ import annotations

import numpy as np

from qcompiler.ir import DType, QuantParams

from .case import OpCase, case, i, q, t

S8 = QuantParams(DType.int8, 0.05, -7)
U8 = QuantParams(DType.uint8, 0.02, 120)
S16 = QuantParams(DType.int16, 1 / 256)
P8 = QuantParams(DType.int8, 1 / 256, -128)
PU8 = QuantParams(DType.uint8, 1 / 256, 0)
HALVES = QuantParams(DType.int8, 1 / 128)
POWERS = QuantParams(DType.int16, 2.0**-14)
EXPONENTIALS = [round(32767 * float(np.exp(-k / 16))) for k in range(178)]


def integer() -> list[OpCase]:
    codes = {"dtype": DType.int8, "const": True}
    wide = {"dtype": DType.int16, "const": True}
    exps = i(len(EXPONENTIALS), values=EXPONENTIALS, **wide)
    knots = i(257, low=-32768, high=32767, **wide)
    weight = i(6, low=-(2**30), high=2**30, dtype=DType.int32, const=True)
    bias = i(6, low=-(2**50), high=2**50, const=True)
    norm = {"quant": S8, "eps": 7, "shift": 57}
    blind = t(2, 1, 5, values=[[[0, 1, 1, 0, 1]], [[0, 0, 0, 0, 0]]])
    return [
        case("lookup", q(2, 3, quant=S8), i(256, low=-128, high=127, **codes), quant=S8),
        case("lookup", q(7, quant=U8), i(256, low=-32768, high=32767, **wide), quant=S16, name="u8-to-16"),
        case("lookup", i(5, 4, low=0, high=255, dtype=DType.uint8), i(256, low=-128, high=127, **codes), quant=S8, name="bytes"),
        case("lookup", i(2, 3, low=-128, high=127, dtype=DType.int8), i(256, low=-9, high=9, **wide), quant=S16, name="signed-bytes"),
        case("lookup_interpolated", q(4, 9, quant=S16), knots, quant=S16),
        case("lookup_interpolated", q(4, 9, quant=S16), knots, quant=S8, shift=15, name="narrow"),
        case("lookup_interpolated", q(3, quant=S16, values=[-32768, -1, 32767]), knots, quant=U8, shift=16, name="ends"),
        case("integer_mul", q(2, 3, 4, quant=S8), q(3, 1, quant=U8)),
        case("integer_mul", q(2, 5, quant=S16), q(5, quant=S16, const=True), name="wide"),
        case("softmax_lookup", q(2, 3, 5, quant=S8), exps, quant=P8),
        case("softmax_lookup", q(2, 3, 5, quant=S16, low=-300, high=300), exps, blind, quant=PU8, name="masked"),
        case("softmax_lookup", q(2, 1, quant=S8), exps, quant=P8, name="one"),
        case("softmax_lookup", q(2, 3, quant=S16, declared=("b", "t")), exps, t(2, 3, declared=("b", "t")), quant=P8, name="symbols"),
        case("shiftmax", q(2, 3, 5, quant=S16, low=-2000, high=2000), quant=P8, unit=256),
        case("shiftmax", q(2, 3, 5, quant=S8), blind, quant=PU8, unit=16, bits=15, name="masked"),
        case("shiftmax", q(4, 6, quant=S8), quant=HALVES, unit=16, division="reciprocal", name="reciprocal"),
        case("log2_softmax", q(3, 7, quant=S16, low=-150, high=150), exps, quant=POWERS),
        case("log2_softmax", q(2, 3, 5, quant=S8), exps, blind, quant=POWERS, name="masked"),
        case("shift_sigmoid", q(3, 40, quant=S16), unit=256, gate_bits=15),
        case("shift_sigmoid", q(3, 40, quant=S16, low=-3000, high=3000), unit=150, gate_bits=7, form="gated", name="gated"),
        case("shift_sigmoid", q(3, 40, quant=S8), unit=10, bits=20, gate_bits=14, form="tanh", name="tanh"),
        case("integer_layer_norm", q(2, 3, 6, quant=S16), weight, bias, **norm),
        case("integer_layer_norm", q(4, 6, quant=S8), weight, None, **norm, fraction=8, name="fraction"),
        case("integer_layer_norm", q(2, 6, quant=S16, values=[32767] * 12), weight, bias, **norm, name="constant-rows"),
        case("integer_rms_norm", q(2, 3, 6, quant=S16), weight, **norm),
        case("integer_rms_norm", q(2, 6, quant=S8, low=-9, high=-5), weight, **norm, fraction=4, name="fraction"),
        case("where", t(2, 3), q(2, 3, quant=S8), q(3, quant=S8, const=True), name="codes"),
    ]  # fmt: skip
