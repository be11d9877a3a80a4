"""What the families of kernels have in common: views of memory, kernels, and launches with packed parameters.

Every kernel takes one struct by value. A launch lists its fields in order; `pack` lays them out as C does, and the
generated source asserts the same size.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from qcompiler.errors import InternalError

RANK = 6
"""Axes that kernels with strided operands take."""

ALIGNMENT = 256
"""Bytes that buffers are aligned to."""


@dataclass(frozen=True, eq=False)
class Buffer:
    """Bytes on the device.

    Attributes:
        name: for errors and reports.
        size: bytes.
        data: of a constant, None for what is computed or given.
    """

    name: str
    size: int
    data: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class View:
    """A tensor as it lies in a buffer.

    Attributes:
        buffer: where.
        dtype: of the elements.
        shape: axes.
        strides: elements from one index to the next, per axis; 0 where it is broadcast.
        offset: bytes of the first element.
    """

    buffer: Buffer
    dtype: np.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    @property
    def count(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    @property
    def contiguous(self) -> bool:
        """True if the elements lie in row-major order without gaps."""
        return all(d == 1 or s == t for d, s, t in zip(self.shape, self.strides, row_major(self.shape)))

    @property
    def dense(self) -> bool:
        """True if the elements fill a stretch of the buffer, in whatever order."""
        axes = sorted((s, d) for d, s in zip(self.shape, self.strides) if d != 1)
        step = 1
        for stride, size in axes:
            if stride != step:
                return False
            step *= size
        return True

    def span(self) -> tuple[int, int]:
        """First byte and number of bytes that the elements lie in."""
        if self.count == 0:
            return self.offset, 0
        ends = [s * (d - 1) for d, s in zip(self.shape, self.strides)]
        low, high = sum(min(e, 0) for e in ends), sum(max(e, 0) for e in ends)
        return self.offset + low * self.dtype.itemsize, (high - low + 1) * self.dtype.itemsize

    def transpose(self, perm: Sequence[int]) -> View:
        """Axes in another order."""
        return replace(self, shape=tuple(self.shape[p] for p in perm), strides=tuple(self.strides[p] for p in perm))

    def expand(self, shape: Sequence[int]) -> View:
        """Broadcast as NumPy does."""
        lead = len(shape) - len(self.shape)
        sizes, strides = (1,) * lead + self.shape, (0,) * lead + self.strides
        return replace(self, shape=tuple(shape), strides=tuple(0 if d == 1 else s for d, s in zip(sizes, strides)))

    def part(self, axis: int, start: int, length: int, step: int = 1) -> View:
        """Some of the indices of one axis; a negative step counts down from `start`."""
        shape, strides = list(self.shape), list(self.strides)
        offset = self.offset + start * strides[axis] * self.dtype.itemsize
        shape[axis], strides[axis] = length, strides[axis] * step
        return replace(self, shape=tuple(shape), strides=tuple(strides), offset=offset)

    def reshape(self, shape: Sequence[int]) -> View | None:
        """The same elements in row-major order under another shape, None if that needs a copy."""
        if self.count == 0 or self.contiguous:
            return replace(self, shape=tuple(shape), strides=row_major(shape))
        merged: list[list[int]] = []  # [size, stride] of axes that lie together
        for size, stride in zip(self.shape, self.strides):
            if size == 1:
                continue
            if merged and merged[-1][1] == stride * size:
                merged[-1] = [merged[-1][0] * size, stride]
            else:
                merged.append([size, stride])
        strides, left = [0] * len(shape), list(reversed(merged))
        place = len(shape) - 1
        for size, stride in left:
            filled, step = 1, stride
            while place >= 0 and filled < size:
                strides[place] = step
                filled, step = filled * shape[place], step * shape[place]
                place -= 1
            if filled != size:
                return None
        return replace(self, shape=tuple(shape), strides=tuple(strides))


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides of a contiguous array, in elements."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def in_order(buffer: Buffer, dtype: np.dtype, shape: Sequence[int], order: Sequence[int] | None = None) -> View:
    """A whole buffer as a tensor whose axes lie in memory in `order` (outermost first; row-major by default)."""
    order = tuple(order) if order is not None else tuple(range(len(shape)))
    inner = row_major([shape[a] for a in order])
    strides = [0] * len(shape)
    for axis, stride in zip(order, inner):
        strides[axis] = stride
    return View(buffer, np.dtype(dtype), tuple(shape), tuple(strides))


def memory_order(view: View) -> tuple[int, ...]:
    """Axes from the outermost to the innermost in memory."""
    return tuple(sorted(range(len(view.shape)), key=lambda a: (-abs(view.strides[a]), a)))


def constant(name: str, array: np.ndarray) -> View:
    """A constant array."""
    shape = np.shape(array)
    array = np.ascontiguousarray(array)  # which has one axis at least
    return in_order(Buffer(name, array.nbytes, array), array.dtype, shape)


@dataclass(frozen=True)
class Pointer:
    """A pointer field: to byte `offset` of a buffer, through which `size` bytes from `first` on may be touched.

    Attributes:
        access: `read`; `write`: every byte is written; `part`: some are.
    """

    buffer: Buffer
    offset: int
    first: int
    size: int
    access: str


def reading(view: View | None) -> Pointer | None:
    """A pointer to what a kernel reads."""
    return None if view is None else Pointer(view.buffer, view.offset, *view.span(), "read")


def writing(view: View) -> Pointer:
    """A pointer to what a kernel computes."""
    return Pointer(view.buffer, view.offset, *view.span(), "write" if view.dense else "part")


Field = tuple[str, "Pointer | int | None"]
"""`p` pointer, `i` int32, `q` int64, `a` end of a nested struct (alignment in bytes)."""

_SIZES = {"p": 8, "i": 4, "q": 8}


def ints(*values: int) -> list[Field]:
    """int32 fields."""
    return [("i", int(v)) for v in values]


def longs(*values: int) -> list[Field]:
    """int64 fields."""
    return [("q", int(v)) for v in values]


def floats(*values: float) -> list[Field]:
    """float32 fields, as the int32 of their bits."""
    return ints(*np.asarray(values, np.float32).view(np.int32))


def pack(fields: Sequence[Field], address: Mapping[Buffer, int] | None = None) -> bytes:
    """The struct as C lays it out; pointers are 0 without addresses of the buffers.

    Raises:
        OverflowError: a number does not fit its field.
    """
    raw = bytearray()
    for code, value in fields:
        size = 8 if code == "a" else _SIZES[code]
        raw += bytes(-len(raw) % size)
        if code == "a":
            continue
        if code == "p":
            known = isinstance(value, Pointer) and address is not None
            raw += struct.pack("<Q", address[value.buffer] + value.offset if known else 0)  # type: ignore[index,union-attr]
        else:
            low = -(1 << (8 * size - 1))
            if not low <= int(value) < -low:  # type: ignore[arg-type]
                raise OverflowError(f"{value} does not fit an int{8 * size} of a kernel's parameters")
            raw += struct.pack("<i" if code == "i" else "<q", int(value))  # type: ignore[arg-type]
    return bytes(raw + bytes(-len(raw) % 8))


@dataclass(frozen=True)
class Kernel:
    """A kernel of the generated source.

    Attributes:
        name: of the function.
        header: of `cuda/` that defines it.
        parameters: C++ type of its struct.
        body: C++ statement that computes, with the struct as `p`.
        threads: of a block.
    """

    name: str
    header: str
    parameters: str
    body: str
    threads: int


@dataclass(frozen=True)
class Launch:
    """One kernel over a grid.

    Attributes:
        kernel: which.
        grid: blocks along x, y, z.
        fields: of its parameters.
        work: multiply-accumulates of a product, else elements.
    """

    kernel: Kernel
    grid: tuple[int, int, int]
    fields: tuple[Field, ...]
    work: int

    @property
    def pointers(self) -> list[Pointer]:
        """Pointer fields that are not null."""
        return [value for code, value in self.fields if code == "p" and isinstance(value, Pointer)]


def source(launches: Sequence[Launch]) -> str:
    """CUDA C++ with every kernel of the launches once.

    Raises:
        InternalError: two kernels of one name.
    """
    found: dict[str, Launch] = {}
    for launch in launches:
        if found.setdefault(launch.kernel.name, launch).kernel != launch.kernel:
            raise InternalError(f"two CUDA kernels are named {launch.kernel.name}; a name has to tell their bodies apart")
    kernels = [found[name] for name in sorted(found)]
    lines = [f'#include "{h}"' for h in sorted({k.kernel.header for k in kernels})]
    for launch in kernels:
        k = launch.kernel
        lines += [
            "",
            f'static_assert(sizeof({k.parameters}) == {len(pack(launch.fields))}, "layout of {k.parameters}");',
            f"QC_KERNEL({k.name}, {k.threads}, {k.parameters})",
            "{",
            f"    {k.body};",
            "}",
        ]
    return "\n".join(lines) + "\n"


def ceil_div(a: int, b: int) -> int:
    """Quotient rounded up."""
    return -(-a // b)
