"""From an INTEGER graph to a program of kernel calls.

    layout    [N, C, spatial...] of convolutions and pools lies channels last; transposes and most reshapes only
              rename axes; where an op needs another order, a transpose is inserted
    fusion    product + requantize (+ residual add) is one call; the integers are those of the ops one by one
    weights   reordered, packed for the instruction set, zero points of activations folded into biases

Ops without a kernel are collected and refused together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from qcompiler.errors import ConstraintError, GraphError, UnsupportedError
from qcompiler.executors.reference import run_node
from qcompiler.ir import DType, Graph, Node, Value, constant
from qcompiler.targets.mcu.layouts import Order, channels_last, plain, strides
from qcompiler.targets.mcu.memory_plan import Overlap
from qcompiler.targets.mcu.program import (
    C_TYPES,
    At,
    Data,
    Program,
    Step,
    Storage,
    Struct,
    Tensor,
    element_bytes,
)
from qcompiler.targets.mcu.schedule import Schedule

PRODUCTS = frozenset({"conv", "linear", "matmul", "integer_mul", "reduce_mean", "reduce_sum", "shift_sigmoid"})
WINDOWS = frozenset({"conv", "max_pool", "pad", "resize"})
IN_PLACE = Overlap(0, same=True)


class NoKernel(GraphError):
    """An op, or a form of it, that no kernel computes; the message says why."""


RESERVED = frozenset(
    "arena input inputs output outputs i auto break case char const continue default do double else enum extern float for goto if"
    " inline int long register restrict return short signed sizeof static struct switch typedef union unsigned void volatile"
    " while asm main".split()
)
"""Words of C, and names that the generated code has already."""

Rule = Callable[["Legalizer", Node], None]


class Legalizer:
    """The walk over a graph that the rules share.

    Attributes:
        graph: level INTEGER.
        schedule: choices of the kernels, and what weights are packed for.
        tensors: where each value lies.
        steps: so far.
    """

    def __init__(self, graph: Graph, schedule: Schedule, rules: Mapping[str, Rule]) -> None:
        self.graph, self.schedule, self.isa = graph, schedule, schedule.isa
        self.tensors: dict[Value, Tensor] = {}
        self.steps: list[Step] = []
        self.taps: list[tuple[int, Value, Tensor]] = []
        self.profile = program_profile(graph)
        self.deferred: dict[Node, tuple[Node, Node]] = {}
        """Residual sum -> the product and rescale that are computed with it."""
        self.pending: set[Value] = set()
        """Values that exist only inside such a call."""
        self._folded: dict[Value, Value] = {}
        self._names: dict[str, int] = {}
        self._constants: dict[tuple[Value, Order, int], Tensor] = {}
        self._converted: dict[tuple[Tensor, Order], Tensor] = {}
        self._rules = rules

    def program(self, name: str) -> Program:
        """Walk all nodes.

        Raises:
            UnsupportedError: ops without a kernel, all of them.
        """
        inputs = tuple(self._input(i, value) for i, value in enumerate(self.graph.inputs))
        problems = []
        for node in self.graph.nodes:
            if not all(self._known(v) for v in node.operands):
                continue  # what it reads was refused already
            if self._fold(node):
                continue
            rule = self._rules.get(node.op)
            try:
                if rule is None:
                    raise NoKernel("there is no kernel for it")
                rule(self, node)
            except NoKernel as problem:
                problems.append(f"  {node.where()}: {problem}")
        if problems:
            raise UnsupportedError(
                f"{len(problems)} ops have no kernel on microcontrollers:\n" + "\n".join(problems) + "\nChange these layers,"
                " or compile for another target."
            )
        outputs = self._outputs()
        return Program(
            name, inputs, outputs, tuple(self.steps), tuple(self.taps), self.profile,
            tuple(v.name for v in self.graph.inputs), tuple(self.graph.output_names),
        )  # fmt: skip

    def _fold(self, node: Node) -> bool:
        """Compute what depends on constants only and has no codes: positions, triangles of causal masks."""
        operands = [self.constant_of(v) for v in node.operands]
        plain_numbers = all(v.quant is None and not v.dtype.is_float for v in (*node.operands, *node.outputs))
        if not plain_numbers or any(v is None for v in operands):
            return False
        arrays = iter([v.data for v in operands if v is not None])
        results = run_node(node, [None if v is None else next(arrays) for v in node.inputs], {})
        for value, data in zip(node.outputs, results, strict=True):
            self._folded[value] = constant(data, value.dtype, name=value.name)
        return True

    def constant_of(self, value: Value) -> Value | None:
        """The constant that a value is, folded ones included; None for anything computed at run time."""
        return value if value.is_const else self._folded.get(value)

    def _known(self, value: Value) -> bool:
        if self.constant_of(value) is not None or value in self.tensors or value in self.pending:
            return True
        product = self.graph.producer(value)
        return product is not None and is_accumulator(self.graph, value) and all(self._known(v) for v in product.operands)

    # -- tensors

    def fresh(self, hint: str) -> str:
        """A C identifier that was not given before."""
        base = c_name(hint)
        if base in RESERVED:
            base = f"{base}_"
        count = self._names.get(base, 0)
        self._names[base] = count + 1
        return f"{base}_{count}" if count else base

    def new(self, value: Value, order: Order, columns: np.ndarray | None = None) -> Tensor:
        """Memory of its own for the result of a step."""
        shape = known_shape(value)
        size = math.prod(shape) * element_bytes(value.dtype)
        return Tensor(Storage(value.name or "value", max(1, size)), value.dtype, shape, order, value.quant, columns)

    def view(self, value: Value, of: Tensor, order: Order, columns: np.ndarray | None = None) -> Tensor:
        """The bytes of another tensor under a value's shape."""
        return Tensor(of.storage, value.dtype, known_shape(value), order, value.quant, columns)

    def bind(self, value: Value, tensor: Tensor) -> None:
        """Say where a value of the graph lies."""
        self.tensors[value] = tensor
        if tensor.columns is None and self.steps and tensor.storage is self.steps[-1].writes.storage:
            self.taps.append((len(self.steps) - 1, value, tensor))

    def tensor(self, value: Value) -> Tensor:
        """Where an operand lies; constants go to flash in plain order."""
        if (known := self.constant_of(value)) is not None:
            return self._constant(known, plain(len(value.shape)))
        if value not in self.tensors:
            raise NoKernel("it reads accumulators; only a requantize can")
        return self.tensors[value]

    def ordered(self, value: Value, order: Order, node: Node) -> Tensor:
        """An operand in a given order of axes, moved if need be."""
        if (known := self.constant_of(value)) is not None:
            return self._constant(known, order)
        tensor = self.tensor(value)
        if tensor.lies_as(order):
            return Tensor(tensor.storage, tensor.dtype, tensor.shape, order, tensor.quant)
        return self.reorder(tensor, order, node)

    def reorder(self, tensor: Tensor, order: Order, node: Node) -> Tensor:
        """A copy of a tensor with its axes in another order; made once."""
        assert tensor.columns is None, "a reshape was left undone for a reader that needs it"
        if (tensor, order) not in self._converted:
            value = Value(tensor.dtype, tensor.shape, tensor.quant, f"{tensor.storage.name}_reordered")
            result = self.new(value, order)
            shape = [tensor.shape[a] for a in tensor.order]
            axes = [tensor.order.index(a) for a in order]
            self.transpose(node, tensor, result, shape, axes)
            self._converted[tensor, order] = result
        return self._converted[tensor, order]

    def transpose(self, node: Node, x: Tensor, y: Tensor, shape: list[int], axes: list[int]) -> None:
        """Append a transpose of the bytes of `x`, seen as row-major `shape`, to `y`."""
        shape, axes = merged_axes(shape, axes)
        while len(shape) > 4:  # the kernel has four loops: bring two axes together that are neighbours in the result
            first, second = axes[-2:]
            turned = [a for a in range(len(shape)) if a != first]
            turned.insert(turned.index(second), first)
            between = self.new(Value(x.dtype, x.shape, x.quant, f"{x.storage.name}_turned"), x.order)
            self.transpose(node, x, between, shape, turned)
            x = between
            shape, axes = merged_axes([shape[a] for a in turned], [turned.index(a) for a in axes])
        missing = 4 - len(shape)
        params = Struct(
            self.fresh("transpose"), "qc_transpose_params",
            {
                "shape": tuple([1] * missing + shape),
                "axes": tuple([*range(missing), *(a + missing for a in axes)]),
                "bytes": x.item,
            },
        )  # fmt: skip
        self.steps.append(Step("qc_transpose", (At(x), At(y), params), (x,), y, (node,), note="order of axes"))

    def data(self, name: str, array: np.ndarray, c_type: str, alignment: int = 0) -> Data:
        """A constant array for flash."""
        return Data(self.fresh(f"qc_{c_name(name)}"), np.ascontiguousarray(array), c_type, alignment)

    def words(self, value: Value) -> Tensor:
        """A constant table for flash that is printed as 64-bit words: millions of elements compile in seconds."""
        return self._constant(value, plain(len(value.shape)), 8)

    def _constant(self, value: Value, order: Order, alignment: int = 0) -> Tensor:
        key = (value, order, alignment)
        if key not in self._constants:
            assert value.data is not None
            kind = _numpy(value.dtype) if value.dtype in C_TYPES else None
            if kind is None or not np.array_equal(value.data, value.data.astype(kind)):
                raise NoKernel(f"constant operand of type {value.dtype.name}")
            elements = value.data.transpose(order).astype(kind)
            array = self.data(value.name or "constant", elements, C_TYPES[value.dtype], alignment)
            storage = Storage(array.name, array.size, "flash", data=array)
            self._constants[key] = Tensor(storage, value.dtype, known_shape(value), order, value.quant)
        return self._constants[key]

    # -- borders

    def _input(self, index: int, value: Value) -> Tensor:
        shape = known_shape(value)
        if value.dtype not in C_TYPES:
            raise UnsupportedError(
                f"input {value.name!r} is {value.dtype.name}; inputs on microcontrollers are {', '.join(t.name for t in C_TYPES)}"
            )
        spatial = any(node.op in WINDOWS for node in self._readers(value))
        order = channels_last(len(shape)) if spatial else plain(len(shape))
        size = math.prod(shape) * element_bytes(value.dtype)
        tensor = Tensor(Storage(value.name, size, "input", index), value.dtype, shape, order, value.quant)
        self.tensors[value] = tensor
        return tensor

    def _readers(self, value: Value) -> Iterator[Node]:
        """The nodes that read a value, for a table of it those that read the result."""
        for node, _ in self.graph.uses(value):
            yield from self._readers(node.output) if node.op == "lookup" else (node,)

    def _outputs(self) -> tuple[Tensor, ...]:
        """Results in the caller's memory: the step that computes one writes there, or a copy is appended."""
        result: list[Tensor] = []
        taken: set[Storage] = set()
        for index, value in enumerate(self.graph.outputs):
            tensor = self.tensor(value)
            storage = tensor.storage
            place = Storage(self.graph.output_names[index], tensor.count * tensor.item, "output", index)
            if storage.place == "arena" and storage not in taken and storage.size == place.size:
                taken.add(place)
                self._move(storage, place)
                result.append(moved(tensor, storage, place))
                continue
            target = Tensor(place, tensor.dtype, tensor.shape, tensor.order, tensor.quant)
            node = self.graph.producer(value) or self.graph.nodes[-1]
            self.copy(node, tensor, target, 1, place.size, 0, 0)
            result.append(target)
        return tuple(result)

    def copy(
        self, node: Node, x: Tensor, y: Tensor, rows: int, size: int, x_stride: int, y_stride: int,
        x_first: int = 0, y_first: int = 0, repeat: tuple[int, int, int] = (1, 0, 0),
    ) -> None:  # fmt: skip
        """Append `rows` copies of `size` bytes; all numbers in bytes, `repeat` = (times, x step, y step)."""
        times, x_step, y_step = repeat
        arguments = (At(x, x_step, x_first), At(y, y_step, y_first), rows, size, x_stride, y_stride)
        self.steps.append(Step("qc_copy", arguments, (x,), y, (node,), repeat=times))

    def _move(self, old: Storage, new: Storage) -> None:
        """Let everything that lies in `old` lie in `new`."""
        self.steps = [moved_step(step, old, new) for step in self.steps]
        self.taps = [(i, value, moved(t, old, new)) for i, value, t in self.taps]
        self.tensors = {value: moved(t, old, new) for value, t in self.tensors.items()}


def moved(tensor: Tensor, old: Storage, new: Storage) -> Tensor:
    """The tensor in another storage, if it lies in `old`."""
    if tensor.storage is not old:
        return tensor
    return Tensor(new, tensor.dtype, tensor.shape, tensor.order, tensor.quant, tensor.columns)


def moved_step(step: Step, old: Storage, new: Storage) -> Step:
    """The step with all its tensors moved."""
    if not any(t.storage is old for t in (*step.reads, step.writes)):
        return step
    there = {t: moved(t, old, new) for t in (*step.reads, step.writes)}
    arguments = tuple(At(there[a.tensor], a.stride, a.first) if isinstance(a, At) else a for a in step.arguments)
    reads = tuple(there[t] for t in step.reads)
    return replace(step, arguments=arguments, reads=reads, writes=there[step.writes])


def known_shape(value: Value) -> tuple[int, ...]:
    """The shape in integers.

    Raises:
        ConstraintError: a symbolic dimension.
    """
    if not all(isinstance(d, int) for d in value.shape):
        raise ConstraintError(
            f"value {value.name!r} has shape {list(map(str, value.shape))}; memory on a microcontroller is planned at compile"
            " time and needs fixed sizes: compile without dynamic_shapes, for the batch and lengths you will run (an"
            " ONNX file: --shape NAME=1x3x224x224, or shapes={...})"
        )
    return tuple(int(d) for d in value.shape)


def program_profile(graph: Graph) -> str:
    """The rounding profile of a program; one of powers of two has dyadic factors where the model has other numbers.

    Raises:
        UnsupportedError: one that the kernels do not compute.
    """
    known = ("dyadic", "shift_half_even")
    found = sorted({str(n.attrs["rounding"]) for n in graph.nodes if n.op in ("requantize", "requantize_sum")})
    if not set(found) <= set(known):
        raise UnsupportedError(f"a program for microcontrollers rounds by one of {', '.join(known)}; this one uses {', '.join(found)}")
    return found[-1] if found else known[0]


def _numpy(dtype: DType) -> np.dtype:
    """An element in C."""
    return np.dtype(C_TYPES[dtype].removesuffix("_t"))


def is_accumulator(graph: Graph, value: Value) -> bool:
    """True if a value is the int32 result of a product, which is computed where it is rescaled."""
    node = graph.producer(value)
    return node is not None and node.op in PRODUCTS and value.dtype is DType.int32


def merged_axes(shape: list[int], axes: list[int]) -> tuple[list[int], list[int]]:
    """A permutation with axes of size 1 left out and axes that stay together merged."""
    axes = [a for a in axes if shape[a] != 1]
    groups: list[list[int]] = []
    kept = sorted(axes)
    for axis in axes:
        if groups and kept.index(axis) == kept.index(groups[-1][-1]) + 1:
            groups[-1].append(axis)
        else:
            groups.append([axis])
    by_place = sorted(groups)
    return [math.prod(shape[a] for a in g) for g in by_place], [by_place.index(g) for g in groups]


def c_name(hint: str) -> str:
    """A C identifier that resembles a name."""
    text = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in hint).strip("_").lower()
    return text if text and not text[0].isdigit() else f"v{text}"


__all__ = ["IN_PLACE", "PRODUCTS", "WINDOWS", "Legalizer", "NoKernel", "Rule", "c_name", "known_shape", "strides"]
