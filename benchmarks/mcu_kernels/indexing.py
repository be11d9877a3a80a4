"""Cases of rows by their numbers, and of truth values."""

from __future__ import annotations

import numpy as np

from . import draw
from .case import Call, Case


def gather(rng: draw.Rng, profile: str) -> Case:
    """Rows of any size; numbers from the end, and some outside the table."""
    rows, size, count = (int(v) for v in rng.integers(1, 30, 3))
    table = rng.integers(-128, 128, (rows, size)).astype(np.int8)
    index = rng.integers(-rows, rows, count).astype(np.int32)
    if rng.random() < 0.2:
        index[0] = rng.choice([-(2**31), 2**31 - 1])
    chosen = np.clip(np.where(index < 0, index.astype(np.int64) + rows, index), 0, rows - 1)
    scalars = (count, rows, size)
    return Case("gather_rows", profile, table[chosen], lambda isa: Call(scalars, (table, index)), {"scalars": scalars})


def not_zero(rng: draw.Rng, profile: str) -> Case:
    """Any integers."""
    x = rng.integers(-2, 3, int(rng.integers(1, 60))).astype(np.int32) * int(rng.choice([1, 1 << 29]))
    return Case("not_zero", profile, (x != 0).astype(np.uint8), lambda isa: Call((), (x,)))


def logical_and(rng: draw.Rng, profile: str) -> Case:
    """The second operand sometimes repeated."""
    period, repeat = int(rng.integers(1, 40)), int(rng.choice([1, 1, 3]))
    a, b = (rng.integers(0, 2, shape).astype(np.uint8) for shape in ((repeat, period), (1, period)))
    return Case("logical_and", profile, a & b, lambda isa: Call((a.size, period), (a, b)))


def where(rng: draw.Rng, profile: str) -> Case:
    """Codes of 8 or 16 bits, operands repeated, single numbers among them; the first one in place sometimes."""
    period, repeat = int(rng.integers(1, 30)), int(rng.choice([1, 1, 3]))
    bits = int(rng.choice([8, 8, 16]))
    lengths = [int(rng.choice([1, period, period * repeat])) for _ in range(3)]
    a, b = (draw.wide_codes(rng, (n,), bits) for n in lengths[:2])
    condition = rng.integers(0, 2, lengths[2]).astype(np.uint8)
    count = period * repeat
    c, x, y = (np.tile(v, count // len(v)) for v in (condition, a, b))
    scalars = (count, lengths[2], lengths[0], lengths[1], bits)
    offset = 0 if lengths[0] == count and rng.random() < 0.5 else -1
    return Case("where", profile, np.where(c, x, y), lambda isa: Call(scalars, (a, b, condition), 0, offset), {"scalars": scalars})
