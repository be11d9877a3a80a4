"""From a graph of level INTEGER or QUANTIZED to launches of kernels.

    movement  transposes, slices, broadcasts and most reshapes are views with other strides and cost nothing
    fusion    a product is computed where it is rescaled; accumulators never reach memory; a table or a residual sum that
              alone reads its codes is computed in the same launch
    constants what depends on constants only is computed here, once
    layout    convolutions and pools give channels-last results; what follows keeps the order of its operand

Ops without a kernel are collected and refused together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qcompiler.errors import ConstraintError, GraphError, UnsupportedError
from qcompiler.executors.constants import Constants
from qcompiler.ir import DType, Graph, Level, Node, Value
from qcompiler.ir.fixed_point import sum_constant
from qcompiler.kernels.gpu import pointwise
from qcompiler.kernels.gpu.launch import Buffer, Launch, View, constant, in_order, memory_order
from qcompiler.kernels.gpu.pointwise import KINDS
from qcompiler.kernels.gpu.rescale import ACCUMULATORS, Rescale, make_rescale, no_rescale, to_real

PRODUCTS = frozenset({"conv", "linear", "matmul", "integer_mul", "reduce_mean", "reduce_sum", "shift_sigmoid"})


class NoKernel(GraphError):
    """An op, or a form of it, that no kernel computes; the message says why."""


@dataclass(frozen=True)
class Step:
    """One launch for one or more nodes.

    Attributes:
        launch: kernel, grid, parameters.
        nodes: of the graph; the last one computes what is written.
        result: the value that is left in memory, None for a copy in between.
        view: where the result lies.
    """

    launch: Launch
    nodes: tuple[Node, ...]
    result: Value | None
    view: View


@dataclass(frozen=True)
class Program:
    """A whole model.

    Attributes:
        inputs, outputs: in graph order.
        steps: in order.
        arch: compute capability (80 is sm_80) that tiles were chosen for.
        indices: names of the inputs that index tables, with the number of rows.
        graph: that the steps compute; composite ops are taken apart.
    """

    inputs: tuple[View, ...]
    outputs: tuple[View, ...]
    steps: tuple[Step, ...]
    arch: int
    indices: Mapping[str, int]
    graph: Graph


Rule = Callable[["Lowering", Node], None]


class Lowering:
    """The walk over a graph that the rules share."""

    def __init__(self, graph: Graph, rules: Mapping[str, Rule], arch: int) -> None:
        self.graph, self.arch = graph, arch
        self.steps: list[Step] = []
        self.indices: dict[str, int] = {}
        self.constants = Constants(graph)
        self.fused: set[Node] = set()
        """Nodes that were computed with what they read."""
        self._rules = rules
        self._views: dict[Value, View] = {}
        self._names: dict[str, int] = {}

    def program(self) -> Program:
        """Walk all nodes.

        Raises:
            UnsupportedError: a graph of another level, or ops without a kernel, all of them.
            ConstraintError: symbolic dimensions.
        """
        if self.graph.level not in (Level.INTEGER, Level.QUANTIZED):
            raise UnsupportedError(f"CUDA targets compile quantized and integer programs, this one has level {self.graph.level.value}")
        for value in self.graph.inputs:
            self.bind(value, self.new(value))
        problems = []
        for node in self.graph.nodes:
            if node in self.fused or not all(self._known(v) for v in node.operands):
                continue  # it is computed already, or what it reads was refused
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
                f"{len(problems)} ops have no CUDA kernel:\n" + "\n".join(problems) + "\nChange these layers, or compile for another target."
            )
        inputs = tuple(self._views[v] for v in self.graph.inputs)
        return Program(inputs, self._outputs(inputs), tuple(self.steps), self.arch, self.indices, self.graph)

    def _fold(self, node: Node) -> bool:
        """A node whose result depends on constants only becomes one."""
        data = self.constants.of(node.output) if len(node.outputs) == 1 and node.output.dtype.name in KINDS else None
        if data is not None:
            self.bind(node.output, constant(self.fresh(node.output.name or "constant"), data))
        return data is not None

    def _known(self, value: Value) -> bool:
        if value.is_const or value in self._views:
            return True
        product = self.graph.producer(value)
        return product is not None and is_accumulator(self.graph, value) and all(self._known(v) for v in product.operands)

    def _outputs(self, inputs: Sequence[View]) -> tuple[View, ...]:
        """Where results lie; each in memory of its own that a step has written."""
        outputs: list[View] = []
        for value in self.graph.outputs:
            view = self.view(value)
            taken = any(view.buffer is other.buffer for other in (*inputs, *outputs))
            if taken or view.buffer.data is not None or not view.dense:
                node = self.graph.producer(value)
                view = self.copy(view, value, (node,) if node is not None else ())
            outputs.append(view)
        return tuple(outputs)

    # -- views

    def fresh(self, hint: str) -> str:
        """A name that was not given before."""
        count = self._names.get(hint, 0)
        self._names[hint] = count + 1
        return f"{hint}.{count}" if count else hint

    def new(self, value: Value, order: Sequence[int] | None = None) -> View:
        """Memory of its own for a value, its axes in `order`."""
        if value.dtype.name not in KINDS:
            raise NoKernel(f"values of type {value.dtype.name} have no kernel; types are {', '.join(KINDS)}")
        shape = known_shape(value)
        if len(shape) > 6:
            raise NoKernel(f"rank {len(shape)}; kernels take up to 6 axes")
        dtype = np.dtype(value.dtype.numpy)
        return in_order(Buffer(self.fresh(value.name or "value"), math.prod(shape) * dtype.itemsize), dtype, shape, order)

    def bind(self, value: Value, view: View) -> None:
        """Say where a value lies."""
        self._views[value] = view

    def view(self, value: Value) -> View:
        """Where an operand lies."""
        if value.is_const and value not in self._views:
            assert value.data is not None
            if value.dtype.name not in KINDS:
                raise NoKernel(f"a constant operand of type {value.dtype.name}")
            self._views[value] = constant(self.fresh(value.name or "constant"), value.data)
        if value not in self._views:
            raise NoKernel("it reads accumulators; only a requantize can")
        return self._views[value]

    def placed(self, value: Value) -> View | None:
        """Where a value lies, None if it is not computed yet."""
        return self._views.get(value)

    def add(self, launch: Launch, nodes: Sequence[Node], value: Value | None, view: View) -> None:
        """Append a launch that computes a value; nothing is launched for an empty result."""
        if view.count:
            self.steps.append(Step(launch, tuple(nodes), value, view))
        if value is not None:
            self.bind(value, view)

    def copy(self, view: View, of: Value, nodes: Sequence[Node], order: Sequence[int] | None = None) -> View:
        """A copy of a view with its axes in another order of memory."""
        shape = view.shape
        made = in_order(Buffer(self.fresh(f"{of.name or 'value'}.copy"), view.count * view.dtype.itemsize), view.dtype, shape, order)
        self.add(pointwise.copy(view, made), nodes, None, made)
        return made

    def like(self, value: Value, operand: View) -> View:
        """Memory for a result of the operand's shape in the operand's order, row-major for any other."""
        fits = operand.shape == known_shape(value) and operand.dense
        return self.new(value, memory_order(operand) if fits else None)


def known_shape(value: Value) -> tuple[int, ...]:
    """The shape in integers.

    Raises:
        ConstraintError: a symbolic dimension.
    """
    if not all(isinstance(d, int) for d in value.shape):
        raise ConstraintError(
            f"value {value.name!r} has shape {list(map(str, value.shape))}; memory and grids of CUDA targets are planned at compile"
            " time and need fixed sizes"
        )
    return tuple(int(d) for d in value.shape)


def is_accumulator(graph: Graph, value: Value) -> bool:
    """True if a value is the int32 result of a product, which is computed where it is rescaled."""
    node = graph.producer(value)
    return node is not None and node.op in PRODUCTS and value.dtype is DType.int32


def first(node: Node) -> Value:
    """The first operand."""
    return node.operands[0]


def zero_point(value: Value) -> int:
    """Of codes with one zero point."""
    return 0 if value.quant is None else int(value.quant.zero_point)


def limits(node: Node) -> tuple[int, int, int]:
    """Zero point, smallest and largest code of a result."""
    quant = node.attrs["quant"]
    low, high = node.attrs.get("qmin"), node.attrs.get("qmax")
    return int(quant.zero_point), quant.dtype.min if low is None else low, quant.dtype.max if high is None else high


def multipliers(node: Node) -> list[int]:
    """Of the operands of a requantize_sum; the bits of float32 where it rounds in real numbers."""
    if node.attrs["rounding"] == "float32_half_even":
        return [int(v) for v in np.asarray(node.attrs["real_multipliers"], np.float32).view(np.int32)]
    return list(node.attrs["multipliers"])


def sum_base(node: Node) -> int:
    """What the zero points add to a requantize_sum that rounds in real numbers: bits of float32; 0 for others."""
    if node.attrs["rounding"] != "float32_half_even":
        return 0
    base = sum_constant(node.attrs["real_multipliers"], [zero_point(v) for v in node.operands], int(node.attrs["quant"].zero_point))
    return int(base.view(np.int32))


def rescale_of(node: Node, name: str) -> Rescale:
    """What a requantize or dequantize node does to accumulators.

    Raises:
        NoKernel: its multipliers are computed.
    """
    if node.op in PRODUCTS:
        return ACCUMULATORS
    if node.op == "dequantize":
        source = first(node).quant
        assert source is not None
        return to_real(source.scale, name)
    m, s = node.inputs[1], node.inputs[2]
    if any(v is not None and v.data is None for v in (m, s)):
        raise NoKernel("its multipliers are computed")
    return make_rescale(node.attrs["rounding"], None if m is None else m.data, None if s is None else s.data, *limits(node), name)


def only_limits(node: Node) -> Rescale:
    """For functions that round by themselves."""
    return no_rescale(*limits(node))
