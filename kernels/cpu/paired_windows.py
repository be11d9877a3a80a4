"""Depthwise convolutions over pairs of image rows: a register tile of places and channels, the window unrolled.

for blocks of rows and places of the result: for chunks of channels:
        paired = what the windows of the block read of the image, two rows side by side, with its border
        for rows: for tiles of places:  for window:  for places, vectors:  acc[place, vector] += pair_sum(paired, weights)
            out = finish(acc)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from qcompiler.kernels.common.reach import Reach
from qcompiler.kernels.cpu.product import TOGETHER

STAGE = "paired"
ACCUMULATORS = 8
"""Most vectors of a register tile."""
CACHED_BYTES = 16384
"""Most that the pairs of a block should take: half of a first cache level, and what stays on the stack."""


@dataclass(frozen=True)
class Tile:
    """Places of the result and vectors of channels.

    Attributes:
        places, vectors: of a register tile.
        rows, block: rows, and places of a row, of which pairs are made at once.
    """

    places: int
    vectors: int
    rows: int
    block: int


def schedule(s: Any, lanes: int, threads: bool) -> None:
    """Schedule the blocks `paired`, `acc` and `out` [batch, height, width, channels]; channels are a multiple of lanes, or of half.

    `threads` says whether there is enough work for several.
    """
    out, acc, paired = (s.get_sblock(name) for name in ("out", "acc", STAGE))
    image, row, place, channels = s.get_loops(out)
    height, width, size = (int(s.get(loop).extent) for loop in (row, place, channels))
    if size % lanes:
        lanes //= 2  # 8 of 16
    notes = s.get(paired).annotations
    down, across = (Reach(*(int(n) for n in notes[name])) for name in ("down", "across"))
    pairs, taps = (int(s.get(loop).extent) for loop in s.get_loops(acc)[-2:])
    tile = choose_tile(height, width, down, across, pairs * taps, size // lanes, 4 * lanes)
    band, row = s.split(row, [None, tile.rows])
    block, outer, place = s.split(place, [None, tile.block // tile.places, tile.places])
    chunk, vector, lane = s.split(channels, [None, tile.vectors, lanes])
    s.reorder(image, band, block, chunk, row, outer, place, vector, lane)
    s.vectorize(s.fuse(vector, lane))  # their results become bytes together
    s.compute_at(acc, outer, preserve_unit_loops=True)
    s.compute_at(paired, chunk, preserve_unit_loops=True)
    if threads:
        s.parallel(next((loop for loop in (image, band, block) if not _is_one(s, loop)), chunk))
    _, lane = s.split(s.get_loops(paired)[-1], [None, lanes])
    s.vectorize(lane)
    at, channel, pair, tap = s.get_loops(acc)[-4:]
    vector, lane = s.split(channel, [None, lanes])
    s.reorder(pair, tap, at, vector, lane)
    s.vectorize(lane)  # before the reduction is taken apart, which the schedule does not vectorize
    zeros = s.get_loops(s.decompose_reduction(acc, pair))
    s.vectorize(zeros[-1])
    for loop in (*zeros[-3:-1], tap, at, vector):
        s.unroll(loop)


def _is_one(s: Any, loop: Any) -> bool:
    extent = s.get(loop).extent
    return isinstance(extent, tirx.IntImm) and int(extent) == 1


PAIR, LOAD, BLOCK, FEW = 2.0, 0.15, 20.0, 2.0
"""Cycles of: making a vector of pairs, loading one of weights, beginning a block; what it costs if fewer than 4 vectors
are added to by turns. Set by the times of 211 tiles of the 12 different layers of EfficientNet-Lite0, of which this rule's
cost 1.04 of the best one in the mean."""


def choose_tile(height: int, width: int, down: Reach, across: Reach, taps: int, vectors: int, vector_bytes: int) -> Tile:
    """The tile that costs least by a count of its steps, of those whose pairs stay near.

    Args:
        height, width: of the result.
        down, across: pairs that rows and places of the result read.
        taps: pairs that a window multiplies.
        vectors: of the channels.
        vector_bytes: of a vector of pairs.
    """

    def tiles() -> Iterator[Tile]:
        for count in (n for n in (4, 2, 1) if vectors % n == 0):
            for rows in (r for r in range(1, height + 1) if height % r == 0):
                for block in (b for b in range(1, width + 1) if width % b == 0):
                    if rows == block == 1 or down.of(rows) * across.of(block) * count * vector_bytes <= CACHED_BYTES:
                        yield from (Tile(p, count, rows, block) for p in range(1, 9) if block % p == 0 and p * count <= ACCUMULATORS)

    def cycles(tile: Tile) -> float:
        results = tile.rows * tile.block
        pairs = down.of(tile.rows) * across.of(tile.block) / results
        few = FEW if tile.places * tile.vectors < 4 else 0.0
        return PAIR * pairs + LOAD * taps / tile.places + BLOCK / results - TOGETHER.get(tile.vectors, 0.0) + few

    return min(tiles(), key=cycles)
