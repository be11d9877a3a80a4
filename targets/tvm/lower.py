"""A graph as a Relax program of one PrimFunc per kernel, in order of execution.

The library decides how a kernel is described and scheduled; everything else (which ops are one kernel, what they
compute, where values lie) is the same for CPUs and GPUs. Weights and other constants are parameters of `main` behind
the inputs, so that a library file holds code only and equal layers share it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from tvm import relax, te, tirx
from tvm.relax import BlockBuilder, TensorType

from qcompiler.ir import Graph, Node, Value
from qcompiler.ir.dims import evaluate, symbols_of
from qcompiler.kernels.common.grouped import GroupedProduct
from qcompiler.kernels.common.product import Product
from qcompiler.kernels.common.scheduled import Scheduled
from qcompiler.targets.tvm.grouped import GROUPED
from qcompiler.targets.tvm.groups import Group
from qcompiler.targets.tvm.kernel import KernelBuilder, operand, storage
from qcompiler.targets.tvm.movement import COPIES
from qcompiler.targets.tvm.plan import (
    ALL_STAGES,
    COPY,
    DEPTHWISE,
    GROUPS,
    POINTWISE,
    PRODUCT,
    STAGE,
    Plan,
    Planned,
    plan_kernels,
)
from qcompiler.targets.tvm.pointwise import pointwise_view
from qcompiler.targets.tvm.products import PRODUCTS
from qcompiler.targets.tvm.symbols import Symbols
from qcompiler.targets.tvm.views import PLAIN, Layout, Point, View
from qcompiler.targets.tvm.windows import depthwise, in_pairs

INPUTS = "num_input"
"""Attribute of `main`: how many of its parameters are inputs of the graph; constants follow."""
KERNEL_PREFIX = "k_"
"""What the names of kernels begin with; the virtual machine calls other functions too."""
OPAQUE = 8
"""Pattern of a kernel that Relax may not fuse with others."""


class Library(Protocol):
    """Kernels of a machine.

    Attributes:
        pair_lanes: `pair_sum`s that are one instruction there; 0 for none.
        permutes: whether instructions of AVX-512 read short tables out of registers.
    """

    pair_lanes: int
    permutes: bool

    def product(
        self, product: Product, constant: Callable[[np.ndarray], Any], finished: Callable[[Any], Any], where: str
    ) -> Scheduled:
        """A matrix product or convolution; `finished(out)` makes the PrimFunc of its output tensor."""
        ...

    def grouped(
        self, product: GroupedProduct, constant: Callable[[np.ndarray], Any], finished: Callable[[Any], Any], where: str
    ) -> Scheduled:
        """A product of real rows with weights that are codes in groups."""
        ...

    def stages(self, function: Any, kind: str, layout: Layout, where: str) -> Scheduled:
        """Schedule a reduction, pool, softmax, norm, copy or elementwise kernel (`kind`), whose last stage is `out`."""
        ...


@dataclass(frozen=True)
class KernelInfo:
    """One kernel of a lowered program.

    Attributes:
        name: of the PrimFunc; equal kernels share one.
        kernel: family and instruction.
        nodes: of the graph, anchor first.
        macs: multiplications for symbols at `EXAMPLE_SIZE`.
        note: tile.
        slow: why it is slower than the first choice.
        arguments: values read and constants, in the order of its parameters.
        output: what it writes.
    """

    name: str
    kernel: str
    nodes: tuple[Node, ...]
    macs: int
    note: str
    slow: str
    arguments: tuple[Any, ...]
    output: Value


@dataclass
class Lowered:
    """A lowered program.

    Attributes:
        module: Relax function `main` and one PrimFunc per distinct kernel.
        constants: further arguments of `main`, behind the graph's inputs and in order.
        kernels: in order of execution.
        layouts: of every value that lies in memory.
    """

    module: Any
    constants: list[np.ndarray]
    kernels: list[KernelInfo]
    layouts: dict[Value, Layout]


EXAMPLE_SIZE = 128


@dataclass
class _Lowering:
    graph: Graph
    library: Library
    symbols: Symbols
    layouts: dict[Value, Layout] = field(default_factory=dict)
    variables: dict[Value, Any] = field(default_factory=dict)
    results: dict[Value, Any] = field(default_factory=dict)
    constants: dict[tuple[str, tuple[int, ...], bytes], tuple[Any, np.ndarray]] = field(default_factory=dict)
    kernels: list[KernelInfo] = field(default_factory=list)


def lower(graph: Graph, library: Library) -> Lowered:
    """Lower a graph.

    Raises:
        UnsupportedError: ops without a kernel, all of them with their module paths.
    """
    planned = plan_kernels(graph)
    state = _Lowering(planned.graph, library, Symbols(planned.graph.symbols()), dict(planned.layouts))
    plans = [_describe(state, kernel) for kernel in planned.kernels]
    return _assemble(state, plans + _copies_of_outputs(state))


@dataclass(frozen=True)
class SingleKernel:
    """One kernel by itself, for measurements.

    Attributes:
        scheduled: function and names.
        arguments: (shape, element type) of every parameter, the output last.
    """

    scheduled: Scheduled
    arguments: tuple[tuple[tuple[int, ...], str], ...]


def single_kernel(plan: Plan, planned: Planned, library: Library) -> SingleKernel:
    """Describe and schedule one kernel of a plan without symbolic dimensions."""
    state = _Lowering(plan.graph, library, Symbols(()), dict(plan.layouts))
    made = _describe(state, planned)
    arguments = []
    for argument in made.arguments:
        if isinstance(argument, np.ndarray):
            arguments.append((argument.shape, str(argument.dtype)))
        else:
            arguments.append((plan.layouts[argument].physical_shape(state.symbols), storage(argument)))
    return SingleKernel(made.scheduled, (*arguments, (made.out_shape, storage(made.output))))


@dataclass
class _Plan:
    """A described kernel before it gets its call."""

    scheduled: Scheduled
    arguments: list[Any]
    out_shape: tuple[Any, ...]
    output: Value
    nodes: tuple[Node, ...]
    macs: int
    layout: Layout
    scalars: list[tuple[Any, Any]] = field(default_factory=list)
    result: bool = False


def _describe(state: _Lowering, planned: Planned) -> _Plan:
    builder = KernelBuilder(state.graph, state.symbols, _before(state, planned), state.library.permutes)
    group, anchor = planned.group, planned.group.anchor
    for node in group.nodes[1:]:
        builder.views[node.output] = pointwise_view(builder, node, POINTWISE[node.op])
    if planned.kind == PRODUCT:
        return _product(state, builder, planned)
    if planned.kind == GROUPS:
        return _grouped(state, builder, planned)
    if planned.kind == DEPTHWISE:
        view = depthwise(builder, anchor, state.library.pair_lanes)
    elif planned.kind == STAGE:
        made = ALL_STAGES[anchor.op](builder, anchor)
        view = made[anchor.outputs.index(group.output)] if isinstance(made, tuple) else made
    elif planned.kind == COPY:
        view = COPIES[anchor.op](builder, anchor)
    else:
        view = pointwise_view(builder, anchor, POINTWISE[anchor.op])
    # an op of several results is a kernel for each of them
    builder.views[group.output if len(anchor.outputs) > 1 else anchor.output] = view
    by_axes = planned.kind == DEPTHWISE and in_pairs(anchor, state.library.pair_lanes)
    return _stage_plan(state, builder, group, planned.kind, planned.layout, anchor.where(), by_axes)


def _before(state: _Lowering, planned: Planned) -> dict[Value, Layout]:
    """Layouts of everything but what the kernel itself computes."""
    own = {value for node in planned.group.nodes for value in node.outputs}
    return {value: layout for value, layout in state.layouts.items() if value not in own}


def _stage_plan(
    state: _Lowering, builder: KernelBuilder, group: Group, kind: str, layout: Layout, where: str, by_axes: bool = False
) -> _Plan:
    """`by_axes`: the kernel runs over [N, spatial..., C], not over rows of channels; the memory is the same."""
    value = group.output
    view, element = builder.view(value), storage(value)
    if by_axes:
        n, c, *spatial = state.symbols.shape(value.shape)
        shape = (n, *spatial, c)
    else:
        shape = layout.physical_shape(state.symbols) or (1,)

    def at(*place: Any) -> Any:
        if not value.shape:
            return view.at(Point((), ())).astype(element)
        index = (place[0], place[-1], *place[1:-1]) if by_axes else layout.logical(place, state.symbols)
        place = layout.physical(index, state.symbols) if by_axes else place
        return view.at(Point(value.shape, index, layout, place)).astype(element)

    out = te.compute(shape, at, name="out")
    scheduled = state.library.stages(_function(state, builder, out), kind, layout, where)
    return _Plan(scheduled, [a for _, a in builder.arguments], shape, value, tuple(group.nodes), 0, layout, builder.scalars)


def _product(state: _Lowering, builder: KernelBuilder, planned: Planned) -> _Plan:
    group = planned.group
    anchor, value = group.anchor, group.output
    element = storage(value)

    def finish(acc: Any, point: Point) -> Any:
        builder.views[anchor.output] = View(anchor.output.shape, lambda _: acc)
        return builder.view(value).at(point).astype(element)

    made = PRODUCTS[anchor.op](builder, anchor, finish, element)
    shape = (made.rows, made.batch, made.columns) if made.channels_last_groups else (made.batch, made.rows, made.columns)
    scheduled = state.library.product(made, builder.constant, lambda out: _function(state, builder, out), anchor.where())
    arguments = [a for _, a in builder.arguments]
    meant = dict(builder.scalars)
    shape = tuple(meant.get(d, d) if isinstance(d, tirx.Var) else d for d in shape)
    nodes = tuple(group.nodes)
    return _Plan(scheduled, arguments, shape, value, nodes, macs_of(anchor), planned.layout, builder.scalars)


def _grouped(state: _Lowering, builder: KernelBuilder, planned: Planned) -> _Plan:
    group = planned.group
    anchor, value = group.anchor, group.output
    element = storage(value)

    def finish(acc: Any, point: Point) -> Any:
        builder.views[anchor.output] = View(anchor.output.shape, lambda _: acc)
        return builder.view(value).at(point).astype(element)

    made = GROUPED[anchor.op](builder, anchor, finish)
    scheduled = state.library.grouped(made, builder.constant, lambda out: _function(state, builder, out), anchor.where())
    shape = tuple(dict(builder.scalars).get(d, d) if isinstance(d, tirx.Var) else d for d in (made.rows, made.columns))
    arguments = [a for _, a in builder.arguments]
    return _Plan(scheduled, arguments, shape, value, tuple(group.nodes), macs_of(anchor), planned.layout, builder.scalars)


def _function(state: _Lowering, builder: KernelBuilder, out: Any) -> Any:
    tensors = [tensor for tensor, _ in builder.arguments]
    variables = [*state.symbols.variables.values(), *(variable for variable, _ in builder.scalars)]
    return te.create_prim_func([*tensors, *variables, out], index_dtype_override="int64" if variables else None)


def macs_of(node: Node) -> int:
    """Multiplications of a product, symbols counted as `EXAMPLE_SIZE`."""
    shape = node.output.shape
    known = {name: EXAMPLE_SIZE for name in symbols_of((*shape, *operand(node, 0).shape))}
    out = int(np.prod([evaluate(d, known) for d in shape], dtype=np.int64))
    if node.op == "conv":
        return out * int(np.prod(operand(node, 1).shape[1:]))
    return out * evaluate(operand(node, 0).shape[-1], known)


def _copies_of_outputs(state: _Lowering) -> list[_Plan]:
    """Kernels that write the outputs that lie in no buffer, or in one whose memory is in another order."""
    plans = []
    for value in dict.fromkeys(state.graph.outputs):
        layout = state.layouts.get(value)
        if value in state.graph.inputs or (layout is not None and layout.same_memory()):
            continue
        builder = KernelBuilder(state.graph, state.symbols, state.layouts, state.library.permutes)
        node = state.graph.producer(value)
        nodes = [] if node is None else [node]
        where = node.where() if node is not None else f"constant output {value.name!r}"
        plan = _stage_plan(state, builder, Group(nodes, [value]), "copy", Layout(PLAIN, value.shape), where)
        plan.result = True
        plans.append(plan)
    return plans


def _assemble(state: _Lowering, plans: list[_Plan]) -> Lowered:
    block = BlockBuilder()
    inputs = []
    for index, value in enumerate(state.graph.inputs):
        shape = _relax_shape(state.symbols.shape(value.shape))
        state.variables[value] = relax.Var(f"x{index}", TensorType(shape, storage(value)))
        inputs.append(state.variables[value])
    for plan in plans:
        for argument in plan.arguments:
            if isinstance(argument, np.ndarray):
                _constant_variable(state, argument)
    held = list(state.constants.values())
    with block.function("main", [*inputs, *(variable for variable, _ in held)], {INPUTS: len(inputs)}):
        with block.dataflow():
            for plan in plans:
                _call(state, block, plan)
            out = block.emit_output(relax.Tuple([_result(state, block, value) for value in state.graph.outputs]))
        block.emit_func_output(out)
    return Lowered(block.get(), [array for _, array in held], state.kernels, state.layouts)


def _call(state: _Lowering, block: Any, plan: _Plan) -> None:
    function = plan.scheduled.function
    kind = plan.nodes[0].op if plan.nodes else "copy"
    variable = block.add_func(function.without_attr("global_symbol").with_attr("op_pattern", OPAQUE), KERNEL_PREFIX + kind)
    arguments = []
    for argument in plan.arguments:
        if isinstance(argument, np.ndarray):
            arguments.append(state.constants[_key(argument)][0])
        else:
            arguments.append(state.variables[argument])
    shape = _relax_shape(plan.out_shape)
    arguments += [*state.symbols.variables.values(), *(relax.prim_value(meant) for _, meant in plan.scalars)]
    call = relax.call_tir(variable, arguments, TensorType(shape, storage(plan.output)))
    result = block.emit(call)
    final = plan.layout.physical_shape(state.symbols)
    if len(final) != len(plan.out_shape):
        result = block.emit(relax.op.reshape(result, relax.ShapeExpr(_relax_shape(final))))
    (state.results if plan.result else state.variables)[plan.output] = result
    info = KernelInfo(
        variable.name_hint, plan.scheduled.kernel, plan.nodes, plan.macs, plan.scheduled.note, plan.scheduled.slow,
        tuple(plan.arguments), plan.output,
    )  # fmt: skip
    state.kernels.append(info)


def _result(state: _Lowering, block: Any, value: Value) -> Any:
    """An output in the graph's own shape."""
    if value in state.results:
        variable = state.results[value]
    else:
        variable = state.variables[value]
        if state.layouts[value].kind == PLAIN:
            return variable
    return block.emit(relax.op.reshape(variable, relax.ShapeExpr(_relax_shape(state.symbols.shape(value.shape)))))


def _key(array: np.ndarray) -> tuple[str, tuple[int, ...], bytes]:
    return str(array.dtype), array.shape, hashlib.sha256(array.tobytes()).digest()


def _constant_variable(state: _Lowering, array: np.ndarray) -> None:
    key = _key(array)
    if key not in state.constants:
        variable = relax.Var(f"c{len(state.constants)}", TensorType(array.shape, str(array.dtype)))
        state.constants[key] = (variable, array)


def _relax_shape(shape: tuple[Any, ...]) -> list[Any]:
    return [tirx.const(d, "int64") if isinstance(d, int) else d for d in shape]
