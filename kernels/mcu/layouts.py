"""How weights lie in memory for each instruction set, and how they get there. README.md has the layouts in words."""

from __future__ import annotations

from functools import partial

import numpy as np

# Instruction set -> layout of packed weights; qc_isa.h has the same table.
LAYOUTS = {"portable": "plain", "mve": "fours", "dsp": "pairs"}
# The order in which SXTB16 of a word and of the word rotated by 8 give its four bytes.
SXTB16_ORDER = (0, 2, 1, 3)


def pack_weights(weights: np.ndarray, isa: str, groups: int = 1, bits: int = 8) -> np.ndarray:
    """Packed weights of convolution and fully connected layers.

    Args:
        weights: int8 codes [out_channels, K] of `bits` bits, K = (kernel row, kernel column, channel) of one group.
        isa: a key of `LAYOUTS`.
        groups: of the convolution; pairs of channels never reach from one group into the next.
        bits: 8 or 4.

    Returns:
        uint8, one dimension.

    Raises:
        ValueError: codes outside `bits` bits, or groups that do not divide the channels.
    """
    channels, k = weights.shape
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    if weights.size and (weights.min() < low or weights.max() > high):
        raise ValueError(f"weights of {bits} bits lie in [{low}, {high}], got [{weights.min()}, {weights.max()}]")
    if channels % groups:
        raise ValueError(f"{channels} output channels in {groups} groups")
    codes = weights.astype(np.int8)
    layout = LAYOUTS[isa]
    if bits == 4 and layout != "pairs":
        return _nibbles(codes)
    if layout == "plain":
        return codes.reshape(-1).view(np.uint8)
    pack = _fours if layout == "fours" else partial(_pairs, bits=bits)
    parts = [pack(part) for part in codes.reshape(groups, channels // groups, k)]
    return np.concatenate(parts)


def pack_depthwise(weights: np.ndarray, isa: str) -> np.ndarray:
    """Packed weights of a depthwise convolution.

    Args:
        weights: int8 codes [channels, kernel_height * kernel_width].
        isa: a key of `LAYOUTS`.

    Returns:
        uint8, one dimension: [kernel_height * kernel_width, channels].

    Raises:
        KeyError: no such instruction set.
    """
    assert LAYOUTS[isa]
    return np.ascontiguousarray(weights.astype(np.int8).T).reshape(-1).view(np.uint8)


def packed_bytes(channels: int, k: int, isa: str, bits: int = 8) -> int:
    """Bytes of the packed weights of one group of `channels` outputs with k inputs each."""
    if LAYOUTS[isa] != "pairs":
        return channels * ((k * bits + 7) // 8)
    return -(-channels // 2) * -(-k // 4) * bits


def _nibbles(codes: np.ndarray) -> np.ndarray:
    """Two codes per byte, the even k in the low half; rows start at whole bytes."""
    padded = np.pad(codes, ((0, 0), (0, codes.shape[1] % 2))).view(np.uint8) & 15
    return (padded[:, 0::2] | padded[:, 1::2] << 4).reshape(-1)


def _fours(codes: np.ndarray) -> np.ndarray:
    """Filters in fours, the last ones as many as are left; of each four, 16 k of every filter in turn."""
    channels, k = codes.shape
    blocks = [codes[c : c + 4, i : i + 16].reshape(-1) for c in range(0, channels, 4) for i in range(0, k, 16)]
    return np.concatenate(blocks).view(np.uint8)


def _pairs(codes: np.ndarray, bits: int) -> np.ndarray:
    channels, k = codes.shape
    padded = np.pad(codes, ((0, channels % 2), (0, -k % 4)))
    # [pair of channels, four k, k of the four in SXTB16's order, channel of the pair]
    quads = padded.reshape(-1, 2, padded.shape[1] // 4, 4).transpose(0, 2, 3, 1)[:, :, SXTB16_ORDER, :]
    if bits == 8:
        return np.ascontiguousarray(quads).reshape(-1).view(np.uint8)
    unsigned = (quads.astype(np.int64) + 8).reshape(*quads.shape[:2], 2, 2, 2)  # [.., half of the four, k, channel]
    words = np.zeros(quads.shape[:2], np.int64)
    for half in range(2):
        for k_of_half in range(2):
            for channel in range(2):
                words |= unsigned[:, :, half, k_of_half, channel] << (8 * half + 16 * k_of_half + 4 * channel)
    return words.astype("<u4").reshape(-1).view(np.uint8)
