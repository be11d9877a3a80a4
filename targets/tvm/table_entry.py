"""Entries of a table at a vector of places, as an op that vectorizes whole.

Written lane by lane, every place is moved from the vector to a general register by itself, which takes two steps. Here
two of them move at once and are taken apart there; on AVX2 that is also faster than its instruction for gathering.
"""

from __future__ import annotations

import functools
from typing import Any

import tvm
from tvm import tirx

OP = "tirx.qcompiler_table_entry"


def table_entry(table: Any, place: Any) -> Any:
    """table[place] of a tensor of int32 and an int32 expression within it."""
    _register()
    return tirx.call_intrin("int32", tvm.ir.Op.get(OP), table(0), place)  # its first entry stands for the table


@functools.cache
def _register() -> None:
    tvm.ir.register_op_attr(OP, "TVectorizable", True)
    tvm.ir.register_op_attr(OP, "TCallEffectKind", tirx.CallEffectKind.Pure.value)
    tirx.register_intrin_lowering(OP, "default", f=_lower)


def _lower(call: Any) -> Any:
    first, place = call.args
    lanes = int(tvm.DataType(str(call.ty)).lanes)
    table = (first if lanes == 1 else first.value).source
    if lanes == 1:
        return tirx.BufferLoad(table, [place])
    pairs = tirx.Var("pairs", f"int64x{lanes // 2}")
    entries = []
    for i in range(lanes // 2):
        two = tirx.Shuffle([pairs], [i])
        for one in (two & tirx.const(0xFFFFFFFF, "int64"), two >> tirx.const(32, "int64")):
            entries.append(tirx.BufferLoad(table, [one]))
    vector = tirx.Shuffle(entries, list(range(lanes)))
    return tirx.Let(pairs, tirx.reinterpret(f"int64x{lanes // 2}", place), vector)
