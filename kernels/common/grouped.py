"""Products of real rows with weights that are codes in groups: what `weight_only_linear` and `dynamic_linear` compute.

    real:     out(m, n) = finish(sum over g of scale(n, g) sum over k in g of x(m, k) (w(n, k) - zero(n, g)) + bias(n))
    integer:  the same with x(m, k) = x_scale(m, g) code(m, k), multiplied as integers within a group

Groups divide the depth; weights with a scale per channel are one group. An operand of two terms, its codes and those
of what is left, is two rows whose results are added.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from qcompiler.kernels.common.product import Expr


@dataclass(frozen=True)
class GroupedProduct:
    """One product.

    Attributes:
        rows: M, may be symbolic.
        w: codes [N, K], integers of up to 8 bits.
        scale: float32 [N, groups].
        zero: integers [N, groups].
        group: channels that share a scale; the last group may be shorter.
        a: (m, term, channel) -> float32 element, or code of an integer product.
        terms: of the left operand; 1 for real products.
        a_range: least and largest code; None for real products.
        a_scale: (m, term, group) -> float32, of integer products.
        bias: float32 [N] or None.
        finish: (acc float32, m, n) -> element of the output.
    """

    rows: Expr
    w: np.ndarray
    scale: np.ndarray
    zero: np.ndarray
    group: int
    a: Callable[[Expr, Expr, Expr], Expr]
    terms: int
    a_range: tuple[int, int] | None
    a_scale: Callable[[Expr, Expr, Expr], Expr] | None
    bias: np.ndarray | None
    finish: Callable[[Expr, Expr, Expr], Expr]

    @property
    def columns(self) -> int:
        """N."""
        return int(self.w.shape[0])

    @property
    def channels(self) -> int:
        """K."""
        return int(self.w.shape[1])

    @property
    def groups(self) -> int:
        """How many share no scale."""
        return int(self.scale.shape[1])

    @property
    def real(self) -> bool:
        """True where codes are multiplied by real numbers."""
        return self.a_range is None

    @property
    def macs(self) -> Any:
        """Multiplications."""
        return self.rows * self.columns * self.channels * self.terms
