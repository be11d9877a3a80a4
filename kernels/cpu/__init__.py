"""Kernels for CPUs: descriptions in TVM's tensor expressions, with schedules and tile spaces of our own."""
