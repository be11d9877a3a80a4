"""The table of ops: the single source of truth for names, operands, attributes, shape rules and reference bodies.

A new op is a row in one of the family files here, and a kernel per target.
"""

from __future__ import annotations

from types import MappingProxyType

from ...errors import GraphError, did_you_mean
from . import (
    elementwise,
    indexing,
    integer,
    integer_norm,
    linear,
    movement,
    norm,
    pool,
    quantized,
    reduce,
    rounding,
)
from .spec import AttrSpec, Op, RunContext, TensorType

OPS: MappingProxyType[str, Op] = MappingProxyType(
    {
        op.name: op
        for family in (elementwise, movement, indexing, reduce, linear, pool, norm, quantized, integer, integer_norm, rounding)
        for op in family.OPS
    }
)


def get_op(name: str) -> Op:
    """The row of an op.

    Raises:
        GraphError: for an unknown name, with the nearest known one.
    """
    if name not in OPS:
        raise GraphError(f"unknown op {name!r}.{did_you_mean(name, OPS)}")
    return OPS[name]


__all__ = ["OPS", "AttrSpec", "Op", "RunContext", "TensorType", "get_op"]
