"""Verilog-2005 modules of the streaming units, one idea per file."""

from pathlib import Path

FOLDER = Path(__file__).parent
SOURCES = (
    "qc_memory.v", "qc_fifo.v", "qc_sum.v", "qc_rescale.v", "qc_mvu.v", "qc_window.v", "qc_elementwise.v", "qc_pool.v",
    "qc_plumbing.v",
)  # fmt: skip
"""What is synthesised."""
BENCH = "qc_bench.v"
"""For simulation only."""
