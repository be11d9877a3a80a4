"""Streaming units for FPGAs: C++ for high-level synthesis, and their Verilog twins."""
