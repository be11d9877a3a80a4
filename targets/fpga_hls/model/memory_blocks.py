"""Block RAM of Xilinx parts from series 7 on, as synthesis maps it."""

from __future__ import annotations

from functools import lru_cache

# (words, bits) of one memory, and half blocks that it takes: half a block of 36 Kbit, a whole one, two in cascade.
# The widest shapes have one port to write and one to read; that is enough for all memories here.
_SHAPES = (
    *((depth, width, 1) for depth, width in ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))),
    *((depth, width, 2) for depth, width in ((512, 72), (1024, 36), (2048, 18), (4096, 9), (8192, 4), (16384, 2), (32768, 1))),
    (65536, 1, 4),
)


@lru_cache(maxsize=4096)
def block_rams(width: int, depth: int) -> float:
    """Blocks of 36 Kbit, of which 18 Kbit are one half, of a memory of `depth` words of `width` bits."""
    return min(-(-width // w) * -(-depth // d) * halves for d, w, halves in _SHAPES) / 2
