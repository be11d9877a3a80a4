"""What CUDA targets compute: the rules that turn ops into launches, and the table that passes read."""

from __future__ import annotations

from qcompiler.ir import DType
from qcompiler.kernels.gpu.pointwise import PLAIN
from qcompiler.targets.base import Kernel
from qcompiler.targets.cuda import rules_functions, rules_movement, rules_products, rules_real, rules_weights
from qcompiler.targets.cuda.lower import Rule

_ON_CODES: dict[str, Rule] = {**rules_products.RULES, **rules_functions.RULES, **rules_movement.RULES}
RULES: dict[str, Rule] = {**_ON_CODES, **rules_real.RULES, **rules_weights.RULES}

# Logic and arithmetic of plain integers, which is no quantized form of the op of that name.
_PLAIN = frozenset(PLAIN)

# uint8 codes are int8 codes 128 lower; the integer passes make them so.
_PRODUCT = tuple(
    Kernel(f"int8 x {w.name}", a, w, "symmetric weights") for w in (DType.int8, DType.int4) for a in (DType.int8, DType.uint8)
)
_PAIR = tuple(Kernel("int8 x int8", a, a) for a in (DType.int8, DType.uint8))
_CODES = tuple(Kernel("int8", a) for a in (DType.int8, DType.uint8))

_HALF = tuple(
    Kernel("float16 x 4 bits", None, w, "operand rounded to float16; groups", (16, 32, 64, 128, 256))
    for w in (DType.int4, DType.int3, DType.int2, DType.uint4, DType.uint3, DType.uint2)
)
_DYNAMIC = (
    Kernel("int8 x int8", None, DType.int8, "range by tensor or token; groups", (32, 64, 128, 256)),
    *(Kernel("int8 x 4 bits", None, w, "groups", (32, 64, 128, 256)) for w in (DType.int4, DType.int3, DType.int2)),
)

KERNELS: dict[str, tuple[Kernel, ...]] = {
    **dict.fromkeys(("conv", "linear"), _PRODUCT),
    "matmul": _PAIR,
    **dict.fromkeys((op for op in _ON_CODES if op not in ("conv", "linear", "matmul") and op not in _PLAIN), _CODES),
    **dict.fromkeys(("reduce_max", "reduce_min"), _CODES),
    "weight_only_linear": _HALF,
    "dynamic_linear": _DYNAMIC,
}
