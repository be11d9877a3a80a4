"""What is computed in the launch of a product: the table or the residual sum that alone reads its codes."""

from __future__ import annotations

from collections.abc import Sequence

from qcompiler.ir import DType, Node
from qcompiler.kernels.gpu.gemm import NOTHING, After
from qcompiler.kernels.gpu.launch import constant, row_major
from qcompiler.targets.cuda.lower import Lowering, known_shape, limits, multipliers, sum_base, zero_point

SUMS = {"dyadic": "SUM_DYADIC", "shift_half_even": "SUM_HALF_EVEN", "float32_half_even": "SUM_FLOAT32"}


def after(low: Lowering, node: Node, order: Sequence[int]) -> tuple[After, Node]:
    """What follows a requantize in the same launch, and the last node of that launch.

    Args:
        low: the walk.
        node: the requantize.
        order: of the axes of its result in memory.
    """
    reader = low.graph.sole_user(node.output) if node.op == "requantize" else None
    if reader is None or reader.output.dtype not in (DType.int8, DType.int16):
        return NOTHING, node
    found = _table(low, node, reader) if reader.op == "lookup" else _sum(low, node, reader, order)
    if found is None:
        return NOTHING, node
    low.fused.add(reader)
    return found, reader


def _table(low: Lowering, node: Node, reader: Node) -> After | None:
    table = reader.operands[1]
    if node.output.dtype is not DType.int8 or reader.operands[0] is not node.output or table.data is None:
        return None
    return After("TABLE_AFTER", table=constant(low.fresh("lookup.table"), table.data))


def _sum(low: Lowering, node: Node, reader: Node, order: Sequence[int]) -> After | None:
    if reader.op != "requantize_sum" or len(reader.operands) != 2 or reader.attrs["rounding"] not in SUMS:
        return None
    own = next(i for i, v in enumerate(reader.operands) if v is node.output)
    value = reader.operands[1 - own]
    other = low.placed(value)
    shape = known_shape(reader.output)
    if other is None or other.dtype.name not in ("int8", "int16") or value is node.output or known_shape(node.output) != shape:
        return None
    inner = row_major([shape[a] for a in order])
    if other.shape != shape or any(other.strides[a] != s for a, s in zip(order, inner) if shape[a] != 1):
        return None
    factors = multipliers(reader)
    zero_points, shift = (zero_point(node.output), zero_point(value)), reader.attrs["shift"]
    if reader.attrs["rounding"] == "float32_half_even":
        zero_points, shift = (sum_base(reader), 0), own
    return After(
        SUMS[reader.attrs["rounding"]], other=other, multipliers=(factors[own], factors[1 - own]),
        zero_points=zero_points, shift=shift, limits=limits(reader),
    )  # fmt: skip
