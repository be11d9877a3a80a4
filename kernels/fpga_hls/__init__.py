"""Streaming units for FPGAs: C++ for high-level synthesis, and their Verilog twins."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
HEADERS = tuple(sorted(path.name for path in FOLDER.glob("*.h")))
"""All of them go into every project; those that nothing includes cost nothing."""
