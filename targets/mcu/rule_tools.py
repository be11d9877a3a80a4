"""What several rules of the legalization ask of a node."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from qcompiler.ir import DType, Node, Value
from qcompiler.kernels.mcu import pack
from qcompiler.kernels.mcu.geometry import Window
from qcompiler.targets.mcu.layouts import Order, channels_last, equivalent, plain
from qcompiler.targets.mcu.legalize import IN_PLACE, Legalizer, NoKernel
from qcompiler.targets.mcu.memory_plan import Overlap
from qcompiler.targets.mcu.program import At, Tensor

CODES = (DType.int8, DType.int16)
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


def same_rounding(low: Legalizer, node: Node) -> None:
    """Refuse a rescale that the profile of the program does not have."""
    if node.attrs["rounding"] != low.profile:
        raise NoKernel(f"it rounds by {node.attrs['rounding']}, the program by {low.profile}")


def any_factor(low: Legalizer, node: Node) -> dict[str, int]:
    """Packed multiplier and shift of a requantize that has the same for all channels, of either rounding."""
    m, s = pack.pack_any_factor(*one_factor(node), str(node.attrs["rounding"]), low.profile)
    return {"multiplier": m, "shift": s}


def elementwise_overlap(x: Tensor, y: Tensor) -> Overlap:
    """How the result of a function of single elements, taken front to back, may lie over an operand."""
    return IN_PLACE if y.item <= x.item else Overlap(y.count * (y.item - x.item))


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


@dataclass(frozen=True)
class Reduced:
    """A reduction over neighbouring axes in memory: `outer` blocks of `count` rows of `inner` elements.

    Attributes:
        x: the operand as it lies.
        outer, count, inner: see above.
        order: of the axes of the result.
    """

    x: Tensor
    outer: int
    count: int
    inner: int
    order: Order

    def window(self) -> Window:
        """One that is as large as a block, with the elements inside as channels."""
        sizes = [d for d in (self.x.shape[a] for a in self.x.order) if d != 1]
        height = self.count if self.count <= MOST else next((d for d in sizes if self.count % d == 0 and self.count // d <= MOST), 1)
        window = Window(height, self.count // height, self.inner, 1, 1, self.inner, height, self.count // height)
        if max(window.fields()) > MOST:
            raise NoKernel(f"a dimension above {MOST} has no kernel")
        return window


def reduced(low: Legalizer, node: Node) -> Reduced:
    """How a reduction lies, its operand moved if need be.

    Raises:
        NoKernel: axes that are no neighbours.
    """
    value = first(node)
    x = low.tensor(value)
    rank = len(x.shape)
    axes = {a % rank for a in node.attrs["axes"]} or set(range(rank))
    if x.columns is not None or not _together(x, axes):
        x = low.ordered(value, channels_last(rank) if rank > 2 and axes == set(range(2, rank)) else plain(rank), node)
    if not _together(x, axes):
        raise NoKernel(f"{node.op} over axes {sorted(axes)} of {list(x.shape)}, which are not neighbours, has no kernel")
    places = [i for i, a in enumerate(x.order) if a in axes and x.shape[a] != 1]
    begin, end = (places[0], places[-1] + 1) if places else (rank, rank)
    sizes = [x.shape[a] for a in x.order]
    order = x.order
    if not node.attrs["keepdims"]:
        order = tuple(sorted(axes ^ set(range(rank))).index(a) for a in x.order if a not in axes)
    return Reduced(x, math.prod(sizes[:begin]), math.prod(sizes[begin:end]), math.prod(sizes[end:]), order)


def _together(x: Tensor, axes: set[int]) -> bool:
    """True if the axes are neighbours in memory."""
    places = [i for i, a in enumerate(a for a in x.order if x.shape[a] != 1) if a in axes]
    return not places or places[-1] - places[0] + 1 == len(places)


@dataclass(frozen=True)
class Pairs:
    """Which elements of two operands an elementwise call combines.

    Attributes:
        a, b: the operands as they lie.
        count: elements of `a` in one call.
        period: elements of `b` after which it begins anew.
        repeat: number of calls; each begins `count` elements of `a` and `step` elements of `b` after the one before.
        step: see there.
        swapped: `a` is the second operand of the op.
    """

    a: Tensor
    b: Tensor
    count: int
    period: int
    repeat: int = 1
    step: int = 0
    swapped: bool = False

    def pointers(self, y: Tensor) -> tuple[At, At, At]:
        """Arguments a, b, y."""
        return At(self.a, self.count * self.a.item), At(self.b, self.step * self.b.item), At(y, self.count * y.item)

    def overlaps(self, y: Tensor) -> dict[int, Overlap]:
        """What y may lie over."""
        found = {0: elementwise_overlap(self.a, y)}
        return found | {1: elementwise_overlap(self.b, y)} if self.period == self.a.count else found


def pairs(low: Legalizer, node: Node) -> Pairs:
    """The two operands of an elementwise op, of which one has the shape of the result.

    The other may be smaller: over the outer axes in memory (it repeats), or over the inner ones (a call for each
    element).
    """
    a, b = node.operands
    result = tuple(node.output.shape)
    full = [(1,) * (len(result) - len(v.shape)) + tuple(v.shape) == result for v in (a, b)]
    if not any(full):
        raise NoKernel("both operands are broadcast")
    swapped = not full[0] or (full[1] and low.constant_of(a) is not None)
    found = _pairs(low, node, *((b, a) if swapped else (a, b)), len(result))
    return replace(found, swapped=swapped)


def _pairs(low: Legalizer, node: Node, a: Value, b: Value, rank: int) -> Pairs:
    x = in_any_order(low, a, node)
    if rank > len(x.shape):
        more = rank - len(x.shape)
        order = (*range(more), *(axis + more for axis in x.order))
        x = Tensor(x.storage, x.dtype, (1,) * more + x.shape, order, x.quant)
    if tuple(b.shape) == x.shape:
        return Pairs(x, low.ordered(b, x.order, node), x.count, x.count)
    shape = [1] * (rank - len(b.shape)) + [int(d) for d in b.shape]
    kept = [i for i, axis in enumerate(x.order) if shape[axis] != 1]
    begin, end = (kept[0], kept[-1] + 1) if kept else (rank, rank)
    full = [x.shape[axis] for axis in x.order]
    outer, middle, inner = (math.prod(part) for part in (full[:begin], full[begin:end], full[end:]))
    if [shape[axis] for axis in x.order][begin:end] != full[begin:end] or (outer > 1 and inner > 1 and middle > 1):
        raise NoKernel(f"{list(b.shape)} is broadcast to {list(x.shape)} along axes that are not together in memory")
    order = tuple(a - (rank - len(b.shape)) for a in x.order if a >= rank - len(b.shape))
    tensor = low.tensor(b)
    if not equivalent(tensor.order, order, tensor.shape):
        tensor = low.ordered(b, order, node)
    if middle == 1:
        return Pairs(x, tensor, x.count, 1)
    return Pairs(x, tensor, x.count, middle) if inner == 1 else Pairs(x, tensor, inner, 1, middle, 1)
