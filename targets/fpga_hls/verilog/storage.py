"""Where constants and rows lie: block RAM or LUTs."""

from __future__ import annotations

BLOCK_DEPTH = 64
"""A LUT of six inputs holds that many bits; shallower memories fill block RAM badly."""
BLOCK_BITS = 4096
"""Fewer bits than that are not worth a block."""


def in_block(width: int, depth: int, storage: str) -> bool:
    """Whether a memory of `depth` words of `width` bits is block RAM; `storage` is one of `stream.STORAGES`."""
    if storage == "auto":
        return depth > BLOCK_DEPTH and width * depth >= BLOCK_BITS
    return storage != "lut"


def queue_depth(words: int) -> int:
    """Of a queue that holds at least so many words: a power of two, 2 or more."""
    return max(2, 1 << max(0, words - 1).bit_length())
