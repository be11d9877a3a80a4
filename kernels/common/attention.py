"""What the description of cached attention and its schedule agree on."""

from __future__ import annotations

PREFIX = "attention_"
TILE, DEPTH = 16, 16
"""Keys of a tile, and elements of the depth that are multiplied side by side."""
LOWEST = -3.0e38
"""Score of what is not looked at."""


def stage(name: str) -> str:
    """Name of a stage of the kernel."""
    return PREFIX + name
