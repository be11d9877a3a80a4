"""The Verilog twin of a dataflow project: emitted from the same units, foldings and integers, for open simulators and synthesis."""
