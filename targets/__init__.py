"""Compilation targets, one family per folder. Import as `qcompiler.targets`."""
