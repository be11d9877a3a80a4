"""Give memory that was freed back to the system.

glibc keeps what is freed for later requests. Activations of many sizes leave gaps into which the next ones do not fit, so
over the samples of a long calibration the process may grow to several times what is alive at any moment.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

STATM = Path("/proc/self/statm")
GROWTH = 256 << 20
"""Bytes that a process may grow before its heap is looked through, which costs about a millisecond per gigabyte."""


class FreedMemory:
    """Watches the resident size of the process; does nothing where the C library or the system has no means."""

    def __init__(self, growth: int = GROWTH) -> None:
        self.growth = growth
        self._least = resident_bytes()

    def give_back(self) -> bool:
        """Called between runs. True if the process had grown and the heap was trimmed."""
        trim = _malloc_trim()
        if trim is None or resident_bytes() < self._least + self.growth:
            return False
        trim(0)
        self._least = resident_bytes()
        return True


def resident_bytes() -> int:
    """Physical memory of this process, 0 where the system does not say."""
    try:
        return int(STATM.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    """glibc's; None in another C library."""
    try:
        found: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return None
    return found
