"""What several rules of the legalization ask of a node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from qcompiler.ir import Node, Value
from qcompiler.kernels.mcu.geometry import Window
from qcompiler.targets.mcu.layouts import Order, equivalent, plain
from qcompiler.targets.mcu.legalize import Legalizer, NoKernel
from qcompiler.targets.mcu.program import Tensor

MOST = 32767
"""Largest dimension of a window: the structs hold 16 bits."""


def first(node: Node) -> Value:
    """Operand 0, which is there."""
    value = node.inputs[0]
    assert value is not None
    return value


def zero_point(value: Value) -> int:
    """Of codes quantized per tensor; 0 for plain integers."""
    return 0 if value.quant is None else int(value.quant.zero_point)


def limits(node: Node) -> dict[str, int]:
    """Zero point and limits of what a requantize gives."""
    quant = node.attrs["quant"]
    low, high = node.attrs["qmin"], node.attrs["qmax"]
    return {
        "zero_point": int(quant.zero_point),
        "qmin": quant.dtype.min if low is None else low,
        "qmax": quant.dtype.max if high is None else high,
    }


def factors(node: Node) -> tuple[np.ndarray, np.ndarray]:
    """Multipliers and shifts of a requantize, int64, shape () or [C]."""
    multiplier, shift = node.inputs[1:3]
    if multiplier is None or shift is None or multiplier.data is None or shift.data is None:
        raise NoKernel("its factor is not constant")
    return np.asarray(multiplier.data, np.int64), np.asarray(shift.data, np.int64)


def one_factor(node: Node) -> tuple[int, int]:
    """Multiplier and shift of a requantize that has the same for all channels."""
    found = factors(node)
    if any(f.size != 1 for f in found):
        raise NoKernel("it has a factor per channel; one factor has a kernel")
    return int(found[0].ravel()[0]), int(found[1].ravel()[0])


def in_any_order(low: Legalizer, value: Value, node: Node) -> Tensor:
    """An operand as it lies, for ops that work element by element."""
    tensor = low.tensor(value)
    return tensor if tensor.columns is None else low.ordered(value, plain(len(tensor.shape)), node)


def window_of(
    x: Tensor, kernel: tuple[int, ...], attrs: Mapping[str, tuple[int, ...]], out: tuple[int, ...]
) -> Window:
    """The window over [N, C, L] or [N, C, H, W]; a single spatial axis is the width."""
    rank = len(x.shape) - 2
    if rank not in (1, 2):
        raise NoKernel(f"windows over {rank} axes have no kernel")

    def pair(values: Sequence[int], neutral: int) -> tuple[int, int]:
        return (neutral, values[0]) if rank == 1 else (values[0], values[1])

    window = Window(
        *pair(x.shape[2:], 1), x.shape[1], *pair(out[2:], 1), out[1], *pair(kernel, 1), *pair(attrs["strides"], 1),
        *pair(attrs["pads"][:rank], 0), *pair(attrs["dilations"], 1),
    )  # fmt: skip
    if max(window.fields()) > MOST:
        raise NoKernel(f"a dimension above {MOST} has no kernel")
    return window


def repeated(low: Legalizer, node: Node, b: Value, like: Tensor) -> tuple[Tensor, int]:
    """The second operand in the order of the first, and how many elements it has before it repeats."""
    if tuple(b.shape) == like.shape:
        return low.ordered(b, like.order, node), like.count
    rank = len(like.shape)
    shape = [1] * (rank - len(b.shape)) + [int(d) for d in b.shape]
    sizes = [shape[axis] for axis in like.order]
    full = [like.shape[axis] for axis in like.order]
    start = next((i for i, (s, f) in enumerate(zip(sizes, full, strict=True)) if s == f and s != 1), rank)
    if any(s != 1 for s in sizes[:start]) or sizes[start:] != full[start:]:
        raise NoKernel(f"{list(b.shape)} is broadcast to {list(like.shape)} along axes that are not outermost in memory")
    tensor = low.tensor(b)
    order: Order = tuple(a - (rank - len(b.shape)) for a in like.order if a >= rank - len(b.shape))
    if not equivalent(tensor.order, order, tensor.shape):
        tensor = low.ordered(b, order, node)
    return tensor, tensor.count
