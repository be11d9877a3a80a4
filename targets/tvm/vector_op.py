"""Ops of our own that stay whole when a loop is vectorized, and become others when vectors are known."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tvm
from tvm import tirx


@functools.cache
def vector_op(name: str, lower: Callable[[Any], Any], vectorizable: bool = True) -> Any:
    """The op of a name, registered once.

    Args:
        name: beginning with `tirx.`.
        lower: a call of the op, on numbers or on vectors, in terms of other ops.
        vectorizable: whether it takes vectors where a loop around it becomes one; the loop stays one otherwise.
    """
    if vectorizable:
        tvm.ir.register_op_attr(name, "TVectorizable", True)
    tvm.ir.register_op_attr(name, "TCallEffectKind", tirx.CallEffectKind.Pure.value)
    tirx.register_intrin_lowering(name, "default", f=lower)
    return tvm.ir.Op.get(name)
