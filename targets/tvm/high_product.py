"""The high word of a product of two int32 numbers, as an op that vectorizes whole.

Written lane by lane, the code generator widens the halves of a vector, across its lanes. An instruction multiplies the
even elements where they lie: a vector of 32-bit elements is taken for one of 64-bit elements (the low word first, as
on all machines here), its low words are multiplied, then its high words, and the high results are put side by side.
"""

from __future__ import annotations

from typing import Any

import tvm
from tvm import tirx

from qcompiler.targets.tvm.vector_op import vector_op

OP, WORD = "tirx.qcompiler_high_product", "tirx.qcompiler_high_word"
WIDE_LANES = 8
"""Vectors of fewer elements are multiplied element by element."""


def high_product(a: Any, b: Any) -> Any:
    """floor(a b / 2^32) of int32 expressions."""
    return tirx.call_intrin("int32", vector_op(OP, _lower), a, b)


def high_word_of(wide: Any) -> Any:
    """floor(wide / 2^32) of an int64 expression that leaves int32: the high words as they lie, by one instruction that permutes."""
    return tirx.call_intrin("int32", vector_op(WORD, _lower_word), wide)


def _lower_word(call: Any) -> Any:
    (wide,) = call.args
    lanes = tvm.DataType(str(call.ty)).lanes
    if lanes == 1:
        return tirx.Cast("int32", wide >> tirx.const(32, "int64"))
    return tirx.Shuffle([tirx.reinterpret(f"int32x{2 * lanes}", wide)], list(range(1, 2 * lanes, 2)))


def _lower(call: Any) -> Any:
    """The op in terms of others, for a number or a vector."""
    lanes = tvm.DataType(str(call.ty)).lanes
    return _by_words(*call.args, lanes) if lanes >= WIDE_LANES else _by_elements(*call.args, lanes)


def _by_elements(a: Any, b: Any, lanes: int) -> Any:
    wide, kind = ("int64", "int32") if lanes == 1 else (f"int64x{lanes}", f"int32x{lanes}")
    product = tirx.Cast(wide, a) * tirx.Cast(wide, b)
    return tirx.Cast(kind, product >> _spread(32, lanes))


def _by_words(a: Any, b: Any, lanes: int) -> Any:
    half, kind = lanes // 2, f"int32x{lanes}"

    def low_words(x: Any) -> Any:
        # two shifts with sign, the form in which LLVM knows an operand of the instruction in whatever loop it is made
        return (tirx.reinterpret(f"int64x{half}", x) << _spread(32, half)) >> _spread(32, half)

    def odd_first(x: Any) -> Any:
        return tirx.Shuffle([x], [i | 1 for i in range(lanes)])

    even, odd = (tirx.reinterpret(kind, low_words(f(a)) * low_words(f(b))) for f in (lambda x: x, odd_first))
    return tirx.Shuffle([even, odd], [i + (lanes if side else 0) for i in range(1, lanes, 2) for side in range(2)])


def _spread(value: int, lanes: int) -> Any:
    number = tirx.const(value, "int64")
    return number if lanes == 1 else tirx.Broadcast(number, lanes)
