"""Graph-level compiler for quantized model export."""

__version__ = "0.1.0"
