"""Dynamic sizes: the programs that a graph is planned for, one per combination of sizes that the target names.

    cuda-sm80:batch=1..4,tokens=32/64/128      12 plans that share kernels and constants

Memory and grids of a plan are exact, so nothing is padded; a run takes the plan of its inputs' shapes.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping

from qcompiler.errors import ConstraintError, UsageError
from qcompiler.executors.reference import resolve_attribute
from qcompiler.ir import Graph, GraphBuilder, Value, get_op
from qcompiler.ir.dims import substitute

MOST_PLANS = 64

Sizes = Mapping[str, tuple[int, ...]]


def parse_sizes(option: str, target: str) -> dict[str, tuple[int, ...]]:
    """Sizes by the name of a dimension, of `name=1..4,other=32/64`; empty for "".

    Raises:
        UsageError: another form, a size below 1, or more than `MOST_PLANS` combinations.
    """
    found: dict[str, tuple[int, ...]] = {}
    count = 1
    for part in option.split(",") if option else ():
        match = re.fullmatch(r"([A-Za-z_]\w*)=(\d+\.\.\d+|\d+(?:/\d+)*)", part)
        if match is None:
            raise UsageError(f"target {target} takes sizes of dynamic dimensions, as {target}:batch=1..4,tokens=32/64, got {part!r}")
        name, text = match.groups()
        low, dots, high = text.partition("..")
        sizes = tuple(range(int(low), int(high) + 1)) if dots else tuple(sorted({int(v) for v in text.split("/")}))
        if not sizes or sizes[0] < 1 or name in found:
            raise UsageError(f"target {target}: {part!r} names no sizes, one below 1, or a dimension twice")
        found[name] = sizes
        count *= len(sizes)
    if count > MOST_PLANS:
        raise UsageError(f"target {target}: {count} combinations of sizes, at most {MOST_PLANS} are planned; name fewer")
    return found


def bound_graphs(graph: Graph, sizes: Sizes) -> list[tuple[dict[str, int], Graph]]:
    """The graph for every combination of sizes; itself if it has no dynamic ones.

    Raises:
        ConstraintError: a dynamic dimension without sizes, or sizes of one that the graph does not have.
    """
    symbols = sorted(graph.symbols())
    if set(symbols) != set(sizes):
        missing, other = sorted(set(symbols) - set(sizes)), sorted(set(sizes) - set(symbols))
        if missing:
            raise ConstraintError(
                f"dimensions {', '.join(missing)} of the model are dynamic; memory and grids are planned when it is compiled: name"
                f" the sizes that you will run, as cuda-sm80:{','.join(f'{n}=1/2' for n in missing)}, or compile without dynamic_shapes"
            )
        raise ConstraintError(f"the target names sizes of {', '.join(other)}; dynamic dimensions of the model are {', '.join(symbols) or 'none'}")
    if not symbols:
        return [({}, graph)]
    combinations = [dict(zip(symbols, chosen)) for chosen in itertools.product(*(sizes[n] for n in symbols))]
    return [(chosen, _bound(graph, chosen)) for chosen in combinations]


def _bound(graph: Graph, sizes: Mapping[str, int]) -> Graph:
    builder = GraphBuilder(graph.name, graph.level)
    new: dict[Value, Value] = {}
    for value in graph.inputs:
        new[value] = builder.input(value.name, value.dtype, tuple(substitute(d, sizes) for d in value.shape), value.quant)
    for node in graph.nodes:
        attrs = {a.name: resolve_attribute(a.kind, node.attrs[a.name], sizes) for a in get_op(node.op).attrs}
        made = builder.node(node.op, *[None if v is None else new.get(v, v) for v in node.inputs], origin=node.origin, name=node.output.name, **attrs)
        new.update(zip(node.outputs, made.outputs, strict=True))
    outputs = [new.get(v, v) for v in graph.outputs]
    return Graph(graph.name, builder.inputs, builder.nodes, outputs, graph.output_names, graph.level)
