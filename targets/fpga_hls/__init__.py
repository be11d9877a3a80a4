"""Streaming dataflow on FPGAs: a project for Vitis HLS, simulated in C on any machine."""
