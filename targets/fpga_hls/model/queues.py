"""Depths of FIFOs: what a network holds between its units when frames come at its own pace.

Where paths of different length meet again, the shorter one must hold what the longer one is still working on, or the
network stops for ever. Depths come from following every word (`network_timing`); a simulation confirms them.
"""

from __future__ import annotations

from collections.abc import Mapping

from qcompiler.targets.fpga_hls.dataflow import BORDER, Dataflow, Edge
from qcompiler.targets.fpga_hls.model.network_timing import network_timing
from qcompiler.targets.fpga_hls.model.timing import row_words
from qcompiler.targets.fpga_hls.row_units import Product
from qcompiler.targets.fpga_hls.units import Fork, MatrixVector, SlidingWindow, WidthConverter
from qcompiler.targets.fpga_hls.verilog.instance import has_twin, own_queue

FRAMES = 3


def with_queues(network: Dataflow) -> Dataflow:
    """The network with the depths that it needs to take a frame per interval of its slowest unit."""
    if not all(has_twin(unit) for unit in network.units):
        return network.with_depths(whole_frames(network))
    period = max(unit.interval for unit in network.units)
    held = network_timing(network, FRAMES, period).held
    return network.with_depths({e.name: _depth(network, e, held[e.name]) for e in network.edges if e.name in held})


def _depth(network: Dataflow, edge: Edge, held: int) -> int:
    """Enough for what is held, and no more than the reader can make use of while the writer may as well wait."""
    reader = network.unit(edge.target)
    if isinstance(reader, WidthConverter):
        return edge.depth
    if isinstance(reader, MatrixVector):  # the next vector, while one is in use, and a word of the one behind it
        held = min(held, reader.columns // reader.folding.simd) + 1
    if isinstance(reader, SlidingWindow):  # the first rows of the next frame, while the last windows of one are in use
        held = reader.rows_before(0) * row_words(reader)[0]
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
