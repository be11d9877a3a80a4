"""Depths of FIFOs: what a network holds between its units when frames come at its own pace.

Where paths of different length meet again, the shorter one must hold what the longer one is still working on, or the
network stops for ever. Depths come from following every word (`network_timing`); a simulation confirms them.
"""

from __future__ import annotations

from collections.abc import Mapping

import networkx as nx

from qcompiler.targets.fpga_hls.dataflow import BORDER, Dataflow, Edge
from qcompiler.targets.fpga_hls.model.network_timing import network_timing
from qcompiler.targets.fpga_hls.model.timing import row_words
from qcompiler.targets.fpga_hls.row_units import Product
from qcompiler.targets.fpga_hls.units import Fork, MatrixVector, SlidingWindow, WidthConverter
from qcompiler.targets.fpga_hls.verilog.instance import has_twin, own_queue

FRAMES = 3


def with_queues(network: Dataflow) -> Dataflow:
    """The network with the depths that it needs to take a frame per interval of its slowest unit.

    With room for all that a schedule holds, words that move as early as they can move no later than in that schedule: so
    nothing waits for ever, and frames keep their pace. Where no two paths meet again a full queue only makes its
    writer wait, and less will do.
    """
    if not all(has_twin(unit) for unit in network.units):
        return network.with_depths(whole_frames(network))
    period = max(unit.interval for unit in network.units)
    chain = _on_no_cycle(network)
    while True:
        held = network_timing(network, FRAMES, period).held
        depths = {e.name: max(e.depth, _depth(network, e, held[e.name], e.name in chain)) for e in network.edges if e.name in held}
        deeper = network.with_depths(depths)
        if deeper == network:
            return network
        network = deeper  # deeper queues lie elsewhere, which moves words by a clock


def _on_no_cycle(network: Dataflow) -> set[str]:
    """Names of edges that are the only way between what they join."""
    paths = nx.MultiGraph()
    for edge in network.edges:
        if BORDER not in (edge.source, edge.target):
            paths.add_edge(edge.source, edge.target, edge.name)
    alone = {frozenset(pair) for pair in nx.bridges(paths)}
    return {name for source, target, name in paths.edges(keys=True) if frozenset((source, target)) in alone}


def _depth(network: Dataflow, edge: Edge, held: int, chain: bool) -> int:
    """Enough for what is held; on a chain, no more than the reader can make use of while the writer may as well wait."""
    reader = network.unit(edge.target)
    if chain and isinstance(reader, WidthConverter):
        return edge.depth
    if chain and isinstance(reader, MatrixVector):  # the next vector, while one is in use, and a word of the one behind it
        held = min(held, reader.columns // reader.folding.simd) + 1
    if chain and isinstance(reader, SlidingWindow):  # the first rows of the next frame, while the last windows of one are in use
        held = min(held, reader.rows_before(0) * row_words(reader)[0])
    # what is on its way through the writer's arithmetic needs room in its queue too
    flying = own_queue(network.unit(edge.source)) if edge.source != BORDER and held > 1 else 0
    return max(edge.depth, held + flying)


def whole_frames(network: Dataflow) -> Mapping[str, int]:
    """Depths where units are not followed word by word, because they exist in C++ only: what waits has room for a frame.

    A product of two streams stores one of them whole. What waits there is the other one, and every branch of a fork
    that does not pass through the unit.
    """
    products = {u.name for u in network.units if isinstance(u, Product)}
    forks = {u.name for u in network.units if isinstance(u, Fork)}
    waiting = [e for e in network.edges if e.source in forks or (e.target in products and e.target_port == 0)]
    return {e.name: network.port(e).words for e in waiting}
