"""Where the time of a search goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

EVALUATIONS = ("measured", "sensitivity", "trials", "probes", "answer")
"""Phases that run the network or parts of it; everything else is overhead."""


class Clock:
    """Wall time by phase. A phase inside another one stops the clock of the outer one.

    Attributes:
        seconds: by phase, in the order in which phases first occurred.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._open: list[str] = []
        self._since = time.perf_counter()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count what happens inside as this phase."""
        self._book()
        self._open.append(name)
        try:
            yield
        finally:
            self._book()
            self._open.pop()

    def _book(self) -> None:
        now = time.perf_counter()
        if self._open:
            name = self._open[-1]
            self.seconds[name] = self.seconds.get(name, 0.0) + now - self._since
        self._since = now


def overhead(seconds: dict[str, float]) -> float:
    """Share of `total` that is no evaluation."""
    total = seconds.get("total", 0.0)
    return 1 - sum(seconds.get(name, 0.0) for name in EVALUATIONS) / total if total else 0.0
