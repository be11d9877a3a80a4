"""Orthogonal matrices to rotate channels with: Hadamard where the size has one, blocks of it otherwise.

A Hadamard matrix spreads every channel evenly over all others with entries +-1/sqrt(n). Known here: powers of two
(Sylvester), q + 1 for a prime q = 3 mod 4 (Paley I), 2 (q + 1) for a prime q = 1 mod 4 (Paley II), and their products
with powers of two. A random sign per channel first (H diag(+-1)) keeps constant vectors from becoming outliers
(Ashkboos et al. 2024, "QuaRot", section 3). All float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.linalg import block_diag

RotationKind = Literal["hadamard", "random"]


@dataclass(frozen=True)
class Rotation:
    """An orthogonal matrix [n, n] and what is worth saying about it ("" where it is what was asked for)."""

    matrix: np.ndarray
    note: str = ""


def rotation(size: int, kind: RotationKind, rng: np.random.Generator) -> Rotation:
    """A random rotation of `size` channels.

    Sizes without a known Hadamard matrix get a block-diagonal one of the largest block that divides them.
    """
    if kind == "random":
        q, r = np.linalg.qr(rng.standard_normal((size, size)))
        return Rotation(q * np.where(np.diag(r) < 0, -1.0, 1.0))
    block = largest_block(size)
    matrix = block_diag(*[hadamard(block)] * (size // block)) * rng.choice([-1.0, 1.0], size)[:, None]
    note = ""
    if block != size:
        note = f"no Hadamard matrix of size {size} is known here: block-diagonal, {size // block} blocks of {block}"
    return Rotation(matrix, note)


def largest_block(size: int) -> int:
    """The largest divisor of `size` that has a Hadamard matrix."""
    return next(n for n in range(size, 0, -1) if size % n == 0 and _core(n) is not None)


def hadamard(size: int) -> np.ndarray:
    """H / sqrt(n), float64, orthogonal.

    Raises:
        ValueError: none is known for this size.
    """
    core = _core(size)
    if core is None:
        raise ValueError(f"no Hadamard matrix of size {size} is known here")
    matrix = _paley(core)
    while len(matrix) < size:
        matrix = np.kron([[1.0, 1.0], [1.0, -1.0]], matrix)
    return matrix / np.sqrt(size)


def _core(size: int) -> int | None:
    """Size of the matrix that doubling starts from; None if there is none."""
    while size >= 1:
        if size <= 2 or (size % 4 == 0 and (_is_prime(size - 1) or _is_paley_two(size))):
            return size
        if size % 2:
            return None
        size //= 2
    return None


def _is_paley_two(size: int) -> bool:
    q = size // 2 - 1
    return size % 4 == 0 and q % 4 == 1 and _is_prime(q)


def _is_prime(n: int) -> bool:
    return n > 1 and all(n % d for d in range(2, int(n**0.5) + 1))


def _paley(size: int) -> np.ndarray:
    """A Hadamard matrix of a core size, entries +-1 (Paley 1933)."""
    if size == 1:
        return np.ones((1, 1))
    if size == 2:
        return np.array([[1.0, 1.0], [1.0, -1.0]])
    if _is_prime(size - 1):
        q = size - 1
        skew = np.zeros((size, size))
        skew[0, 1:], skew[1:, 0], skew[1:, 1:] = 1, -1, _jacobsthal(q)
        return skew + np.eye(size)
    q = size // 2 - 1
    conference = np.zeros((q + 1, q + 1))
    conference[0, 1:] = conference[1:, 0] = 1
    conference[1:, 1:] = _jacobsthal(q)
    return np.kron(conference, [[1.0, 1.0], [1.0, -1.0]]) + np.kron(np.eye(q + 1), [[1.0, -1.0], [-1.0, -1.0]])


def _jacobsthal(q: int) -> np.ndarray:
    """Quadratic residue symbol of i - j modulo the prime q."""
    symbol = np.full(q, -1.0)
    symbol[[i * i % q for i in range(1, q)]] = 1
    symbol[0] = 0
    index = np.arange(q)
    return symbol[(index[:, None] - index) % q]
