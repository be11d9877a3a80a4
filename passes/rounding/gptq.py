"""The GPTQ engine: rounding of a weight matrix under the second moment of its input.

Minimises tr((W - Q) H (W - Q)^T) for H = sum of x x^T, one column after the other: the error of a rounded column is
spread over the columns not yet rounded through the inverse Cholesky factor of H (Frantar et al. 2023, algorithm 1).
Columns may be taken in order of falling H_jj ("act-order"); groups are static: their scales are fixed before the
first column is rounded, so no index is needed at run time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.linalg.lapack import dtrtri
from torch import Tensor

from qcompiler.targets.saturation import SUM_LIMIT

BLOCK = 32
RETRIES = 6


@dataclass(frozen=True)
class Grid:
    """Codes a weight [N, K] may take: `scale * (q - zero)`, q in [low, high].

    Attributes:
        scale: [N, G] for G groups along K; may be negative.
        zero: [N, G] integers (as floats), 0 for symmetric grids.
        low, high: smallest and largest code.
        group_size: columns per group; the last group may be shorter.
        sets: [S, count] columns whose codes of one sign may sum to `SUM_LIMIT` at most, K for none; None: no limit.
    """

    scale: Tensor
    zero: Tensor
    low: int
    high: int
    group_size: int
    sets: Tensor | None = None

    def real(self, codes: Tensor) -> Tensor:
        """Weights [N, K] that codes stand for."""
        columns = torch.arange(codes.shape[1]) // self.group_size
        return (codes - self.zero[:, columns]) * self.scale[:, columns]

    def of_rows(self, rows: slice) -> Grid:
        """The grid of some rows."""
        return replace(self, scale=self.scale[rows], zero=self.zero[rows])


def inverse_factor(hessian: Tensor, damping: float) -> tuple[Tensor, float]:
    """Upper Cholesky factor U of (H + d mean(diag H) I)^-1, U^T U = inverse, and the damping d that was needed.

    With the rows and columns of H turned round, H = L L^T; turned back, H = R R^T with R upper, so U is R^-1: half the
    work of inverting H and factorising the inverse, and nothing is rounded twice.

    Raises:
        ValueError: H is not finite, or not positive definite even with a damping of 10^RETRIES times the first.
    """
    for lower, tried in _damped_factors(hessian.flip(0, 1), damping):
        upper = lower.flip(0, 1)
        # LAPACK reads columns where torch writes rows: the upper triangle is its lower one
        inverse, info = dtrtri(upper.numpy().T, lower=1)
        if int(info) == 0 and bool(np.isfinite(inverse).all()):
            return torch.from_numpy(np.ascontiguousarray(inverse.T)), tried
    raise ValueError(f"the second moment is not positive definite even with damping {damping * 10**RETRIES:g}")


def solve_damped(hessian: Tensor, right: Tensor, damping: float) -> Tensor:
    """Right [N, K] times (H + d mean(diag H) I)^-1, in float64; d as in `inverse_factor`.

    Raises:
        ValueError: as `inverse_factor`.
    """
    for lower, _ in _damped_factors(hessian.to(torch.float64), damping):
        return torch.cholesky_solve(right.to(torch.float64).T, lower).T
    raise ValueError(f"the second moment is not positive definite even with damping {damping * 10**RETRIES:g}")


def _damped_factors(hessian: Tensor, damping: float) -> Iterator[tuple[Tensor, float]]:
    """Lower Cholesky factors of H + d mean(diag H) I for the d that have one, tenfold larger each time.

    Raises:
        ValueError: H is not finite.
    """
    if not bool(torch.isfinite(hessian).all()):
        raise ValueError("the second moment of the layer's input is not finite")
    mean = max(float(hessian.diagonal().mean()), 1e-30)
    tried = damping
    for _ in range(RETRIES + 1):
        lower, info = torch.linalg.cholesky_ex(hessian + tried * mean * torch.eye(len(hessian), dtype=hessian.dtype))
        if int(info) == 0:
            yield lower, tried
        tried = max(tried, 1e-6) * 10


@dataclass(frozen=True)
class Factor:
    """What all layers that read one value share: the order of their columns, and U for that order.

    Attributes:
        order: [K] columns as they are taken.
        upper: [K, K] of `inverse_factor`, rows and columns in that order.
        damping: that was needed.
    """

    order: Tensor
    upper: Tensor
    damping: float


def factorize(hessian: Tensor, damping: float = 0.01, act_order: bool = True) -> Factor:
    """Factorise H [K, K] (float64 inside) with columns by falling H_jj, or as they are.

    Columns whose input is always zero (H_jj = 0) get H_jj = 1: nothing can be said about them.

    Raises:
        ValueError: as `inverse_factor`.
    """
    h = hessian.to(torch.float64).clone()
    dead = h.diagonal() == 0
    h[dead, dead] = 1.0
    order = torch.argsort(h.diagonal(), descending=True, stable=True) if act_order else torch.arange(len(h))
    upper, used = inverse_factor(h[order][:, order], damping)
    return Factor(order, upper, used)


def gptq(
    weight: Tensor,
    hessian: Tensor,
    grid: Grid,
    damping: float = 0.01,
    act_order: bool = True,
    block: int = BLOCK,
) -> tuple[Tensor, float]:
    """Codes [N, K] (int64) and the damping used.

    Columns whose input is always zero (H_jj = 0) are rounded to nearest.

    Args:
        weight: [N, K] real.
        hessian: [K, K], sum or mean of x x^T; its scale does not matter.
        grid: admissible codes.
        damping: share of the mean diagonal added to the diagonal; raised tenfold while Cholesky fails.
        act_order: take columns by falling H_jj.
        block: columns between updates of the rest; a matter of speed only.
    """
    factor = factorize(hessian, damping, act_order)
    return round_columns(weight, factor, grid, block)[0], factor.damping


def round_columns(weight: Tensor, factorized: Factor, grid: Grid, block: int = BLOCK) -> tuple[Tensor, float]:
    """The loop over columns: codes [N, K] (int64), and their `objective` under the damped H, which comes for nothing.

    Computed in the factor's dtype.
    """
    order, factor = factorized.order, factorized.upper
    w = weight.to(factor.dtype).T[order].contiguous()  # [K, N]: a column of the weight is a row here
    scales, zeros = grid.scale.to(w.dtype).T.contiguous(), grid.zero.to(w.dtype).T.contiguous()
    divisors, shifted = factor.diagonal().tolist(), bool(zeros.any())
    columns, groups = order.tolist(), (order // grid.group_size).tolist()
    settled = None if grid.sets is None else _Settled(grid.sets, w)
    codes, total = torch.zeros_like(w), 0.0
    for start in range(0, len(w), block):
        stop = min(start + block, len(w))
        errors = torch.empty(stop - start, w.shape[1], dtype=w.dtype)
        for j in range(start, stop):
            scale, zero = scales[groups[j]], zeros[groups[j]]
            code, error = codes[j], errors[j - start]
            torch.div(w[j], scale, out=code).round_()
            if shifted:
                code.add_(zero)
            code.clamp_(grid.low, grid.high)
            if settled is not None:
                settled.limit(code, columns[j])
            torch.mul(code - zero if shifted else code, scale, out=error)
            torch.sub(w[j], error, out=error).div_(divisors[j])
            if j + 1 < stop:
                w[j + 1 : stop].addr_(factor[j, j + 1 : stop], error, alpha=-1)
        total += float(errors.square().sum())
        w[stop:].addmm_(factor[start:stop, stop:].T, errors, alpha=-1)
    found = torch.empty_like(codes)
    found[order] = codes
    return found.T.to(torch.int64).contiguous(), total


class _Settled:
    """What the codes found so far leave to the others of their sets. sets [S, count]; w [K, N]."""

    def __init__(self, sets: Tensor, w: Tensor) -> None:
        members = torch.zeros(len(w) + 1, dtype=torch.int64)
        members[sets.flatten()] = torch.arange(len(sets)).repeat_interleave(sets.shape[1])
        self.members = members.tolist()
        self.above = w.new_full((len(sets), w.shape[1]), SUM_LIMIT)
        self.below = -self.above

    def limit(self, code: Tensor, column: int) -> None:
        """Cut the codes of a column to what is left of either sign, and take them off that."""
        above, below = self.above[self.members[column]], self.below[self.members[column]]
        torch.maximum(torch.minimum(code, above, out=code), below, out=code)
        above.sub_(code.clamp_min(0))
        below.sub_(code.clamp_max(0))


def refit_scales(
    weight: Tensor, codes: Tensor, hessian: Tensor, grid: Grid, product: Tensor | None = None, ridge: float = 1e-6
) -> Tensor:
    """Scales [N, G] that minimise tr((W - Q) H (W - Q)^T) for given codes: one least-squares problem per row.

    Sums in H's dtype, the systems in float64; `ridge` is relative to each diagonal element, as groups may differ by many
    orders of magnitude. Rows whose system is singular (a group of zeros only) keep their scales.

    Args:
        weight: W [N, K].
        codes: [N, K].
        hessian: H [K, K].
        grid: of the codes.
        product: W H, where it is known.
        ridge: share of the diagonal added to it.
    """
    groups, size = grid.scale.shape[1], grid.group_size
    columns = torch.arange(weight.shape[1]) // size
    q = codes.to(hessian.dtype) - grid.zero[:, columns].to(hessian.dtype)
    normal = torch.zeros(len(q), groups, groups, dtype=torch.float64)
    for g in range(groups):  # H is symmetric: from the diagonal on
        start = g * size
        part = (q[:, start : start + size] @ hessian[start : start + size, start:]).mul_(q[:, start:])
        normal[:, g, g:] = _group_sums(part, size)
        normal[:, g:, g] = normal[:, g, g:]
    product = weight.to(hessian.dtype) @ hessian if product is None else product
    right = _group_sums(product * q, size).to(torch.float64)
    diagonal = normal.diagonal(dim1=1, dim2=2)
    usable = (diagonal > 0).all(1)
    diagonal *= 1 + ridge
    normal[~usable] = torch.eye(groups, dtype=normal.dtype)
    scale = torch.linalg.solve(normal, right[..., None])[..., 0]
    usable &= torch.isfinite(scale).all(1) & (scale != 0).all(1)
    return torch.where(usable[:, None], scale, grid.scale.to(scale.dtype))


def _group_sums(x: Tensor, size: int) -> Tensor:
    """[N, K] summed over groups of columns, the last of which may be shorter: [N, G]."""
    padded = torch.nn.functional.pad(x, (0, -x.shape[1] % size)) if x.shape[1] % size else x
    return padded.unflatten(1, (-1, size)).sum(2)


class GramSum:
    """Sums of x^T x and d^T x over many parts of rows [n, K], float64.

    Parts are summed in float32, a few at a time, and x^T x, being symmetric, in panels above the diagonal only.
    """

    PANEL, PARTS = 192, 4

    def __init__(self, channels: int) -> None:
        self.second, self.drift = torch.zeros(2, channels, channels, dtype=torch.float64)
        self._buffers: dict[str, Tensor] = {}
        self._pending: dict[str, int] = {}

    def add(self, x: Tensor) -> None:
        """Count x^T x in."""
        buffer = self._buffer("second", x)
        for start in range(0, x.shape[1], self.PANEL):
            stop = start + self.PANEL
            buffer[start:stop, start:].addmm_(x[:, start:stop].T, x[:, start:])
        self._added("second")

    def add_drift(self, d: Tensor, x: Tensor) -> None:
        """Count d^T x in."""
        self._buffer("drift", x).addmm_(d.T, x)
        self._added("drift")

    def totals(self) -> tuple[Tensor, Tensor]:
        """Sum of x^T x, and of d^T x."""
        for name in list(self._buffers):
            self._flush(name)
        upper = torch.triu(self.second)
        return upper + torch.triu(self.second, 1).T, self.drift

    def _buffer(self, name: str, x: Tensor) -> Tensor:
        if name not in self._buffers:
            self._buffers[name] = torch.zeros(x.shape[1], x.shape[1], dtype=x.dtype)
        return self._buffers[name]

    def _added(self, name: str) -> None:
        self._pending[name] = self._pending.get(name, 0) + 1
        if self._pending[name] == self.PARTS:
            self._flush(name)

    def _flush(self, name: str) -> None:
        total: Tensor = getattr(self, name)
        total += self._buffers[name]
        self._buffers[name].zero_()
        self._pending[name] = 0


def objective(weight: Tensor, approximation: Tensor, hessian: Tensor) -> float:
    """tr((W - Q) H (W - Q)^T), products in H's dtype."""
    error = (weight - approximation).to(hessian.dtype)
    return float(((error @ hessian) * error).sum(dtype=torch.float64))
