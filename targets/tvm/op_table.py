"""Which ops have quantized kernels on CPUs, and on which types. Nothing here needs TVM."""

from __future__ import annotations

from types import MappingProxyType

from qcompiler.ir import DType
from qcompiler.targets.base import Kernel

U8, S8, U4, S4 = DType.uint8, DType.int8, DType.uint4, DType.int4

_ON_CODES = (
    "reshape", "transpose", "expand", "slice", "concat", "pad", "gather", "flip", "max_pool", "reduce_max", "reduce_min",
    "relu", "clip",
)  # fmt: skip
_PRODUCT = tuple(Kernel("integer product", a, w, "8-bit codes of either sign, 4-bit weights unpacked") for a in (U8, S8) for w in (S8, S4))
_NARROW = tuple(d for d in DType if d.is_integer and d.bits <= 8)
_REAL = tuple(Kernel("real product", None, d, "codes unpacked in registers", None) for d in _NARROW)
_DYNAMIC = tuple(Kernel("integer product", None, d, "operand quantized by its own range", None) for d in _NARROW)

CPU_KERNELS = MappingProxyType(
    {
        "conv": _PRODUCT,
        "linear": _PRODUCT,
        "weight_only_linear": _REAL,
        "dynamic_linear": _DYNAMIC,
        "matmul": (Kernel("integer product", S8, S8), Kernel("integer product", U8, U8)),
        "reduce_mean": (Kernel("integer sum", U8), Kernel("integer sum", S8)),
        "add": (Kernel("integer sum", U8), Kernel("integer sum", S8)),
        "requantize_sum": (Kernel("integer sum", U8), Kernel("integer sum", S8)),
        **{name: (Kernel("codes"),) for name in _ON_CODES},
    }
)
