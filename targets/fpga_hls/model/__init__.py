"""Clocks, resources and foldings of dataflow projects, as closed forms."""
