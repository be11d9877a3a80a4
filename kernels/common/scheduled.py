"""What a kernel library hands back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Scheduled:
    """A kernel as a library made it.

    Attributes:
        function: the scheduled PrimFunc.
        kernel: its name for tables.
        note: tile and instruction.
        slow: why it is slower than the first choice, "" if it is not.
        key: what a tuner's records call it, "" if there is nothing to tune.
    """

    function: Any
    kernel: str
    note: str = ""
    slow: str = ""
    key: str = ""
