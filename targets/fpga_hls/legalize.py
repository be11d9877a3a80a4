"""From an INTEGER graph to streaming units.

    order     a stream is a permutation of its tensor's elements; reshapes and transposes only rename them, and a reader
              that needs another order is refused
    fusion    product + requantize is one unit; the integers are those of the ops one by one
    weights   reordered to the order in which elements arrive; zero points of activations folded into biases

Ops without a streaming form are collected and refused together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from qcompiler.errors import ConstraintError, GraphError, UnsupportedError
from qcompiler.ir import DType, Graph, Level, Node, Value
from qcompiler.passes.integer.intervals import Analysis, analyse, bits_for
from qcompiler.targets.fpga_hls.dataflow import BORDER, Dataflow, Edge, Terminal
from qcompiler.targets.fpga_hls.names import Names
from qcompiler.targets.fpga_hls.stream import Scaling, Unit
from qcompiler.targets.fpga_hls.units import Fork

WINDOWS = frozenset({"conv", "max_pool", "pad", "resize"})


class NoStream(GraphError):
    """An op, or a form of it, that no streaming unit computes; the message says why."""


REMEDIES: Mapping[str, str] = {
    "pad": "; a convolution or pool that alone reads the padded value does its padding itself (padding=...)",
    "slice": "; let the layer before it be several layers with a result each",
    "gather": "; reorder the input channels of the layer that reads it instead",
    "flip": "; reorder the input channels of the layer that reads it instead",
    "resize": "; end the circuit before it, and enlarge its results outside",
    "reduce_max": "; a max pool over the whole image has one",
    "where": "; a choice by comparisons of one value is a function, which has one",
}
"""What to do about ops that no unit computes."""

Rule = Callable[["Legalizer", Node], None]


@dataclass(frozen=True, eq=False)
class Stream:
    """Where a tensor flows.

    Attributes:
        source: name of the unit that writes it, `BORDER` for an input of the graph.
        port: index into its outputs, or of the input.
        positions: int64 [elements]: for each element of the stream its index in the tensor, row-major.
        vectors, channels: as it is written.
    """

    source: str
    port: int
    positions: np.ndarray
    vectors: int
    channels: int


@dataclass(frozen=True)
class Choice:
    """A node of the graph and the unit it became part of."""

    node: Node
    unit: str


@dataclass(frozen=True, eq=False)
class Legalized:
    """A network with what ties it to the graph.

    Attributes:
        dataflow: foldings all 1.
        choices: one per node that became part of a unit.
        taps: value of the graph -> its stream, for every value that flows.
    """

    dataflow: Dataflow
    choices: tuple[Choice, ...]
    taps: Mapping[Value, Stream]


class Legalizer:
    """The walk over a graph that the rules share."""

    def __init__(self, graph: Graph, rules: Mapping[str, Rule]) -> None:
        self.graph = graph
        self.bounds: Analysis = analyse(graph)
        self.units: list[Unit] = []
        self.choices: list[Choice] = []
        self.streams: dict[Value, Stream] = {}
        self.pending: set[Value] = set()
        """Accumulators that a unit will hold."""
        self._spatial = {len(n.operands[0].shape) for n in graph.nodes if n.op in WINDOWS} - {0, 1, 2}
        self._reads: list[tuple[Stream, str, int]] = []
        self._names = Names()
        self._rules = rules

    def run(self) -> Legalized:
        """Walk all nodes.

        Raises:
            UnsupportedError: ops without a streaming form, all of them.
        """
        inputs = tuple(self._input(i, v) for i, v in enumerate(self.graph.inputs))
        problems = []
        for node in self.graph.nodes:
            if not all(self._known(v) for v in node.operands):
                continue  # what it reads was refused already
            rule = self._rules.get(node.op)
            try:
                if rule is None:
                    raise NoStream("it has no streaming form" + REMEDIES.get(node.op, ""))
                rule(self, node)
            except NoStream as problem:
                problems.append(f"  {node.where()}: {problem}")
        if problems:
            raise UnsupportedError(
                f"{len(problems)} ops have no streaming form on FPGAs:\n" + "\n".join(problems) + "\nChange these layers, or"
                " compile for another target."
            )
        outputs = tuple(self._output(i, v) for i, v in enumerate(self.graph.outputs))
        name = self._names.fresh(self.graph.name)
        edges = self._edges()
        dataflow = Dataflow(name, tuple(_sorted(self.units, edges)), edges, inputs, outputs)
        dataflow.check()
        return Legalized(dataflow, tuple(self.choices), dict(self.streams))

    def _known(self, value: Value) -> bool:
        return value.is_const or value in self.streams or value in self.pending

    # -- streams

    def stream(self, value: Value) -> Stream:
        """The stream of an operand.

        Raises:
            NoStream: it is a constant, or accumulators.
        """
        if value.is_const:
            raise NoStream(f"its operand {value.name!r} is a constant")
        if value not in self.streams:
            raise NoStream("it reads accumulators; only a requantize can")
        return self.streams[value]

    def rename(self, node: Node, positions: np.ndarray) -> None:
        """The operand's stream under another shape: no unit."""
        stream = self.stream(node.operands[0])
        self.streams[node.output] = Stream(stream.source, stream.port, positions, stream.vectors, stream.channels)

    def name(self, node: Node, suffix: str = "") -> str:
        """An identifier for a unit of a node."""
        return self._names.fresh(f"{node.origin.module or node.output.name or node.op} {suffix}")

    def add(self, unit: Unit, reads: list[Stream], nodes: tuple[Node, ...] = (), positions: np.ndarray | None = None) -> Stream:
        """Append a unit that reads streams; its result becomes the last node's if `positions` are given."""
        self.units.append(unit)
        self._reads += [(stream, unit.name, port) for port, stream in enumerate(reads)]
        self.choices += [Choice(node, unit.name) for node in nodes]
        port = unit.outputs[0]
        empty = np.zeros(0, np.int64)
        result = Stream(unit.name, 0, empty if positions is None else positions, port.vectors, port.channels)
        if positions is not None:
            self.streams[nodes[-1].output] = result
        return result

    def acc_bits(self, value: Value) -> int:
        """Bits of the accumulators of a product, proven."""
        return bits_for(*self.bounds.of(value).whole)

    # -- borders

    def _input(self, index: int, value: Value) -> Terminal:
        shape = known_shape(value)
        if value.dtype not in STREAMED:
            raise UnsupportedError(
                f"input {value.name!r} is {value.dtype.name}; inputs on FPGAs are codes of at most 16 bits"
            )
        order = self._order(value)
        channels = shape[order[-1]] if shape else 1
        positions = np.arange(math.prod(shape)).reshape(shape).transpose(order).ravel()
        self.streams[value] = Stream(BORDER, index, positions, positions.size // channels, channels)
        return Terminal(value.name, value.dtype, shape, order)

    def _order(self, value: Value) -> tuple[int, ...]:
        """The order in which an input flows: pixels with their channels where it holds images, also transposed ones."""
        rank = len(value.shape)
        if rank not in self._spatial:
            return tuple(range(rank))
        readers = [node for node, _ in self.graph.uses(value)]
        if len(readers) == 1 and readers[0].op == "lookup":
            return self._order(readers[0].output)
        if len(readers) == 1 and readers[0].op == "transpose":
            return tuple(int(readers[0].attrs["perm"][axis]) for axis in self._order(readers[0].output))
        return channels_last(rank)

    def _output(self, index: int, value: Value) -> Terminal:
        """The axes of the model in the order in which the stream has them."""
        name, stream, shape = self.graph.output_names[index], self.stream(value), known_shape(value)
        if stream.source == BORDER:
            raise UnsupportedError(f"output {name!r} is the input {self.graph.inputs[stream.port].name!r} itself; nothing computes it")
        order = order_of(stream.positions, shape)
        if order is None:
            raise UnsupportedError(f"output {name!r} of shape {list(shape)} arrives in an order that no transpose of it has")
        self._reads.append((stream, BORDER, index))
        return Terminal(name, value.dtype, shape, order)

    def _edges(self) -> tuple[Edge, ...]:
        """A FIFO per reader; forks where a stream has several."""
        readers: dict[tuple[str, int], list[tuple[str, int]]] = {}
        for stream, unit, port in self._reads:
            readers.setdefault((stream.source, stream.port), []).append((unit, port))
        units = {u.name: u for u in self.units}
        edges = []
        for (source, port), found in readers.items():
            while len(found) > 1:
                if source == BORDER:
                    reader = units[found[0][0]]
                    flow, base = reader.inputs[found[0][1]], f"{self.graph.inputs[port].name} fork"
                else:
                    flow, base = units[source].outputs[port], f"{source} fork"
                fork = Fork(self._names.fresh(base), "", flow.vectors, flow.channels, flow.bits, flow.signed, 2)
                self.units.append(fork)
                units[fork.name] = fork
                edges += [Edge(source, port, fork.name, 0), Edge(fork.name, 0, *found[0])]
                source, port, found = fork.name, 1, found[1:]
            edges.append(Edge(source, port, *found[0]))
        return tuple(edges)


STREAMED = frozenset(d for d in DType if d.is_integer and d.bits <= 16)


def channels_last(rank: int) -> tuple[int, ...]:
    """[N, C, spatial...] with the channels at the end."""
    return (0, *range(2, rank), 1)


def order_of(positions: np.ndarray, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The order of axes in which a tensor flows: row-major or channels last, None if it is neither."""
    rank = len(shape)
    indices = np.arange(math.prod(shape)).reshape(shape)
    for order in (tuple(range(rank)), channels_last(rank) if rank > 2 else tuple(range(rank))):
        if np.array_equal(indices.transpose(order).ravel(), positions):
            return order
    return None


def _sorted(units: list[Unit], edges: tuple[Edge, ...]) -> list[Unit]:
    """The units with every one after those it reads from; otherwise as they were made."""
    waiting = {u.name: {e.source for e in edges if e.target == u.name and e.source != BORDER} for u in units}
    done: list[Unit] = []
    while len(done) < len(units):
        names = {u.name for u in done}
        done.append(next(u for u in units if u.name not in names and waiting[u.name] <= names))
    return done


def known_shape(value: Value) -> tuple[int, ...]:
    """The shape in integers, with a first axis of 1.

    Raises:
        ConstraintError: a symbolic dimension, or a batch.
    """
    if not all(isinstance(d, int) for d in value.shape):
        raise ConstraintError(
            f"value {value.name!r} has shape {list(map(str, value.shape))}; a circuit is built for fixed sizes: compile without"
            " dynamic_shapes, with example inputs of the lengths you will run and a batch of 1"
        )
    if not value.shape or value.shape[0] != 1:
        raise ConstraintError(
            f"value {value.name!r} has shape {list(value.shape)}; streams carry one sample after the other: compile with example"
            " inputs whose first axis is a batch of 1"
        )
    return tuple(int(d) for d in value.shape)


def scaling_of(node: Node) -> Scaling:
    """The rescale of a requantize node, with one shift for all channels.

    Raises:
        NoStream: a factor that is not constant, or a profile that units do not compute.
    """
    multiplier, shift = node.inputs[1:3]
    rounding = str(node.attrs["rounding"])
    if rounding not in ("dyadic", "shift_half_even"):
        raise NoStream(f"it rounds by {rounding}; units round by dyadic or shift_half_even")
    if multiplier is None or shift is None or multiplier.data is None or shift.data is None:
        raise NoStream("its factor is not constant")
    m, s = np.atleast_1d(multiplier.data.astype(object)), np.atleast_1d(shift.data.astype(object))
    m, s = np.broadcast_arrays(m, s)
    common = max(int(s.max()), 0)
    scaled = m * 2 ** (common - s)
    if int(scaled.max()).bit_length() > 62:
        raise NoStream("the factors of its channels lie too far apart for one shift")
    values = scaled.astype(np.int64)
    return Scaling(rounding, values[:1] if (values == values[0]).all() else values, common, **limits(node))


def limits(node: Node) -> dict[str, int | bool]:
    """Zero point, limits and type of what a requantize gives."""
    quant = node.attrs["quant"]
    low, high = node.attrs["qmin"], node.attrs["qmax"]
    return {
        "zero_point": int(quant.zero_point),
        "qmin": quant.dtype.min if low is None else low,
        "qmax": quant.dtype.max if high is None else high,
        "bits": quant.dtype.bits,
        "signed": quant.dtype.is_signed,
    }


def legalize(graph: Graph) -> Legalized:
    """The streaming units of a graph.

    Raises:
        UnsupportedError: ops without a streaming form, all of them.
        ConstraintError: symbolic shapes, a batch, or sums that overflow.
    """
    from qcompiler.targets.fpga_hls.op_table import RULES

    assert graph.level is Level.INTEGER, graph.level
    return Legalizer(graph, RULES).run()
