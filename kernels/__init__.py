"""Kernels owned by the compiler. Import as `qcompiler.kernels`."""
