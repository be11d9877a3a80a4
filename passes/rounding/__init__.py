"""Weights to integers, and corrections of what rounding broke."""
