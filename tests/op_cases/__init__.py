"""One list of cases per op, shared by every body of the op: reference, torch, and each target's kernels.

A case is a graph of one node with random operands. Sizes are small; edges are what the list is for: negative
axes, broadcasting, pads of every kind, dilation, groups, ceil mode, symbolic dimensions, empty tensors.
"""

from __future__ import annotations

from .case import OpCase, Operand, case
from .elementwise import elementwise
from .integer import integer
from .layers import linear, norm, pool
from .movement import movement, reduce
from .quantized import quantized

CASES: list[OpCase] = [*elementwise(), *movement(), *reduce(), *linear(), *pool(), *norm(), *quantized(), *integer()]

__all__ = ["CASES", "OpCase", "Operand", "case"]
