"""How kernels go through their data: choices that change instructions and scratch memory, never a result.

The numbers that the bodies are made for are fixed per instruction set. What is chosen per layer is how many rows of a
depthwise convolution are gathered at a time: as many as fit without a larger arena.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from qcompiler.ir import Node

COLUMNS = {"portable": 1, "dsp": 3, "mve": 2}
"""Pixels or rows of a product gathered at a time."""
CHANNEL_BLOCK = {"portable": 16, "dsp": 4, "mve": 16}
"""Channels of a depthwise convolution gathered at a time."""
ROW_BLOCKS = (0, 32, 16, 8, 4, 2, 1)
"""Rows of a depthwise convolution gathered at a time, the fastest first; 0 is all of them."""
USUAL_ROWS = 8
"""Costs little more than all rows."""


@dataclass(frozen=True)
class Schedule:
    """Choices for one program.

    Attributes:
        isa: `portable`, `dsp` or `mve`.
        rows: of depthwise convolutions without a choice of their own.
        chosen: rows by node.
    """

    isa: str
    rows: int = USUAL_ROWS
    chosen: Mapping[Node, int] = field(default_factory=dict)

    @property
    def columns(self) -> int:
        """Pixels of a product."""
        return COLUMNS[self.isa]

    @property
    def channel_block(self) -> int:
        """Channels of a depthwise convolution."""
        return CHANNEL_BLOCK[self.isa]

    def row_block(self, node: Node) -> int:
        """Rows of a depthwise convolution."""
        return self.chosen.get(node, self.rows)
