"""Pairs of 16-bit numbers that an instruction multiplies and adds, as ops that vectorize whole: `vpmaddwd` on x86.

Written lane by lane, every product is one of 32 bits, whose instruction takes half of the lanes and, on most machines,
twice the steps. Depthwise convolutions put the codes of two rows of an image side by side, once for all windows that
read them, and multiply by two rows of the kernel at a time, exactly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tvm
from tvm import tirx
from tvm.script import tirx as T

from qcompiler.targets.tvm.vector_op import vector_op

PAIRED = "paired"
"""Name of a stage of pairs."""
PAIR, SUM = "tirx.qcompiler_pair", "tirx.qcompiler_pair_sum"
INTRINSICS = {4: "llvm.x86.sse2.pmadd.wd", 8: "llvm.x86.avx2.pmadd.wd", 16: "llvm.x86.avx512.pmaddw.d.512"}


def side_by_side(first: Any, second: Any) -> Any:
    """Two 8-bit codes of one type as a pair: an int32 of two 16-bit numbers, the first in the low half."""
    return tirx.call_intrin("int32", vector_op(PAIR, _lower_pair), first, second)


def pair_sum(codes: Any, weights: Any) -> Any:
    """codes[0] weights[0] + codes[1] weights[1] of two pairs, int32."""
    return tirx.call_intrin("int32", vector_op(SUM, _lower_sum), codes, weights)


def as_pairs(numbers: np.ndarray) -> np.ndarray:
    """Pairs [...] of integers [..., 2] of 16 bits."""
    return np.ascontiguousarray(numbers.astype("<i2")).view("<i4")[..., 0]


def _lanes(call: Any) -> int:
    return int(tvm.DataType(str(call.ty)).lanes)


def _whole(value: int, lanes: int) -> Any:
    number = tirx.const(value, "int32")
    return number if lanes == 1 else tirx.Broadcast(number, lanes)


def _lower_pair(call: Any) -> Any:
    lanes, (first, second) = _lanes(call), call.args
    if lanes == 1:
        low, high = (tirx.Cast("int32", code) for code in (first, second))
        return (low & tirx.const(0xFFFF, "int32")) | (high << tirx.const(16, "int32"))
    codes = tirx.Shuffle([first, second], [i // 2 + (i % 2) * lanes for i in range(2 * lanes)])
    return tirx.reinterpret(f"int32x{lanes}", tirx.Cast(f"int16x{2 * lanes}", codes))


def _lower_sum(call: Any) -> Any:
    lanes, (codes, weights) = _lanes(call), call.args
    if lanes not in INTRINSICS:
        half = _whole(16, lanes)
        return ((codes << half) >> half) * ((weights << half) >> half) + (codes >> half) * (weights >> half)
    kind = f"int16x{2 * lanes}"
    name = T.llvm_lookup_intrinsic_id(INTRINSICS[lanes])
    return T.call_llvm_pure_intrin(name, tirx.reinterpret(kind, codes), tirx.reinterpret(kind, weights), dtype=f"int32x{lanes}")
