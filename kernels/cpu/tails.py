"""Loops over lanes that end inside their last vector, without a condition.

Where columns do not fill the last vector, a loop stores under a condition, for which LLVM makes masked stores. Of those
with one byte, LLVM 22 makes stores of four on AVX-512, and what lies behind is lost (its issue 179489). The condition
becomes one of the whole loop, in front of it: all of its steps, or a known number of them. Of an odd number the last
step stands alone, so that no mask has one lane.
"""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.s_tir import SBlockRealize
from tvm.sym import Analyzer, detect_linear_equation


def tails_apart() -> Any:
    """The pass, for functions of blocks."""

    @tirx.transform.prim_func_pass(opt_level=0)
    def run(func: Any, module: Any, context: Any) -> Any:
        return func.with_body(tvm_ffi.structural_map(func.body, (tirx.For, _apart)))

    return run


def _apart(loop: Any) -> Any:
    """`for x in range(size): block where base + x < count`, `base` a multiple of `size`, without the condition."""
    realize = loop.body
    if not (isinstance(realize, SBlockRealize) and isinstance(loop.extent, tirx.IntImm) and loop.kind == tirx.ForKind.SERIAL):
        return loop
    condition, size = realize.predicate, int(loop.extent)
    if not (isinstance(condition, tirx.LT) and isinstance(condition.b, tirx.IntImm)):
        return loop
    factor, *base = detect_linear_equation(condition.a, [loop.loop_var]) or [None]
    if not isinstance(factor, tirx.IntImm) or int(factor) != 1 or not Analyzer().can_prove_equal(tirx.floormod(base[0], size), 0):
        return loop
    left, rest = condition.b - base[0], int(condition.b) % size
    single = rest % 2
    parts = [_steps(loop, *part) for part in ((0, rest - single), (rest - single, single)) if part[1]]
    last = tirx.IfThenElse(left > 0, tirx.SeqStmt(parts) if len(parts) > 1 else parts[0], None) if parts else None
    return tirx.IfThenElse(left >= size, _steps(loop, 0, size), last)


def _steps(loop: Any, start: int, count: int) -> Any:
    """`count` steps of a loop from `start` on, all of which are taken."""
    x = tirx.Var(loop.loop_var.name, "int32")
    places = [tvm_ffi.structural_map(value, (tirx.Var, lambda var: x + start if var.same_as(loop.loop_var) else var)) for value in loop.body.iter_values]
    return tirx.For(x, tirx.const(0, "int32"), tirx.const(count, "int32"), loop.kind, SBlockRealize(places, True, loop.body.block))
