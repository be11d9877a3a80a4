"""When every word of a network moves, if no queue is ever full: exact for the Verilog twins, in NumPy.

A unit that takes its n-th word in clock t(n) obeys t(n) = max(arrival(n), t(n-1) + gap(n)). With the unit's own
schedule as positions p(n) this is t = p + running maximum of (arrival - p).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from qcompiler.targets.fpga_hls.dataflow import BORDER, Dataflow
from qcompiler.targets.fpga_hls.model.timing import row_words, unit_latency
from qcompiler.targets.fpga_hls.stream import Unit
from qcompiler.targets.fpga_hls.units import Concat, FramePool, MatrixVector, SlidingWindow, WidthConverter
from qcompiler.targets.fpga_hls.verilog.emit import place_queue
from qcompiler.targets.fpga_hls.verilog.instance import own_queue

Times = np.ndarray  # int64 [words of all frames], clocks


@dataclass(frozen=True, eq=False)
class Timing:
    """Frames through a network with deep queues.

    Attributes:
        ends: int64 [frames]: the clock of each frame's last word; clock 0 is the first in which inputs are offered.
        held: by name of the edge, the most words that wait on it.
    """

    ends: np.ndarray
    held: Mapping[str, int]

    @property
    def interval(self) -> int:
        """Clocks between the last two frames."""
        return int(self.ends[-1] - self.ends[-2])


def network_timing(network: Dataflow, frames: int = 3, period: int = 0) -> Timing:
    """Follow all words.

    Args:
        frames: one right after the other.
        period: clocks in which the words of an input's frame come, evenly; 0: as fast as they are taken.
    """
    shown: dict[str, Times] = {}  # by edge: when a word can be taken
    taken: dict[str, Times] = {}
    for edge in network.edges:
        if edge.source == BORDER:
            words = network.port(edge).words
            count = np.arange(frames * words)
            shown[edge.name] = count * period // words if period else np.zeros_like(count)
    for unit in network.units:
        reads, writes = network.into(unit), network.out_of(unit)
        moves = _RULES.get(type(unit), _each)(unit, [shown[e.name] for e in reads], frames)
        for edge, times in zip(reads, moves[0]):
            taken[edge.name] = times
        for edge in writes:
            shown[edge.name] = moves[1] + place_queue(network, edge, own_queue(unit)).clocks
    last = [shown[e.name].reshape(frames, -1)[:, -1] for e in network.edges if e.target == BORDER]
    held = {e.name: _held(shown[e.name], taken[e.name]) for e in network.edges if BORDER not in (e.source, e.target)}
    return Timing(np.max(last, axis=0), held)


def _held(shown: Times, taken: Times) -> int:
    """The most words shown and not taken, at the end of a clock."""
    arrived = np.arange(1, len(shown) + 1)
    return int((arrived - np.searchsorted(taken, shown, side="left")).max())


def _follow(positions: Times, arrivals: Times) -> Times:
    return positions + np.maximum.accumulate(arrivals - positions)


Moves = tuple[list[Times], Times]


def _each(unit: Unit, arrivals: list[Times], frames: int) -> Moves:
    """A word per clock, from all operands at once; a result behind every so many words."""
    count = len(arrivals[0])
    times = _follow(np.arange(count), np.max(arrivals, axis=0))
    results = frames * unit.outputs[0].words
    return [times] * len(arrivals), times.reshape(results, -1)[:, -1] + unit_latency(unit)


def _matrix(unit: MatrixVector, arrivals: list[Times], frames: int) -> Moves:
    words, folds = unit.columns // unit.folding.simd, unit.rows // unit.folding.pe
    vectors = frames * unit.vectors
    positions = np.arange(vectors)[:, None] * words * folds + np.arange(words)
    times = _follow(positions.ravel(), arrivals[0])
    ends = times.reshape(vectors, words)[:, -1:] + np.arange(folds) * words
    return [times], ends.ravel() + unit_latency(unit)


def _frame_pool(unit: FramePool, arrivals: list[Times], frames: int) -> Moves:
    words, results = unit.inputs[0].words, unit.outputs[0].words
    positions = np.arange(frames)[:, None] * (words + results) + np.arange(words)
    times = _follow(positions.ravel(), arrivals[0])
    ends = times.reshape(frames, words)[:, -1:] + 1 + np.arange(results)
    return [times], ends.ravel() + unit_latency(unit)


def _width(unit: WidthConverter, arrivals: list[Times], frames: int) -> Moves:
    wide, narrow = unit.folding.simd, unit.folding.pe
    parts = max(1, wide // narrow)
    times = _follow(np.arange(len(arrivals[0])) * parts, arrivals[0])
    if wide >= narrow:
        return [times], (times[:, None] + np.arange(parts)).ravel() + unit_latency(unit)
    return [times], times.reshape(-1, narrow // wide)[:, -1] + unit_latency(unit)


def _concat(unit: Concat, arrivals: list[Times], frames: int) -> Moves:
    vectors = frames * unit.vectors
    whole = np.concatenate([a.reshape(vectors, -1) for a in arrivals], axis=1)
    times = _follow(np.arange(whole.size), whole.ravel())
    ends = np.cumsum([a.size // vectors for a in arrivals])[:-1]
    return [part.ravel() for part in np.split(times.reshape(vectors, -1), ends, axis=1)], times + unit_latency(unit)


def _window(unit: SlidingWindow, arrivals: list[Times], frames: int) -> Moves:
    row, written = row_words(unit)
    taken, issued = [], []
    start, position = 0, 0
    limits = [0, *(unit.rows_before(r) for r in range(unit.out_height + 1))]
    for _ in range(frames):
        for phase, (before, after) in enumerate(zip(limits, limits[1:])):
            if phase == 0 and after == 0:
                continue
            count = (after - before) * row
            steps = np.arange(count)
            times = start + _follow(steps, np.maximum(arrivals[0][position : position + count] - start, 0))
            taken.append(times)
            position += count
            end = int(times[-1]) if count else start - 1
            if phase:
                issued.append(start + np.arange(written))
                end = max(end, start + written - 1)
            start = end + 1
    return [np.concatenate(taken)], np.concatenate(issued) + unit_latency(unit)


_RULES: dict[type, Callable[..., Moves]] = {
    MatrixVector: _matrix,
    FramePool: _frame_pool,
    WidthConverter: _width,
    Concat: _concat,
    SlidingWindow: _window,
}
