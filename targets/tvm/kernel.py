"""What a kernel is made of while it is described: the values it computes, and the buffers and constants it reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tvm import te, tirx

from qcompiler.errors import UnsupportedError
from qcompiler.ir import Graph, Node, Value
from qcompiler.targets.tvm.symbols import Symbols
from qcompiler.targets.tvm.views import Layout, Point, View, buffer_view


@dataclass
class KernelBuilder:
    """Describes one kernel.

    Attributes:
        graph: the program.
        symbols: its symbolic dimensions.
        layouts: of the values that lie in memory by now.
        permutes: whether instructions of AVX-512 read short tables out of registers.
        arguments: (tensor, value of the graph or constant array) of everything that was read, in order.
        views: of the values that the kernel computes itself, and of those asked for already.
        scalars: (variable, what it stands for) of sizes that the kernel takes as arguments.
        free_offsets: where slices start is an argument too, so that kernels that differ in nothing else are one.
    """

    graph: Graph
    symbols: Symbols
    layouts: Mapping[Value, Layout]
    permutes: bool
    arguments: list[tuple[Any, Value | np.ndarray]] = field(default_factory=list)
    views: dict[Value, View] = field(default_factory=dict)
    scalars: list[tuple[Any, Any]] = field(default_factory=list)
    free_offsets: bool = False
    _constants: dict[int, Any] = field(default_factory=dict)

    def size(self, dim: Any) -> Any:
        """A dimension as one variable: schedules prove nothing about products of several."""
        if isinstance(dim, int) or isinstance(dim, tirx.Var):
            return dim
        variable = tirx.Var(f"size{len(self.scalars)}", "int64")
        self.scalars.append((variable, dim))
        return variable

    def offset(self, start: Any) -> Any:
        """Where a slice starts."""
        if not (self.free_offsets and isinstance(start, int)):
            return start
        variable = tirx.Var(f"offset{len(self.scalars)}", "int64")
        self.scalars.append((variable, start))
        return variable

    def constant(self, array: np.ndarray) -> Any:
        """The tensor of a constant array; one argument however often it is asked for."""
        found = self._constants.get(id(array))
        if found is None:
            held = np.ascontiguousarray(array)
            found = te.placeholder(held.shape, str(held.dtype), name=f"constant{len(self.arguments)}")
            self.arguments.append((found, held))
            self._constants[id(array)] = found
            self._constants[id(held)] = found
        return found

    def view(self, value: Value) -> View:
        """How to read a value."""
        found = self.views.get(value)
        if found is None:
            found = self._make_view(value)
            self.views[value] = found
        return found

    def _make_view(self, value: Value) -> View:
        if value.data is not None:
            return self._constant_view(value)
        layout = self.layouts.get(value)
        if layout is not None:
            tensor = te.placeholder(layout.physical_shape(self.symbols), storage(value), name=f"x{len(self.arguments)}")
            self.arguments.append((tensor, value))
            return buffer_view(tensor, layout, self.symbols)
        node = self.graph.producer(value)
        assert node is not None, value
        from qcompiler.targets.tvm.movement import VIEWS

        return VIEWS[node.op](self, node)

    def _constant_view(self, value: Value) -> View:
        data = value.data
        assert data is not None
        if data.size == 1 and data.dtype.kind in "iuf":
            kind = storage(value)
            number = data.reshape(()).item()
            return View(value.shape, lambda point: tirx.const(number, kind))
        tensor = self.constant(data)
        return View(value.shape, lambda point: tensor(*point.index))

    def channel(self, axis: int | None, point: Point) -> Callable[[np.ndarray], Any]:
        """Reads a scalar, or one number per channel of `axis`, at a point."""

        def read(array: np.ndarray) -> Any:
            array = np.asarray(array)
            if array.size == 1 or (array == array.flat[0]).all():
                return tirx.const(array.flat[0].item(), str(array.dtype))
            assert axis is not None
            return self.constant(interned(array))(point.index[axis])

        return read


_KEPT: dict[tuple[str, bytes], np.ndarray] = {}


def interned(array: np.ndarray) -> np.ndarray:
    """One object for equal arrays, so that a kernel has one argument for them."""
    return _KEPT.setdefault((str(array.dtype), array.tobytes()), array)


def storage(value: Value) -> str:
    """The element type that holds a value in memory.

    Raises:
        UnsupportedError: a type that kernels do not compute on.
    """
    name = value.dtype.numpy.name
    if name in ("bfloat16", "float16"):
        raise UnsupportedError(f"{value!r}: kernels compute real numbers in float32")
    return str(name)


def zero_of(value: Value) -> int:
    """Zero point of a value quantized per tensor; 0 for plain numbers."""
    return 0 if value.quant is None else int(value.quant.zero_point.reshape(-1)[0])


def weight_codes(value: Value) -> tuple[np.ndarray, str, int]:
    """(codes, their type, their zero point) of a constant; zero points per channel are taken off the codes."""
    data, quant = value.data, value.quant
    assert data is not None
    if quant is None or quant.per_tensor or not quant.zero_point.any():
        return data, storage(value), zero_of(value)
    centred = data.astype(np.int64) - quant.broadcast(quant.zero_point, value.shape)
    kind = "int8" if -128 <= centred.min() and centred.max() <= 127 else "int16"
    return centred.astype(kind), kind, 0


def operand(node: Node, index: int) -> Value:
    """An operand that is present."""
    value = node.inputs[index]
    assert value is not None
    return value
