"""A matrix product as kernels take it, whatever the layer was: linear, attention or convolution.

    acc(b, m, n) = sum over k of (a(b, m, k) - a_zero) (w(b, n, k) - w_zero) + bias(b, n)
    out(b, m, n) = finish(acc, b, m, n)

A convolution is the same thing with `a` reading the image at the place that row m (batch, out position) and depth k
(tap, channel within the group) name: an implicit GEMM. The functions work on whatever expressions the code
generator's indices are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

IMAGE = "image"
"""Name of a stage that `a` may read: it is to be computed once, in front."""
Expr = Any  # int or an expression of the code generator


@dataclass(frozen=True)
class Product:
    """One product.

    Attributes:
        batch: independent products (heads, groups); 1 if there is one. May be symbolic.
        rows: M, may be symbolic.
        columns: N, per product of the batch; may be symbolic if `w` is no constant.
        taps: places of the depth that lie apart in memory (kernel positions), 1 for matrices.
        channels: depth per tap, so that K = taps * channels; may be symbolic if taps is 1 and `w` no constant.
        a: (b, m, tap, channel) -> element of the left operand, in its own type; outside the image `a_zero`.
        a_type, w_type: element types as NumPy calls them; float32 for real products.
        a_zero, w_zero: what is taken off the elements; 0 for real products.
        w: constant [batch, N, taps, channels], or (b, n, channel) -> element.
        bias: constant [batch, N] int32 or float32, or None.
        finish: (acc, b, m, n) -> element of the output; acc with the bias, int32 or float32.
        out_type: of the output.
        channels_last_groups: the batch are groups of a convolution: the output is [M, batch, N], not [batch, M, N].
    """

    batch: Expr
    rows: Expr
    columns: Expr
    taps: int
    channels: Expr
    a: Callable[[Expr, Expr, Expr, Expr], Expr]
    a_type: str
    w: np.ndarray | Callable[[Expr, Expr, Expr], Expr]
    w_type: str
    finish: Callable[[Expr, Expr, Expr, Expr], Expr]
    out_type: str
    a_zero: int = 0
    w_zero: int = 0
    bias: np.ndarray | None = None
    channels_last_groups: bool = False

    @property
    def real(self) -> bool:
        """True for products of real numbers."""
        return self.a_type.startswith("float")

    @property
    def constant_weight(self) -> bool:
        """True if the right operand is a constant of the program."""
        return isinstance(self.w, np.ndarray)

    @property
    def macs(self) -> Expr:
        """Multiplications."""
        return self.batch * self.rows * self.columns * self.taps * self.channels
