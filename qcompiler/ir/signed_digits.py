"""Integers as sums of few signed powers of two: a product with one is that many shifts and additions.

    code = sum of at most K terms +-2^p,  0 <= p <= bits - 2

Such codes are int codes like any other; what is special is only that few of their signed digits are not zero. ("K-hot"
weights, as in quantization for FPGAs without multipliers.)
"""

from __future__ import annotations

from functools import cache

import numpy as np

MOST_DIGITS = 3


@cache
def _spellings(bits: int) -> dict[int, tuple[int, ...]]:
    """A shortest sum for every code of `bits` bits: its terms, each +-2^p."""
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1
    terms = [sign << place for place in range(bits - 2, -1, -1) for sign in (1, -1)]
    found: dict[int, tuple[int, ...]] = {0: ()}
    newest = [0]
    while newest:
        reached = []
        for code in newest:
            for term in terms:
                if low <= code + term <= high and code + term not in found:
                    found[code + term] = (*found[code], term)
                    reached.append(code + term)
        newest = reached
    return found


def digit_counts(bits: int) -> np.ndarray:
    """Least number of terms of every code from -2^(bits-1) to 2^(bits-1) - 1, int64."""
    spelled = _spellings(bits)
    return np.array([len(spelled[code]) for code in range(-(1 << bits - 1), 1 << bits - 1)])


def codes_of_digits(bits: int, digits: int) -> np.ndarray:
    """The codes of at most `digits` terms, ascending and symmetric about 0."""
    codes = np.arange(-(1 << bits - 1), 1 << bits - 1)
    return codes[(digit_counts(bits) <= digits) & (codes >= -codes[-1])]


def most_digits(codes: np.ndarray, bits: int) -> int:
    """Terms of the code that needs most of them."""
    return int(digit_counts(bits)[np.asarray(codes, np.int64) + (1 << bits - 1)].max(initial=0))


def spell(codes: np.ndarray, bits: int, digits: int) -> np.ndarray:
    """Terms [..., digits] of codes, each +-2^p or 0.

    Raises:
        ValueError: a code needs more.
    """
    spelled = _spellings(bits)
    longest = most_digits(codes, bits)
    if longest > digits:
        raise ValueError(f"a code needs {longest} signed digits, {digits} are given")
    table = np.zeros((1 << bits, digits), np.int64)
    for code, terms in spelled.items():
        if len(terms) <= digits:
            table[code + (1 << bits - 1), : len(terms)] = terms
    return table[np.asarray(codes, np.int64) + (1 << bits - 1)]
