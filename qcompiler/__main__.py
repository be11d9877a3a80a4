"""`python -m qcompiler` is the console script."""

from qcompiler.cli import main

main()
