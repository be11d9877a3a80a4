"""Capture: torch.export programs, modules and files become a FLOAT graph."""

from .capture import capture

__all__ = ["capture"]
