"""Executors: the NumPy reference interpreter (the truth) and the torch executor (fast, differentiable)."""
