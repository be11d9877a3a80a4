"""Depths of FIFOs: what a network holds between its units when frames come at its own pace.

Where paths of different length meet again, the shorter one must hold what the longer one is still working on, or the
network stops for ever. Depths come from following every word (`network_timing`); a simulation confirms them.
"""

from __future__ import annotations

from qcompiler.targets.fpga_hls.dataflow import BORDER, Dataflow
from qcompiler.targets.fpga_hls.model.network_timing import network_timing
from qcompiler.targets.fpga_hls.verilog.instance import instance

FRAMES = 3


def with_queues(network: Dataflow) -> Dataflow:
    """The network with the depths that it needs to take a frame per interval of its slowest unit."""
    period = max(unit.interval for unit in network.units)
    held = network_timing(network, FRAMES, period).held
    depths = {}
    for edge in network.edges:
        if edge.name in held:
            # what is on its way through the writer's arithmetic needs room in its queue too
            flying = instance(network.unit(edge.source), 25).queue if edge.source != BORDER else 0
            depths[edge.name] = max(edge.depth, held[edge.name] + (flying if held[edge.name] > 1 else 0))
    return network.with_depths(depths)
