"""All elements of a vector in memory joined to one number, as an op that stays whole.

Written element by element in a loop over rows, LLVM takes the rows for lanes and gathers their elements.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.script import tirx as T

from qcompiler.targets.tvm.vector_op import vector_op

INTRINSICS = {"sum": "llvm.vector.reduce.add", "max": "llvm.vector.reduce.smax"}
OP = "tirx.qcompiler_row_"


def row_join(join: str, parts: Any, row: Any) -> Any:
    """`sum` or `max` of the integers parts[row, :]."""
    # the first and the last element stand for all: what reads an element is known to need it
    last = int(parts.shape[1]) - 1
    return tirx.call_intrin(str(parts.dtype), vector_op(OP + join, _LOWER[join], False), parts(row, 0), parts(row, last), last + 1)


def _lowered(join: str) -> Any:
    def lower(call: Any) -> Any:
        first, _, count = call.args
        lanes, kind = int(count), str(call.ty)
        vector = tirx.BufferLoad(first.source, [tirx.Ramp(first.indices[0], tirx.const(1, "int32"), lanes)])
        return T.call_llvm_pure_intrin(T.llvm_lookup_intrinsic_id(INTRINSICS[join]), vector, dtype=kind)

    return lower


_LOWER = {join: _lowered(join) for join in INTRINSICS}
