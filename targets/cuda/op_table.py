"""What CUDA targets compute: the rules that turn ops into launches, and the table that passes read."""

from __future__ import annotations

from qcompiler.ir import DType
from qcompiler.kernels.gpu.pointwise import PLAIN
from qcompiler.targets.base import Kernel
from qcompiler.targets.cuda import (
    rules_along,
    rules_functions,
    rules_movement,
    rules_products,
    rules_real,
    rules_weights,
)
from qcompiler.targets.cuda.lower import Rule

_ON_CODES: dict[str, Rule] = {**rules_products.RULES, **rules_functions.RULES, **rules_movement.RULES}
RULES: dict[str, Rule] = {**_ON_CODES, **rules_along.RULES, **rules_real.RULES, **rules_weights.RULES}

# Logic and arithmetic of plain integers, which is no quantized form of the op of that name.
_PLAIN = frozenset({*PLAIN, "relu"})

# uint8 codes are int8 codes 128 lower; the integer passes make them so.
_PRODUCT = tuple(
    Kernel(f"int8 x {w.name}", a, w, "symmetric weights") for w in (DType.int8, DType.int4) for a in (DType.int8, DType.uint8)
)
_PAIR = tuple(Kernel("int8 x int8", a, a) for a in (DType.int8, DType.uint8))
_CODES = tuple(Kernel("int8", a) for a in (DType.int8, DType.uint8))

_NARROW = tuple(d for d in DType if d.is_integer and d.bits <= 8)


def _stored(dtype: DType) -> str:
    return "4 bits" if dtype.bits <= 4 else "8 bits"


_HALF = tuple(Kernel(f"float16 x {_stored(w)}", None, w, "operand rounded to float16; groups of any size", None) for w in _NARROW)
_DYNAMIC = tuple(Kernel(f"int8 x {_stored(w)}", None, w, "range by tensor, token or group; groups of any size", None) for w in _NARROW)

KERNELS: dict[str, tuple[Kernel, ...]] = {
    **dict.fromkeys(("conv", "linear"), _PRODUCT),
    "matmul": _PAIR,
    **dict.fromkeys((op for op in _ON_CODES if op not in ("conv", "linear", "matmul") and op not in _PLAIN), _CODES),
    **dict.fromkeys(("reduce_max", "reduce_min"), _CODES),
    "weight_only_linear": _HALF,
    "dynamic_linear": _DYNAMIC,
}
