"""Entries of a table at a vector of places, as an op that vectorizes whole.

Written lane by lane, every place is moved from the vector to a general register by itself, which takes two steps. Here
two of them move at once and are taken apart there; on AVX2 that is also faster than its instruction for gathering.
"""

from __future__ import annotations

from typing import Any

import tvm
from tvm import tirx

from qcompiler.targets.tvm.vector_op import vector_op

OP = "tirx.qcompiler_table_entry"


def table_entry(table: Any, place: Any) -> Any:
    """table[place] of a tensor of int32 and an int32 expression within it."""
    return tirx.call_intrin("int32", vector_op(OP, _lower), table(0), place)  # its first entry stands for the table


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
