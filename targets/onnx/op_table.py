"""Which ops have quantized kernels, and on which types."""

from __future__ import annotations

from types import MappingProxyType

from qcompiler.ir import DType

from ..base import Kernel

U8, S8 = DType.uint8, DType.int8
U4, S4 = DType.uint4, DType.int4
NARROW = tuple(d for d in DType if d.is_integer and d.bits <= 8)
# MatMulNBits has containers of 2, 4 and 8 bits, and these blocks.
BLOCKS = (16, 32, 64, 128, 256)
_NBITS = tuple(Kernel("MatMulNBits", None, d, "groups", BLOCKS) for d in NARROW)
_BLOCKED = tuple(Kernel("DequantizeLinear + MatMul", None, d, "groups", None) for d in NARROW)

# Data movement and extrema work on codes and keep their parameters.
_ON_CODES = {
    name: (Kernel(op_type),)
    for name, op_type in {
        "reshape": "Reshape", "transpose": "Transpose", "expand": "Expand", "slice": "Slice", "concat": "Concat",
        "pad": "Pad", "gather": "Gather", "flip": "Slice", "max_pool": "MaxPool", "reduce_max": "ReduceMax",
        "reduce_min": "ReduceMin",
    }.items()
}  # fmt: skip

# Limits of the number range become the limits of the requantize before them.
_LIMITS = {name: (Kernel("limits of a requantize"),) for name in ("relu", "clip")}

RUNTIME_KERNELS = MappingProxyType(
    {
        "conv": (Kernel("QLinearConv", U8, S8), Kernel("QLinearConv", U8, U8, "1.3 times the time")),
        "linear": (
            Kernel("MatMulIntegerToFloat", U8, S8, "real result"),
            Kernel("QAttention", U8, S8, "query, key and value of one self-attention, with the attention itself"),
            Kernel("QGemm", U8, S8, "codes as result"),
            Kernel("MatMulIntegerToFloat", U8, U8, "1.15 times the time"),
        ),
        "matmul": (Kernel("MatMulIntegerToFloat", U8, U8, "real result"), Kernel("QLinearMatMul", U8, U8)),
        "reduce_mean": (Kernel("QLinearGlobalAveragePool", U8, None, "all spatial axes of [N, C, H, W], kept"),),
        "add": (Kernel("QLinearAdd", U8, None, "two operands"),),
        "requantize_sum": (Kernel("QLinearAdd", U8, None, "two operands"),),
        "dynamic_linear": (Kernel("DynamicQuantizeMatMul", None, S8, "per tensor; per token: MatMulIntegerToFloat"), *_NBITS),
        "weight_only_linear": _NBITS,
        **_ON_CODES,
        **_LIMITS,
    }
)

PORTABLE = MappingProxyType(
    {
        "conv": (Kernel("Q/DQ Conv", U8, S8), Kernel("Q/DQ Conv", S8, S8), Kernel("Q/DQ Conv", U8, S4)),
        "linear": (
            Kernel("Q/DQ MatMul", U8, S8),
            Kernel("Q/DQ MatMul", S8, S8),
            Kernel("Q/DQ MatMul", U8, S4),
            Kernel("Q/DQ MatMul", U4, S4),
        ),
        "matmul": (Kernel("Q/DQ MatMul", U8, U8), Kernel("Q/DQ MatMul", S8, S8), Kernel("Q/DQ MatMul", U4, U4)),
        "reduce_mean": (Kernel("Q/DQ GlobalAveragePool", U8), Kernel("Q/DQ ReduceMean", U8)),
        "add": (Kernel("Q/DQ Add", U8),),
        "requantize_sum": (Kernel("Q/DQ Add", U8),),
        "dynamic_linear": (Kernel("DynamicQuantizeLinear + MatMulInteger", None, S8), *_BLOCKED),
        "weight_only_linear": _BLOCKED,
        **_ON_CODES,
        **_LIMITS,
    }
)
