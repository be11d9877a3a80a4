"""Block RAM of Xilinx parts from series 7 on, as yosys maps memories to it (its passes/memory/memory_libmap.cc).

A memory deeper than a block lies in it row upon row: its address selects one of several words in a wider row. Whatever
the block's shape, every block has the same one. Blocks are the first concern, then the selection behind them.
"""

from __future__ import annotations

from functools import lru_cache

# (address bits at one bit wide, data bits by halving the depth, half blocks of 36 Kbit that it takes)
_BLOCKS = ((14, (1, 2, 4, 9, 18, 36), 1), (15, (1, 2, 4, 9, 18, 36, 72), 2), (16, (1, 2, 4, 9), 4))
_BYTE = 9
"""Bits that one enable writes."""
_HALF, _OVERHEAD, _SELECTED = 128, 1, 0.5
"""Costs: of half a block, of any block besides, of a bit that is selected among two, or of a row's enable."""


def block_rams(width: int, depth: int, written: bool = True) -> float:
    """Blocks of 36 Kbit, of which 18 Kbit are one half, of a memory of `depth` words of `width` bits; a ROM is not `written`."""
    return _mapped(width, depth, written)[0] / 2


def block_selection(width: int, depth: int, written: bool = True) -> int:
    """Bits that are chosen among two behind these blocks, all together."""
    return _mapped(width, depth, written)[1]


@lru_cache(maxsize=4096)
def _mapped(width: int, depth: int, written: bool) -> tuple[int, int]:
    """Halves of blocks, and bits that are chosen among two."""
    found = []
    for address, shapes, halves in _BLOCKS:
        for level, shape in enumerate(shapes):
            step = min(_BYTE, shape) if written else 1
            rows = -(-depth // (1 << address - level))
            blocks = -(-rows * (-(-width // step) * step) // shape)
            selected = (rows - 1) * width + (rows if written and rows > 1 else 0)
            found.append((blocks * (_HALF * halves + _OVERHEAD) + _SELECTED * selected, blocks * halves, (rows - 1) * width))
    return min(found)[1:]


def lut_ram(width: int, depth: int) -> tuple[int, int]:
    """LUTs of a memory that is written, cell by cell, and how many cells lie behind each other.

    Four LUTs hold 6 bits by 32 words, or 3 by 64; a single word needs no address, so 8 bits.
    """
    if depth <= 1:
        return 4 * -(-width // 8), 1
    shallow, deep = -(-depth // 32), -(-depth // 64)
    return min((4 * -(-width // 3) * deep, deep), (4 * -(-width // 6) * shallow, shallow))
