"""A whole network in a simulator, from codes in the model's own shapes to codes in the model's own shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import networkx as nx
import numpy as np

from qcompiler.errors import InternalError
from qcompiler.targets.fpga_hls.dataflow import Dataflow
from qcompiler.targets.fpga_hls.verilog.emit import Design, emit_design
from qcompiler.targets.fpga_hls.verilog.simulate import Stimulus, Trace, simulate


@dataclass(frozen=True, eq=False)
class NetworkRun:
    """Frames through a network.

    Attributes:
        outputs: for every frame the outputs, in the model's shapes and types.
        first: clock in which the first frame's last word came out.
        last: that of the last frame.
        interval: clocks between the last words of neighbouring frames, at the end of the run; 0 for one frame.
        held: by name of the edge, the most words in its queue.
    """

    outputs: tuple[tuple[np.ndarray, ...], ...]
    first: int
    last: int
    interval: int
    held: dict[str, int]


def simulate_network(network: Dataflow, frames: Sequence[Sequence[np.ndarray]], simulator: str = "verilator") -> NetworkRun:
    """Feed frames one right after the other.

    Raises:
        InternalError: the network stopped before all outputs were there, with the edges to blame.
        UnsupportedError: a unit without a Verilog twin.
    """
    design = emit_design(network)
    inputs = [
        np.concatenate([frame[i].transpose(terminal.order).reshape(port.vectors, port.channels) for frame in frames])
        for i, (terminal, port) in enumerate(zip(network.inputs, design.inputs))
    ]
    slowest = max(unit.interval for unit in network.units)
    # a unit that works on a frame on its own takes no longer than its interval and its latency
    idle = slowest + 100
    (trace,) = simulate([Stimulus(design, inputs, len(frames), idle=idle)], simulator, optimize=slowest > 5000)
    if trace.stuck:
        raise InternalError(deadlock(network, trace))
    return _run(network, design, trace, len(frames))


def deadlock(network: Dataflow, trace: Trace) -> str:
    """What a network that stopped looks like: the full edges of a circle of units that wait for each other."""
    waits = nx.DiGraph()
    for edge in network.edges:
        if trace.stuck.get(edge.name) is not True:  # the reader waits for a word
            waits.add_edge(edge.target, edge.source)
        if trace.stuck.get(edge.name) is not False:  # the writer waits for room; an edge without a queue may be either
            waits.add_edge(edge.source, edge.target)
    full = [edge for edge in network.edges if trace.stuck.get(edge.name)]
    circle = [edge for edge in full if nx.has_path(waits, edge.target, edge.source)] or full
    lines = [f"network {network.name} stopped: it is a deadlock."]
    lines += [f"  full: {e.name}, {e.depth} words, from {e.source or 'the input'} to {e.target or 'the output'}" for e in circle]
    return "\n".join([*lines, "What its reader needs besides comes from the units that wait for room here. Remedy: a deeper FIFO there."])


def _run(network: Dataflow, design: Design, trace: Trace, frames: int) -> NetworkRun:
    outputs: list[list[np.ndarray]] = [[] for _ in range(frames)]
    ends = np.zeros((len(network.outputs), frames), np.int64)
    for i, (terminal, port) in enumerate(zip(network.outputs, design.outputs)):
        codes = trace.outputs[i].reshape(frames, -1)
        for frame in range(frames):
            array = codes[frame].reshape([terminal.shape[axis] for axis in terminal.order]).transpose(np.argsort(terminal.order))
            outputs[frame].append(np.ascontiguousarray(array).astype(terminal.dtype.numpy))
        ends[i] = trace.clocks[i].reshape(frames, port.words)[:, -1]
    end = ends.max(0)
    interval = int(end[-1] - end[-2]) if frames > 1 else 0
    return NetworkRun(tuple(map(tuple, outputs)), int(end[0]), int(end[-1]), interval, dict(trace.held))
