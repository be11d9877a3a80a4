"""Values as functions of an index, and how they lie in memory.

Data movement never copies by itself: a transpose, slice or reshape is another function over the same buffer, and the
kernel that reads it reads the right elements. What kernels write is kept in one of three layouts; products write rows,
convolutions channels last, whatever order the graph's axes have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from qcompiler.ir.dims import Shape, is_symbolic, normalize, product, same, same_shape
from qcompiler.targets.tvm.symbols import Symbols, product_of

PLAIN, ROWS, CHANNELS_LAST = "plain", "rows", "channels_last"


@dataclass(frozen=True)
class Layout:
    """How a value of `shape` lies in memory.

    plain: as its axes say. rows: [product of all axes but the last, last]. channels_last (of [N, C, spatial...]):
    [N * spatial, C].
    """

    kind: str
    shape: Shape

    def physical_shape(self, symbols: Symbols) -> tuple[Any, ...]:
        """Shape of the buffer."""
        if self.kind == PLAIN:
            return symbols.shape(self.shape)
        if self.kind == ROWS:
            return symbols(normalize(product(self.shape[:-1]))), symbols(self.shape[-1])
        spatial = (self.shape[0], *self.shape[2:])
        return symbols(normalize(product(spatial))), symbols(self.shape[1])

    def physical(self, index: Sequence[Any], symbols: Symbols) -> tuple[Any, ...]:
        """Where an element lies."""
        if self.kind == PLAIN:
            return tuple(index)
        dims = symbols.shape(self.shape)
        if self.kind == ROWS:
            return flatten(index[:-1], dims[:-1]), index[-1]
        return flatten((index[0], *index[2:]), (dims[0], *dims[2:])), index[1]

    def logical(self, place: Sequence[Any], symbols: Symbols) -> tuple[Any, ...]:
        """The index of the element at a place."""
        if self.kind == PLAIN:
            return tuple(place)
        dims = symbols.shape(self.shape)
        if self.kind == ROWS:
            return (*unflatten(place[0], dims[:-1]), place[1])
        first, *spatial = unflatten(place[0], (dims[0], *dims[2:]))
        return (first, place[1], *spatial)

    def same_memory(self) -> bool:
        """True if the memory is that of the plain layout."""
        if self.kind != CHANNELS_LAST:
            return True
        return all(isinstance(d, int) and d == 1 for d in self.shape[2:])


def flatten(index: Sequence[Any], dims: Sequence[Any]) -> Any:
    """Row-major position."""
    at: Any = 0
    for i, d in zip(index, dims, strict=True):
        if isinstance(d, int) and d == 1:
            continue
        at = i if isinstance(at, int) and at == 0 else at * d + i
    return at


def unflatten(at: Any, dims: Sequence[Any]) -> tuple[Any, ...]:
    """Index of a row-major position."""
    index: list[Any] = []
    real = [i for i, d in enumerate(dims) if not (isinstance(d, int) and d == 1)]
    for i, d in enumerate(dims):
        if i not in real:
            index.append(0)
            continue
        inner = product_of(dims[i + 1 :])
        part = at if isinstance(inner, int) and inner == 1 else at // inner
        index.append(part if i == real[0] else part % d)
    return tuple(index)


@dataclass(frozen=True)
class Point:
    """Where a kernel evaluates a value.

    Attributes:
        shape: of the value, as the graph has it.
        index: one expression per axis.
        layout: the layout whose loops the kernel runs, if it has one for this shape.
        place: of the element in that layout.
    """

    shape: Shape
    index: tuple[Any, ...]
    layout: Layout | None = None
    place: tuple[Any, ...] = ()

    def of(self, shape: Shape) -> Point:
        """The point of an operand that broadcasts to this value."""
        if same_shape(shape, self.shape):
            return self
        offset = len(self.shape) - len(shape)
        index = tuple(
            0 if isinstance(d, int) and d == 1 and not same(d, self.shape[offset + i]) else self.index[offset + i]
            for i, d in enumerate(shape)
        )
        return Point(shape, index)


@dataclass(frozen=True)
class View:
    """A value as a function of where it is evaluated."""

    shape: Shape
    at: Callable[[Point], Any]

    def read(self, point: Point) -> Any:
        """The element for a point of a value that this one broadcasts to."""
        return self.at(point.of(self.shape))

    def __call__(self, *index: Any) -> Any:
        """The element at an index."""
        return self.at(Point(self.shape, index))


def buffer_view(tensor: Any, layout: Layout, symbols: Symbols) -> View:
    """A value that lies in memory."""

    def at(point: Point) -> Any:
        if point.layout is not None and point.layout.kind == layout.kind:
            return tensor(*point.place)
        return tensor(*layout.physical(point.index, symbols))

    return View(layout.shape, at)


def reshape_index(old: Shape, new: Shape, index: Sequence[Any], symbols: Symbols) -> tuple[Any, ...]:
    """Index into `old` of an element of `new`, both row-major.

    Axes that correspond are matched from the front, so that splitting and joining them needs no division elsewhere.
    """
    result: list[Any] = []
    i = j = 0
    while i < len(old) or j < len(new):
        a, b = (old[i] if i < len(old) else 1), (new[j] if j < len(new) else 1)
        first, second = i, j
        i, j = min(i + 1, len(old)), min(j + 1, len(new))
        while not same(a, b):
            if i < len(old) and (j >= len(new) or _less(a, b)):
                a, i = normalize(a * old[i]), i + 1
            elif j < len(new):
                b, j = normalize(b * new[j]), j + 1
            elif i < len(old):
                a, i = normalize(a * old[i]), i + 1
            else:  # symbolic sizes that are equal without being provably so
                break
        at = flatten(index[second:j], symbols.shape(new[second:j]))
        result += unflatten(at, symbols.shape(old[first:i]))
    return tuple(result)


def _less(a: Any, b: Any) -> bool:
    if not is_symbolic(a) and not is_symbolic(b):
        return bool(a < b)
    return not is_symbolic(a) or len(a.free_symbols) < len(getattr(b, "free_symbols", ()))
