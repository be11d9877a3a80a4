"""Words of streams and memories as text for `$readmemh`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np


def pack(codes: np.ndarray, bits: int) -> list[int]:
    """Words of [words, lanes] integers of `bits` bits each, two's complement, lane 0 in the low bits.

    Raises:
        ValueError: an integer needs more bits.
    """
    codes = np.asarray(codes, np.int64)
    if codes.size and (codes.min() < -(1 << (bits - 1)) or codes.max() >= 1 << bits):
        raise ValueError(f"[{codes.min()}, {codes.max()}] does not fit {bits} bits")
    planes = (codes[:, :, None] >> np.arange(bits)) & 1
    data = np.packbits(planes.reshape(len(codes), codes.shape[1] * bits).astype(np.uint8), axis=1, bitorder="little")
    return [int.from_bytes(row.tobytes(), "little") for row in data]


def unpack(words: Sequence[int], lanes: int, bits: int, signed: bool) -> np.ndarray:
    """The reverse of `pack`: [words, lanes] int64."""
    size = -(-lanes * bits // 8)
    data = np.frombuffer(b"".join(word.to_bytes(size, "little") for word in words), np.uint8).reshape(len(words), size)
    planes = np.unpackbits(data, axis=1, bitorder="little")[:, : lanes * bits].reshape(len(words), lanes, bits)
    codes = (planes.astype(np.int64) << np.arange(bits)).sum(-1)
    return codes - ((codes >> (bits - 1) & 1) << bits) if signed else codes


def fields(parts: Iterable[tuple[np.ndarray, int]]) -> np.ndarray:
    """Rows of bits [rows, sum of widths], low bit first, of columns of integers: (column [rows], width), low part first."""
    columns = [(np.asarray(column, np.int64)[:, None] >> np.arange(width)) & 1 for column, width in parts if width]
    return np.concatenate(columns, axis=1)


def hex_text(words: Iterable[int]) -> str:
    """One word per line. The last line ends too: a simulator may drop it otherwise."""
    return "".join(f"{word:x}\n" for word in words)
