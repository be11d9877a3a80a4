"""float16 activations times 4-bit weights in groups (`cuda/qc_weight_only.cuh`): few rows, and tiles on tensor cores.

Both read the same weights, packed offline in the order in which the lanes of a warp multiply them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qcompiler.kernels.gpu.launch import (
    Field,
    Kernel,
    Launch,
    View,
    ceil_div,
    constant,
    ints,
    reading,
    writing,
)

MOST_ROWS = 8
WARPS = 8


@dataclass(frozen=True)
class PackedWeights:
    """Weights in fragment order.

    Attributes:
        words: uint32 [N / 16, K / 64, 32 lanes, 4].
        scale, zero: float16 bits [groups, N padded]; `zero` is 1032 + zero point.
        n, k: without padding; `padded_n` is a multiple of 16, `padded_k` of 64.
        group: inputs that share a scale.
    """

    words: View
    scale: View
    zero: View
    n: int
    k: int
    padded_n: int
    padded_k: int
    group: int


def pack_weights(name: str, codes: np.ndarray, scale: np.ndarray, zero_point: np.ndarray, group: int) -> PackedWeights:
    """Pack codes [N, K] in -8..7 with scales and zero points [N, groups].

    Raises:
        ValueError: the group is no multiple of 16, or codes are wider than 4 bits.
    """
    n, k = codes.shape
    if group % 16 or codes.size and (codes.min() < -8 or codes.max() > 7):
        raise ValueError(f"weights are codes of 4 bits in groups of a multiple of 16 inputs, got groups of {group}")
    rows, columns = ceil_div(n, 16) * 16, ceil_div(k, 64) * 64
    padded = np.zeros((rows, columns), np.int8)
    padded[:n, :k] = codes
    groups = ceil_div(columns, group)
    scales, zeros = np.zeros((groups, rows), np.float16), np.full((groups, rows), 1032, np.float16)
    scales[: scale.shape[1], :n] = scale.T
    zeros[: scale.shape[1], :n] = 1032 + zero_point.T.astype(np.float32)
    return PackedWeights(
        constant(f"{name}.weight", fragment_order(padded).view(np.int32)),
        constant(f"{name}.scale", scales.view(np.int16)),
        constant(f"{name}.zero", zeros.view(np.int16)),
        n, k, rows, columns, group,
    )  # fmt: skip


def fragment_order(codes: np.ndarray) -> np.ndarray:
    """Words [N / 16, K / 64, 32, 4] of codes [N, K]; see the head of the CUDA source."""
    n, k = codes.shape
    lane = np.arange(32)
    g, t = lane // 4, lane % 4
    blocks = (codes.astype(np.int16) + 8).astype(np.uint32).reshape(n // 16, 16, k // 64, 4, 16).transpose(0, 2, 3, 1, 4)
    words = np.zeros((n // 16, k // 64, 4, 32), np.uint32)
    for i in range(4):
        row, column = g + 8 * (i // 2), 2 * t + 8 * (i % 2)
        for half in range(2):
            words |= blocks[:, :, :, row, column + half] << np.uint32(4 * i + 16 * half)
    return np.ascontiguousarray(words.transpose(0, 1, 3, 2))


def linear(x: View, weights: PackedWeights, bias: np.ndarray | None, y: View, rows: int | None = None) -> Launch:
    """x [M, padded K] float16 bits, zeros beyond K; y [M, N] float32. `rows` = 0 takes tensor cores, else rows at a time."""
    m = x.shape[0]
    if rows is None:
        rows = next((r for r in (1, 2, 4, 8) if m <= r), 0)
    held = None if bias is None else constant("bias", bias.astype(np.float32))
    fields: list[Field] = [
        ("p", reading(x)), ("p", reading(weights.words)), ("p", reading(weights.scale)), ("p", reading(weights.zero)),
        ("p", reading(held)), ("p", writing(y)), *ints(m, weights.padded_n, weights.padded_k, weights.group, weights.n),
    ]  # fmt: skip
    header, struct, work = "qc_weight_only.cuh", "qc::WeightOnlyParams", m * weights.n * weights.k
    if rows:
        kernel = Kernel(f"weight_only_rows{rows}", header, struct, f"qc::weight_only_rows<{rows}, {WARPS}>(p)", 32 * WARPS)
        return Launch(kernel, (weights.padded_n // 16, ceil_div(m, rows), 1), tuple(fields), work)
    kernel = Kernel("weight_only_tiles", header, struct, "qc::weight_only_tiles(p)", 128)
    return Launch(kernel, (ceil_div(m, 64), ceil_div(weights.padded_n, 64), 1), tuple(fields), work)
