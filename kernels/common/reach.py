"""What neighbouring windows read of an axis."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reach:
    """Windows along an axis.

    Attributes:
        step: places from one window to the next.
        span: places from the first to the last one of a window, both included.
    """

    step: int
    span: int

    def of(self, windows: int) -> int:
        """Places from the first one of the first of so many windows to the last one of the last."""
        return (windows - 1) * self.step + self.span
