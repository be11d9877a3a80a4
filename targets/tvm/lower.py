"""A graph as a Relax program of one PrimFunc per kernel, in order of execution.

The library decides how a kernel is described and scheduled; everything else (which ops are one kernel, what they
compute, where values lie) is the same for CPUs and GPUs. Weights and other constants are parameters of `main` behind
the inputs, so that a library file holds code only and equal layers share it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from tvm import relax, te, tirx
from tvm.relax import BlockBuilder, TensorType

from qcompiler.errors import UnsupportedError
from qcompiler.ir import Graph, Node, Value
from qcompiler.ir.dims import same_shape
from qcompiler.kernels.common.product import Product
from qcompiler.targets.tvm.groups import Group, group_nodes
from qcompiler.targets.tvm.kernel import KernelBuilder, operand, storage
from qcompiler.targets.tvm.movement import COPIES, VIEWS
from qcompiler.targets.tvm.pointwise import QUANTIZED, pointwise_view
from qcompiler.targets.tvm.products import PRODUCTS, is_depthwise
from qcompiler.targets.tvm.stages import STAGES, depthwise
from qcompiler.targets.tvm.symbols import Symbols
from qcompiler.targets.tvm.views import CHANNELS_LAST, PLAIN, ROWS, Layout, Point, View

OPAQUE = 8
"""Pattern of a kernel that Relax may not fuse with others."""


@dataclass(frozen=True)
class Scheduled:
    """A kernel as a library made it.

    Attributes:
        function: the scheduled PrimFunc.
        kernel: its name for tables.
        note: tile and instruction.
        slow: why it is slower than the first choice, "" if it is not.
    """

    function: Any
    kernel: str
    note: str = ""
    slow: str = ""


class Library(Protocol):
    """Kernels of a machine."""

    def product(
        self, product: Product, constant: Callable[[np.ndarray], Any], finished: Callable[[Any], Any], where: str
    ) -> Scheduled:
        """A matrix product or convolution; `finished(out)` makes the PrimFunc of its output tensor."""
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
    from qcompiler.targets.tvm.real import ELEMENTWISE, REAL_STAGES

    pointwise = {**QUANTIZED, **ELEMENTWISE}
    stages = {**STAGES, **REAL_STAGES}
    known = {*VIEWS, *COPIES, *pointwise, *PRODUCTS, *stages}
    missing = [node.where() for node in graph.nodes if node.op not in known]
    if missing:
        raise UnsupportedError("no TVM kernel for: " + "; ".join(missing))
    graph = without_empty(graph)
    state = _Lowering(graph, library, Symbols(graph.symbols()))
    state.layouts.update({value: Layout(PLAIN, value.shape) for value in graph.inputs})
    groups = group_nodes(graph, VIEWS, pointwise)
    bodies = _Bodies(pointwise, stages)
    plans = []
    for group in groups:
        plan = _describe(state, bodies, group)
        state.layouts[plan.output] = plan.layout
        plans.append(plan)
    plans += _copies_of_outputs(state)
    return _assemble(state, plans)


@dataclass(frozen=True)
class _Bodies:
    pointwise: Mapping[str, Any]
    stages: Mapping[str, Any]


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


def _describe(state: _Lowering, bodies: _Bodies, group: Group) -> _Plan:
    builder = KernelBuilder(state.graph, state.symbols, state.layouts)
    anchor = group.anchor
    where = anchor.where()
    if anchor.op in PRODUCTS and not is_depthwise(anchor):
        return _product(state, bodies, builder, group, where)
    if anchor.op == "conv":
        builder.views[anchor.output] = depthwise(builder, anchor)
        kind, layout = "depthwise", Layout(CHANNELS_LAST, group.output.shape)
    elif anchor.op in bodies.stages:
        builder.views[anchor.output] = bodies.stages[anchor.op](builder, anchor)
        kind, layout = "rows", _stage_layout(anchor, group.output)
    elif anchor.op in COPIES:
        builder.views[anchor.output] = COPIES[anchor.op](builder, anchor)
        kind, layout = "copy", _operand_layout(state, group)
    else:
        builder.views[anchor.output] = pointwise_view(builder, anchor, bodies.pointwise[anchor.op])
        kind, layout = "elementwise", _operand_layout(state, group)
    for node in group.nodes[1:]:
        builder.views[node.output] = pointwise_view(builder, node, bodies.pointwise[node.op])
    return _stage_plan(state, builder, group, kind, layout, where)


def _stage_plan(state: _Lowering, builder: KernelBuilder, group: Group, kind: str, layout: Layout, where: str) -> _Plan:
    value = group.output
    view, element = builder.view(value), storage(value)
    shape = layout.physical_shape(state.symbols) or (1,)

    def at(*place: Any) -> Any:
        if not value.shape:
            return view.at(Point((), ())).astype(element)
        return view.at(Point(value.shape, layout.logical(place, state.symbols), layout, place)).astype(element)

    out = te.compute(shape, at, name="out")
    scheduled = state.library.stages(_function(state, builder, out), kind, layout, where)
    return _Plan(scheduled, [a for _, a in builder.arguments], shape, value, tuple(group.nodes), 0, layout)


def _product(state: _Lowering, bodies: _Bodies, builder: KernelBuilder, group: Group, where: str) -> _Plan:
    anchor, value = group.anchor, group.output
    element = storage(value)
    for node in group.nodes[1:]:
        builder.views[node.output] = pointwise_view(builder, node, bodies.pointwise[node.op])

    def finish(acc: Any, point: Point) -> Any:
        builder.views[anchor.output] = View(anchor.output.shape, lambda _: acc)
        return builder.view(value).at(point).astype(element)

    anchored = PRODUCTS[anchor.op](builder, anchor, finish, element)
    made = anchored.product
    shape = (made.rows, made.batch, made.columns) if made.channels_last_groups else (made.batch, made.rows, made.columns)
    scheduled = state.library.product(made, builder.constant, lambda out: _function(state, builder, out), where)
    arguments = [a for _, a in builder.arguments]
    meant = dict(builder.scalars)
    shape = tuple(meant.get(d, d) if isinstance(d, tirx.Var) else d for d in shape)
    nodes = tuple(group.nodes)
    return _Plan(scheduled, arguments, shape, value, nodes, macs_of(anchor), anchored.layout, builder.scalars)


def _function(state: _Lowering, builder: KernelBuilder, out: Any) -> Any:
    tensors = [tensor for tensor, _ in builder.arguments]
    variables = [*state.symbols.variables.values(), *(variable for variable, _ in builder.scalars)]
    return te.create_prim_func([*tensors, *variables, out], index_dtype_override="int64" if variables else None)


def without_empty(graph: Graph) -> Graph:
    """The graph with what computes on nothing, or nothing at all, as constants: kernels have at least one element."""
    from qcompiler.executors.reference import run_node
    from qcompiler.ir.builder import constant

    replaced: dict[Value, Value] = {}
    nodes = []
    for node in graph.nodes:
        inputs = tuple(None if v is None else replaced.get(v, v) for v in node.inputs)
        shapes = [v.shape for v in inputs if v is not None]
        known = all(isinstance(d, int) for v in node.outputs for d in v.shape) and all(isinstance(d, int) for s in shapes for d in s)
        given = [v for v in inputs if v is not None and v.data is None]
        if not known or not (
            all(0 in v.shape for v in node.outputs) or (given and all(0 in v.shape for v in given))
        ):
            nodes.append(node if inputs == node.inputs else Node(node.op, inputs, node.attrs, node.outputs, node.origin))
            continue
        arrays = [None if v is None else np.zeros(v.shape, v.dtype.numpy) if v.data is None else v.data for v in inputs]
        for value, array in zip(node.outputs, run_node(node, arrays, {}), strict=True):
            replaced[value] = constant(array, value.dtype, value.quant, value.name)
    if not replaced:
        return graph
    outputs = [replaced.get(v, v) for v in graph.outputs]
    return Graph(graph.name, graph.inputs, nodes, outputs, graph.output_names, graph.level)


def _stage_layout(node: Node, value: Value) -> Layout:
    if node.op in ("max_pool", "avg_pool"):
        return Layout(CHANNELS_LAST, value.shape)
    return Layout(ROWS if len(value.shape) >= 2 else PLAIN, value.shape)


def _operand_layout(state: _Lowering, group: Group) -> Layout:
    """That of the first operand in memory with the result's shape: the loops then read it as it lies."""
    shape = group.output.shape
    for node in group.nodes:
        for value in node.operands:
            layout = state.layouts.get(value)
            if layout is not None and same_shape(value.shape, shape):
                return Layout(layout.kind, shape)
    return Layout(ROWS if len(shape) >= 2 else PLAIN, shape)


def macs_of(node: Node) -> int:
    """Multiplications of a product, symbols counted as `EXAMPLE_SIZE`."""
    from qcompiler.ir.dims import evaluate, symbols_of

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
        builder = KernelBuilder(state.graph, state.symbols, dict(state.layouts))
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
    with block.function("main", [*inputs, *(variable for variable, _ in held)]):
        with block.dataflow():
            for plan in plans:
                _call(state, block, plan)
            out = block.emit_output(relax.Tuple([_result(state, block, value) for value in state.graph.outputs]))
        block.emit_func_output(out)
    return Lowered(block.get(), [array for _, array in held], state.kernels, state.layouts)


def _call(state: _Lowering, block: Any, plan: _Plan) -> None:
    function = plan.scheduled.function
    kind = plan.nodes[0].op if plan.nodes else "copy"
    variable = block.add_func(function.without_attr("global_symbol").with_attr("op_pattern", OPAQUE), f"k_{kind}")
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
