"""Real numbers that are a function of one byte: what a model makes of camera pixels before its first layer.

`x.to(float32) / 255` of a uint8 input has 256 values, all known without data. Codes of such a value are a table of the
byte, rounded once; where its steps are even and 0 is one of them, the codes are the bytes themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qcompiler.calibration import quant_params_from_range
from qcompiler.ir import OPS, DType, Graph, Node, Value
from qcompiler.ir.ops import RunContext

BYTES = (DType.uint8, DType.int8)
MOVES = frozenset({"reshape", "transpose", "expand", "slice", "flip"})
"""Ops whose result consists of elements of operand 0 and nothing else."""
EXACT = 1e-3
"""Largest error, in steps, of codes that count as exact: constants of the model are float32."""


@dataclass(frozen=True, eq=False)
class ByteTable:
    """The real value of every byte.

    Attributes:
        source: plain 8-bit integers.
        real: float64 [256], the real number for each byte from the smallest on.
    """

    source: Value
    real: np.ndarray


def real_function(node: Node, x: np.ndarray) -> np.ndarray:
    """The node's own function on real numbers, float64; its other operands are scalar constants."""
    operands = [x.astype(np.float64) if v is not None and v.data is None else None if v is None else v.data for v in node.inputs]
    with np.errstate(all="ignore"):
        return np.asarray(OPS[node.op].reference(RunContext(node, node.attrs, True), *operands))


def byte_table(graph: Graph, value: Value, through_moves: bool = False) -> ByteTable | None:
    """The table of a real value, None if it is no function of one byte of plain integers.

    Args:
        graph: that computes the value.
        value: real.
        through_moves: look past data movement too; the elements then lie elsewhere than in the source.
    """
    node = graph.producer(value)
    if node is None or not value.dtype.is_float or len(node.outputs) != 1:
        return None
    varying = [v for v in node.operands if v.data is None]
    if len(varying) != 1:
        return None
    (x,) = varying
    if node.op == "cast" and not x.dtype.is_float:
        plain = x.dtype in BYTES and x.quant is None and not _is_table_row(graph, x)
        return ByteTable(x, np.arange(x.dtype.min, x.dtype.max + 1, dtype=np.float64)) if plain else None
    if through_moves and node.op in MOVES:
        return byte_table(graph, x, True)
    if OPS[node.op].category != "elementwise" or value.shape != x.shape or any(v.data.size != 1 for v in node.operands if v.data is not None):
        return None
    found = byte_table(graph, x, through_moves)
    return None if found is None else ByteTable(found.source, real_function(node, found.real))


def exact_range(graph: Graph, value: Value, dtype: DType) -> tuple[float, float] | None:
    """The range in which codes of `dtype` are those of the bytes, so that nothing is rounded; None if there is none."""
    found = byte_table(graph, value, through_moves=True)
    if found is None or dtype.bits < 8 or not np.isfinite(found.real).all():
        return None
    low, high = float(found.real.min()), float(found.real.max())
    if low == high:
        return None
    scale, zero_point = quant_params_from_range(low, high, dtype, dtype.is_signed)
    codes = found.real / float(scale)
    inside = codes.min() + int(zero_point) > dtype.min - 0.5 and codes.max() + int(zero_point) < dtype.max + 0.5
    return (low, high) if inside and np.abs(codes - np.rint(codes)).max() < EXACT else None


def _is_table_row(graph: Graph, x: Value) -> bool:
    """Rows of a constant table of integers are its codes (quantized embeddings)."""
    source = graph.producer(x)
    return source is not None and source.op == "gather" and source.operands[0].data is not None
