"""What a converter of one ATen op works with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch

from ..errors import GraphError, UnsupportedError
from ..ir import DType, GraphBuilder, Node, Origin, Value, get_op
from ..ir.dims import Dim, Shape, is_symbolic, product, same
from .symbols import DimTranslator

Scalar: TypeAlias = Any  # bool | int | float | symbolic Dim: what ATen calls a Scalar
Operand: TypeAlias = Any  # Value | Scalar

TORCH_DTYPES: dict[torch.dtype, DType] = {
    torch.float32: DType.float32,
    torch.float16: DType.float16,
    torch.bfloat16: DType.bfloat16,
    torch.float64: DType.float64,
    torch.int8: DType.int8,
    torch.int16: DType.int16,
    torch.int32: DType.int32,
    torch.int64: DType.int64,
    torch.uint8: DType.uint8,
    torch.uint16: DType.uint16,
    torch.uint32: DType.uint32,
    torch.bool: DType.bool,
}


class Refusal(Exception):
    """A converter cannot express this use of its op; the message is the reason."""


def to_dtype(dtype: torch.dtype) -> DType:
    """The graph's type of a torch type.

    Raises:
        Refusal: complex, float8 and other types that the graph does not have.
    """
    if dtype not in TORCH_DTYPES:
        raise Refusal(f"dtype {dtype} has no counterpart in the graph")
    return TORCH_DTYPES[dtype]


class Context:
    """Builder of the graph, seen from the node that is being converted.

    Attributes:
        node: the torch.fx node.
        fake: its result as torch infers it: a fake tensor, or a tuple of them.
    """

    def __init__(self, builder: GraphBuilder, dims: DimTranslator) -> None:
        self.builder = builder
        self.dims = dims
        self.node: Any = None
        self.fake: Any = None
        self.producers: dict[Value, Node] = {}

    def enter(self, node: Any, origin: Origin) -> None:
        """Make `node` the current one."""
        self.node = node
        self.fake = node.meta.get("val")
        self.builder.origin = origin

    # -- the result that torch infers ------------------------------------------------------------------------

    @property
    def dtype(self) -> DType:
        """Element type of the (first) result."""
        fake = self.fake[0] if isinstance(self.fake, (tuple, list)) else self.fake
        return to_dtype(fake.dtype)

    @property
    def shape(self) -> Shape:
        """Shape of the (first) result."""
        fake = self.fake[0] if isinstance(self.fake, (tuple, list)) else self.fake
        return self.dims.shape(fake.shape)

    # -- building ----------------------------------------------------------------------------------------------

    def op(self, op: str, *inputs: Value | None, **attrs: Any) -> Value:
        """Append a node with one output, named after the torch node."""
        return self.ops(op, *inputs, **attrs)[0]

    def ops(self, op: str, *inputs: Value | None, **attrs: Any) -> tuple[Value, ...]:
        """Append a node and return all its outputs."""
        try:
            node = self.builder.node(op, *inputs, name=self.node.name, **attrs)
        except GraphError:
            aligned = self._aligned(inputs) if get_op(op).category == "elementwise" else inputs
            if all(a is b for a, b in zip(aligned, inputs, strict=True)):
                raise
            node = self.builder.node(op, *aligned, name=self.node.name, **attrs)
        for value in node.outputs:
            self.producers[value] = node
        return node.outputs

    def _aligned(self, inputs: Sequence[Value | None]) -> list[Value | None]:
        """Operands with the sizes that torch gives the result.

        `64 - Max(0, 64 - seq)` and `seq` are one size where seq is at most 64, which torch has made a condition of
        the program; the table's rule cannot know that.
        """
        target = self.shape
        aligned: list[Value | None] = []
        for value in inputs:
            if value is not None and len(value.shape) <= len(target):
                tail = target[len(target) - len(value.shape) :]
                pairs = zip(value.shape, tail, strict=True)
                shape = tuple(b if is_symbolic(a) and not same(a, b) and b != 1 else a for a, b in pairs)
                value = self.reshape(value, shape)
            aligned.append(value)
        return aligned

    def const(self, data: Any, dtype: DType | None = None) -> Value:
        """A constant."""
        return self.builder.const(np.asarray(data, None if dtype is None else dtype.numpy), dtype)

    def cast(self, value: Value, dtype: DType) -> Value:
        """The value in another dtype; itself if it has that dtype."""
        return value if value.dtype is dtype else self.op("cast", value, dtype=dtype)

    def tensor(self, x: Operand, dtype: DType) -> Value:
        """A value, number or symbolic dimension as a value of a dtype."""
        if isinstance(x, Value):
            return self.cast(x, dtype)
        if is_symbolic_dim(x):
            value = self.op("dim", value=x)
            return self.cast(value, dtype)
        return self.const(x, dtype)

    def reshape(self, x: Value, shape: Sequence[Dim]) -> Value:
        """The same elements in another shape; no node where the shape is the same."""
        shape = tuple(shape)
        return x if x.shape == shape else self.op("reshape", x, shape=shape)

    def expand(self, x: Value, shape: Sequence[Dim]) -> Value:
        """Broadcast to a shape; no node where the shape is the same."""
        shape = tuple(shape)
        return x if x.shape == shape else self.op("expand", x, shape=shape)

    def transpose(self, x: Value, perm: Sequence[int]) -> Value:
        """Axes in another order; no node for the identity."""
        perm = tuple(perm)
        return x if perm == tuple(range(len(perm))) else self.op("transpose", x, perm=perm)

    def unsqueeze(self, x: Value, axis: int) -> Value:
        """One more axis of size 1."""
        axis %= len(x.shape) + 1
        return self.reshape(x, (*x.shape[:axis], 1, *x.shape[axis:]))

    def slice(self, x: Value, axis: int, start: Dim, stop: Dim, step: int = 1) -> Value:
        """x[start:stop:step] along an axis, for bounds in [0, size]; no node where that is all of it."""
        axis %= len(x.shape)
        if step == 1 and start == 0 and stop == x.shape[axis]:
            return x
        return self.op("slice", x, axis=axis, start=start, stop=stop, step=step)

    def select(self, x: Value, axis: int, index: Dim) -> Value:
        """x[index] along an axis, for an index in [0, size)."""
        axis %= len(x.shape)
        part = self.slice(x, axis, index, index + 1)
        return self.reshape(part, (*x.shape[:axis], *x.shape[axis + 1 :]))

    def swap_last(self, x: Value) -> Value:
        """The last two axes exchanged."""
        rank = len(x.shape)
        return self.op("transpose", x, perm=(*range(rank - 2), rank - 1, rank - 2))


def is_symbolic_dim(x: Any) -> bool:
    """True for a dimension that is no number."""
    return x is not None and not isinstance(x, (bool, int, float, Value, str)) and is_symbolic(x)


def static(x: Any, what: str) -> int:
    """A dimension that has to be known when compiling.

    Raises:
        Refusal: a symbolic one.
    """
    if is_symbolic_dim(x):
        raise Refusal(f"{what} must be a known number, it is {x}")
    return int(x)


def static_shape(x: Value, what: str) -> tuple[int, ...]:
    """A shape that has to be known when compiling."""
    return tuple(static(d, what) for d in x.shape)


def axes_of(dim: Any, rank: int) -> tuple[int, ...]:
    """ATen's dim argument (None, an int or a list; empty means all) as axes counted from the front."""
    if dim is None or (isinstance(dim, (list, tuple)) and not dim):
        return tuple(range(rank))
    dims = dim if isinstance(dim, (list, tuple)) else (dim,)
    return tuple(int(d) % max(rank, 1) for d in dims) if rank else ()


def elements(x: Value) -> Dim:
    """Number of elements."""
    return product(x.shape)


__all__ = [
    "TORCH_DTYPES",
    "Context",
    "Operand",
    "Refusal",
    "Scalar",
    "UnsupportedError",
    "axes_of",
    "elements",
    "is_symbolic_dim",
    "static",
    "static_shape",
    "to_dtype",
]
