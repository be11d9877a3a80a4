"""The kernels of a graph and the layouts of what they write, before any is described."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qcompiler.errors import UnsupportedError
from qcompiler.executors.reference import run_node
from qcompiler.ir import Graph, Level, Node, Value
from qcompiler.ir.builder import constant
from qcompiler.ir.dims import same_shape
from qcompiler.passes.base import Context
from qcompiler.passes.canonicalize.fold_constants import FoldConstants, FoldConstantsConfig
from qcompiler.passes.canonicalize.merge_duplicates import MergeDuplicates
from qcompiler.targets.decompose import decompose
from qcompiler.targets.tvm.attention import attention, is_cached_attention, joined_in_place
from qcompiler.targets.tvm.grouped import GROUPED
from qcompiler.targets.tvm.groups import Group, group_nodes
from qcompiler.targets.tvm.indexing import INDEXING
from qcompiler.targets.tvm.movement import COPIES, VIEWS
from qcompiler.targets.tvm.pointwise import QUANTIZED
from qcompiler.targets.tvm.products import PRODUCTS, is_depthwise
from qcompiler.targets.tvm.real import ELEMENTWISE, REAL_STAGES
from qcompiler.targets.tvm.rotary import rotary, turns_halves
from qcompiler.targets.tvm.stages import STAGES
from qcompiler.targets.tvm.views import CHANNELS_LAST, PLAIN, ROWS, Layout

POINTWISE = {**QUANTIZED, **ELEMENTWISE}
# A causal mask of 8192 tokens.
FOLDED_BYTES = 1 << 26
ALL_STAGES = {**STAGES, **REAL_STAGES, **INDEXING, "attention": attention, "rotary": rotary}

PRODUCT, GROUPS, DEPTHWISE, STAGE, COPY, SINGLE = "product", "grouped product", "depthwise", "rows", "copy", "elementwise"


@dataclass(frozen=True)
class Planned:
    """One kernel to be.

    Attributes:
        group: its nodes.
        kind: one of the names above.
        layout: of its output.
    """

    group: Group
    kind: str
    layout: Layout


@dataclass(frozen=True)
class Plan:
    """What will be described.

    Attributes:
        graph: with constants where the original computed on empty tensors.
        kernels: in order of execution.
        layouts: of every value that will lie in memory, inputs among them.
    """

    graph: Graph
    kernels: list[Planned]
    layouts: dict[Value, Layout]


def plan_kernels(graph: Graph) -> Plan:
    """Group the nodes and choose layouts.

    Raises:
        UnsupportedError: ops without a kernel, all of them with their module paths.
    """
    graph = _spelled_out(without_empty(graph))
    known = {*VIEWS, *COPIES, *POINTWISE, *PRODUCTS, *GROUPED, *ALL_STAGES}
    missing = [node.where() for node in graph.nodes if node.op not in known]
    if missing:
        raise UnsupportedError("no TVM kernel for: " + "; ".join(missing))
    layouts = {value: Layout(PLAIN, value.shape) for value in graph.inputs}
    kernels = []
    for group in group_nodes(graph, VIEWS, POINTWISE, joined_in_place(graph)):
        for value in group.outputs:  # a kernel for each result of an op
            one = Group(group.nodes, [value])
            kind, layout = _kind_and_layout(one, layouts)
            kernels.append(Planned(one, kind, layout))
            layouts[value] = layout
    return Plan(graph, kernels, layouts)


def _spelled_out(graph: Graph) -> Graph:
    """Composites as simpler ops; what these compute of constants alone is computed here, and what several do, once.

    TVM would do both, and kernels are told apart by the order in which they run.
    """
    made = decompose(graph, lambda node: is_cached_attention(node) or turns_halves(node))
    if made is graph or graph.level is Level.INTEGER:
        return made
    folded = FoldConstants(FoldConstantsConfig(max_bytes=FOLDED_BYTES)).run(made, Context()).graph
    return MergeDuplicates().run(folded, Context()).graph


def _kind_and_layout(group: Group, layouts: dict[Value, Layout]) -> tuple[str, Layout]:
    anchor, shape = group.anchor, group.output.shape
    if anchor.op == "conv":
        return DEPTHWISE if is_depthwise(anchor) else PRODUCT, Layout(CHANNELS_LAST, shape)
    if anchor.op in PRODUCTS:
        return PRODUCT, Layout(ROWS, shape)
    if anchor.op in GROUPED:
        return GROUPS, Layout(ROWS, shape)
    if anchor.op in ALL_STAGES:
        if anchor.op in ("max_pool", "avg_pool"):
            return STAGE, Layout(CHANNELS_LAST, shape)
        return STAGE, Layout(ROWS if len(shape) >= 2 else PLAIN, shape)
    return COPY if anchor.op in COPIES else SINGLE, _operand_layout(group, layouts)


def _operand_layout(group: Group, layouts: dict[Value, Layout]) -> Layout:
    """That of the first operand in memory with the result's shape: the loops then read it as it lies."""
    shape = group.output.shape
    for node in group.nodes:
        for value in node.operands:
            layout = layouts.get(value)
            if layout is not None and layout.kind != PLAIN and same_shape(value.shape, shape):
                return Layout(layout.kind, shape)
    return Layout(ROWS if len(shape) >= 2 else PLAIN, shape)


def without_empty(graph: Graph) -> Graph:
    """The graph with what computes on nothing, or nothing at all, as constants: kernels have at least one element."""
    replaced: dict[Value, Value] = {}
    nodes = []
    for node in graph.nodes:
        inputs = tuple(None if v is None else replaced.get(v, v) for v in node.inputs)
        if not _empty(inputs, node):
            nodes.append(node if inputs == node.inputs else Node(node.op, inputs, node.attrs, node.outputs, node.origin))
            continue
        arrays = [None if v is None else np.zeros(v.shape, v.dtype.numpy) if v.data is None else v.data for v in inputs]
        for value, array in zip(node.outputs, run_node(node, arrays, {}), strict=True):
            replaced[value] = constant(array, value.dtype, value.quant, value.name)
    if not replaced:
        return graph
    outputs = [replaced.get(v, v) for v in graph.outputs]
    return Graph(graph.name, graph.inputs, nodes, outputs, graph.output_names, graph.level)


def _empty(inputs: tuple[Value | None, ...], node: Node) -> bool:
    values = [v for v in inputs if v is not None]
    if not all(isinstance(d, int) for v in (*values, *node.outputs) for d in v.shape):
        return False
    given = [v for v in values if v.data is None]
    return all(0 in v.shape for v in node.outputs) or (bool(given) and all(0 in v.shape for v in given))
