"""Depthwise convolutions over pairs of image rows: a register tile of places and channels, the window unrolled.

for rows of the result: for blocks of places: for chunks of channels:
        paired = what the windows read of the image, two rows side by side, with its border
        for tiles of places:  for window:  for places, vectors:  acc[place, vector] += pair_sum(paired, weights)
            out = finish(acc)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

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
        block: places of which pairs are made at once.
    """

    places: int
    vectors: int
    block: int


def schedule(s: Any, lanes: int, width: int, threads: bool) -> None:
    """Schedule the blocks `paired`, `acc` and `out` [rows * width, channels]; channels are a multiple of lanes.

    `threads` says whether there is enough work for several.
    """
    out, acc, paired = (s.get_sblock(name) for name in ("out", "acc", STAGE))
    rows, channels = s.get_loops(out)
    pairs, reached, depth = (int(s.get(loop).extent) for loop in s.get_loops(paired)[1:])
    tile = choose_tile(width, reached, depth // lanes, pairs * lanes * 4)
    row, block, outer, place = s.split(rows, [None, width // tile.block, tile.block // tile.places, tile.places])
    chunk, vector, lane = s.split(channels, [None, tile.vectors, lanes])
    s.reorder(row, block, chunk, outer, place, vector, lane)
    if threads:
        s.parallel(row)
    s.vectorize(s.fuse(vector, lane))  # their results become bytes together
    s.compute_at(acc, outer, preserve_unit_loops=True)
    s.compute_at(paired, chunk, preserve_unit_loops=True)
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


def choose_tile(width: int, reached: int, vectors: int, place_bytes: int) -> Tile:
    """The largest register tile with several places and vectors, in the largest block whose pairs stay near.

    Args:
        width: places of a row.
        reached: places of the image that they read.
        vectors: of the channels.
        place_bytes: of the pairs of a vector at one place of the image.
    """

    def tiles() -> Iterator[Tile]:
        for count in (n for n in (4, 2, 1) if vectors % n == 0):
            for block in (b for b in range(1, width + 1) if width % b == 0):
                if block == 1 or -(-reached * block // width) * count * place_bytes <= CACHED_BYTES:
                    yield from (Tile(p, count, block) for p in range(1, 9) if block % p == 0 and p * count <= ACCUMULATORS)

    return max(tiles(), key=lambda tile: (tile.places * tile.vectors, min(tile.places, tile.vectors), tile.vectors, tile.block))
