"""A graph of streaming units: edges are FIFOs, foldings are data, and words of different lanes meet in converters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from qcompiler.errors import InternalError, UsageError, did_you_mean
from qcompiler.ir import DType
from qcompiler.targets.fpga_hls.stream import Folding, Port, Unit
from qcompiler.targets.fpga_hls.units import SlidingWindow, WidthConverter

DEPTH = 2
"""Words of a FIFO that nobody has sized."""
BORDER = ""
"""Stands for a unit at the ends of edges that are inputs and outputs of the whole graph."""


@dataclass(frozen=True)
class Edge:
    """A FIFO.

    Attributes:
        source: name of the unit that writes; `BORDER` for an input of the graph.
        source_port: index into its `outputs`, or of the input.
        target: name of the unit that reads; `BORDER` for an output of the graph.
        target_port: index into its `inputs`, or of the output.
        depth: words.
    """

    source: str
    source_port: int
    target: str
    target_port: int
    depth: int = DEPTH

    @property
    def name(self) -> str:
        """Identifier, unique in a graph."""
        source = self.source or f"input{self.source_port}"
        target = self.target or f"output{self.target_port}"
        ports = f"_{self.source_port}_{self.target_port}" if self.source_port or self.target_port else ""
        return f"{source}_to_{target}{ports}"


@dataclass(frozen=True)
class Terminal:
    """An input or output of the graph.

    Attributes:
        name: the user's.
        dtype: of the codes.
        shape: in the model's order of axes, the leading 1 for the frame included.
        order: of the axes in the stream, last one fastest.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    order: tuple[int, ...]


@dataclass(frozen=True)
class Dataflow:
    """A whole network.

    Attributes:
        name: C++ identifier.
        units: in an order in which every unit comes after those it reads from.
        edges: every port of every unit has exactly one.
        inputs, outputs: of the network.
    """

    name: str
    units: tuple[Unit, ...]
    edges: tuple[Edge, ...]
    inputs: tuple[Terminal, ...]
    outputs: tuple[Terminal, ...]

    def unit(self, name: str) -> Unit:
        """The unit of a name.

        Raises:
            UsageError: there is none.
        """
        found = {u.name: u for u in self.units}
        if name not in found:
            raise UsageError(f"no unit {name!r} in {self.name}.{did_you_mean(name, found)} Known: {', '.join(found)}")
        return found[name]

    def into(self, unit: Unit) -> tuple[Edge, ...]:
        """Edges that a unit reads, by port."""
        return tuple(sorted((e for e in self.edges if e.target == unit.name), key=lambda e: e.target_port))

    def out_of(self, unit: Unit) -> tuple[Edge, ...]:
        """Edges that a unit writes, by port."""
        return tuple(sorted((e for e in self.edges if e.source == unit.name), key=lambda e: e.source_port))

    def port(self, edge: Edge) -> Port:
        """What flows along an edge: the port that writes it, or for an input the port that reads it.

        Raises:
            InternalError: the edge goes from border to border.
        """
        if edge.source != BORDER:
            return self.unit(edge.source).outputs[edge.source_port]
        if edge.target == BORDER:
            raise InternalError(f"edge {edge.name} has no unit")
        return self.unit(edge.target).inputs[edge.target_port]

    def check(self) -> None:
        """Check that ports and edges fit.

        Raises:
            InternalError: naming the edge or unit.
        """
        for edge in self.edges:
            if BORDER in (edge.source, edge.target):
                continue
            written, read = self.port(edge), self.unit(edge.target).inputs[edge.target_port]
            same = (written.words, written.bits, written.signed, written.lanes) == (read.words, read.bits, read.signed, read.lanes)
            if not same:
                raise InternalError(f"edge {edge.name}: {written} is written and {read} is read")
        for unit in self.units:
            for edges, ports in ((self.into(unit), unit.inputs), (self.out_of(unit), unit.outputs)):
                if len(edges) != len(ports):
                    raise InternalError(f"unit {unit.name} has {len(ports)} ports and {len(edges)} edges")

    def with_depths(self, depths: Mapping[str, int]) -> Dataflow:
        """The same network with other FIFO depths, by name of the edge."""
        return replace(self, edges=tuple(replace(e, depth=depths.get(e.name, e.depth)) for e in self.edges))


def without_converters(graph: Dataflow) -> Dataflow:
    """The network with converters taken out; ports at the ends of an edge may then have different lanes."""
    edges = list(graph.edges)
    for unit in graph.units:
        if isinstance(unit, WidthConverter):
            (before,) = [e for e in edges if e.target == unit.name]
            (after,) = [e for e in edges if e.source == unit.name]
            joined = replace(before, target=after.target, target_port=after.target_port)
            edges = [joined if e is before else e for e in edges if e is not after]
    kept = tuple(u for u in graph.units if not isinstance(u, WidthConverter))
    return replace(graph, units=kept, edges=tuple(edges))


def fold(graph: Dataflow, foldings: Mapping[str, Folding]) -> Dataflow:
    """The network with other foldings, and converters wherever lanes differ.

    Args:
        graph: with or without converters.
        foldings: by name of the unit; units that are absent keep theirs.

    Raises:
        UsageError: an unknown unit, or a folding that is not legal, with the legal ones.
    """
    bare = without_converters(graph)
    for name in foldings:
        bare.unit(name)
    units = {u.name: _folded(u, foldings[u.name]) if u.name in foldings else u for u in bare.units}
    for window, reader in ordered_windows(bare):
        lanes = units[reader.name].folding.pe
        if window.name in foldings and foldings[window.name].pe != lanes:
            raise UsageError(
                f"{window.where}: pe={foldings[window.name].pe} is no legal folding; its words are in the order that"
                f" {reader.name} reads, so legal is the pe of that: {lanes}"
            )
        units[window.name] = window.folded(pe=lanes)
    return with_converters(replace(bare, units=tuple(units.values())))


def ordered_windows(bare: Dataflow) -> list[tuple[SlidingWindow, Unit]]:
    """Windows by channel and the unit that reads each: no converter can stand between them, their lanes are the same."""
    found = [u for u in bare.units if isinstance(u, SlidingWindow) and u.by_channel]
    return [(u, bare.unit(bare.out_of(u)[0].target)) for u in found]


def _folded(unit: Unit, folding: Folding) -> Unit:
    given = {key: getattr(folding, key) for key in unit.choices}
    return unit.folded(**given)


def with_converters(graph: Dataflow) -> Dataflow:
    """Converters on every edge whose ends have different lanes."""
    units: list[Unit] = []
    edges = list(graph.edges)
    for unit in graph.units:
        for edge in graph.into(unit):
            if edge.source == BORDER:
                continue
            written, read = graph.port(edge), unit.inputs[edge.target_port]
            steps = lane_steps(written.lanes, read.lanes)
            whole = max(written, read, key=lambda port: port.channels)  # lanes of both divide its channels
            source, port = edge.source, edge.source_port
            for index, (before, after) in enumerate(steps):
                suffix = f"_{edge.target_port}" if edge.target_port else ""
                name = f"{unit.name}_width{suffix}" + (f"_{index}" if len(steps) > 1 else "")
                lanes = Folding(pe=after, simd=before)
                units.append(WidthConverter(name, unit.module, whole.vectors, whole.channels, whole.bits, whole.signed, folding=lanes))
                edges.append(Edge(source, port, name, 0))
                source, port = name, 0
            if steps:
                edges.remove(edge)
                edges.append(replace(edge, source=source, source_port=port))
        units.append(unit)
    return replace(graph, units=tuple(units), edges=tuple(edges))


def lane_steps(before: int, after: int) -> tuple[tuple[int, int], ...]:
    """Conversions from words of `before` lanes to words of `after` lanes, each by a whole factor."""
    if before == after:
        return ()
    if before % after == 0 or after % before == 0:
        return ((before, after),)
    common = math.lcm(before, after)
    return ((before, common), (common, after))
