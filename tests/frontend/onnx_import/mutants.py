"""Damaged model files: bytes changed, cut out, repeated, inserted; from a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator


def mutants(content: bytes, count: int, seed: int) -> Iterator[bytes]:
    """`count` damaged copies of a file."""
    rng = random.Random(seed)
    for _ in range(count):
        data = bytearray(content)
        for _ in range(rng.choice((1, 1, 2, 8))):
            _damage(data, rng)
        yield bytes(data)


def _damage(data: bytearray, rng: random.Random) -> None:
    if not data:
        return
    at = rng.randrange(len(data))
    span = rng.choice((1, 2, 4, 16, 256))
    kind = rng.randrange(6)
    if kind == 0:
        data[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        data[at : at + span] = rng.randbytes(len(data[at : at + span]))
    elif kind == 2:
        del data[at : at + span]
    elif kind == 3:
        data[at:at] = data[at : at + span]
    elif kind == 4:
        data[at : at + span] = b"\xff" * len(data[at : at + span])  # numbers that do not end, sizes beyond the file
    else:
        del data[at:]
