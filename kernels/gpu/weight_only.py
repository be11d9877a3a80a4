"""float16 activations times weights of 4 or 8 bits in groups (`cuda/qc_weight_only.cuh`): few rows, and tiles on tensor cores.

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
    longs,
    reading,
    writing,
)

MOST_ROWS = 8
"""Columns of a product of tensor cores, which rows are."""
WARPS = 8


@dataclass(frozen=True)
class PackedWeights:
    """Weights in fragment order.

    Attributes:
        words: uint32 [N / 16, K / 64, bits / 4, 32 lanes, 4].
        scale, zero: float16 bits [groups, N padded]; `zero` is 1024 + 8 or 128 + zero point.
        factor: float32 [N padded], powers of two by which the scales are smaller than they were.
        n, k: without padding; `padded_n` is a multiple of 16, `padded_k` of 64.
        group: inputs that share a scale.
    """

    words: View
    scale: View
    zero: View
    factor: View
    n: int
    k: int
    padded_n: int
    padded_k: int
    group: int
    bits: int


def pack_weights(
    name: str, codes: np.ndarray, scale: np.ndarray, zero_point: np.ndarray, group: int, bits: int = 4
) -> PackedWeights:
    """Pack signed codes [N, K] of 4 or 8 bits with scales and zero points [N, groups].

    Raises:
        ValueError: the group is no multiple of 16, or codes are wider than `bits`.
    """
    n, k = codes.shape
    most = 1 << (bits - 1)
    if group % 16 or codes.size and (codes.min() < -most or codes.max() >= most):
        raise ValueError(f"weights are codes of {bits} bits in groups of a multiple of 16 inputs, got groups of {group}")
    rows, columns = ceil_div(n, 16) * 16, ceil_div(k, 64) * 64
    padded = np.zeros((rows, columns), np.int8)
    padded[:n, :k] = codes
    groups = ceil_div(columns, group)
    scales, zeros = np.zeros((groups, rows), np.float16), np.full((groups, rows), 1024 + most, np.float16)
    factor = np.ones(rows, np.float32)
    factor[:n] = 2.0 ** np.floor(np.log2(np.maximum(np.abs(scale).max(1, initial=0), 2.0**-100)))
    scales[: scale.shape[1], :n] = (scale / factor[:n, None]).T
    zeros[: scale.shape[1], :n] = 1024 + most + zero_point.T.astype(np.float32)
    return PackedWeights(
        constant(f"{name}.weight", fragment_order(padded, bits).view(np.int32)),
        constant(f"{name}.scale", scales.view(np.int16)),
        constant(f"{name}.zero", zeros.view(np.int16)),
        constant(f"{name}.factor", factor),
        n, k, rows, columns, group, bits,
    )  # fmt: skip


def fragment_order(codes: np.ndarray, bits: int = 4) -> np.ndarray:
    """Words [N / 16, K / 64, bits / 4, 32, 4] of codes [N, K]; see the head of the CUDA source."""
    n, k = codes.shape
    lane = np.arange(32)
    g, t = lane // 4, lane % 4
    blocks = (codes.astype(np.int16) + (1 << (bits - 1))).astype(np.uint32).reshape(n // 16, 16, k // 64, 4, 16).transpose(0, 2, 3, 1, 4)
    words = np.zeros((n // 16, k // 64, 4, bits // 4, 32), np.uint32)  # of 16 inputs: one word or two
    for i in range(4):
        row, column = g + 8 * (i // 2), 2 * t + 8 * (i % 2)
        for half in range(2):
            place, shift = (0, 4 * i + 16 * half) if bits == 4 else (i // 2, 16 * (i % 2) + 8 * half)
            words[:, :, :, place] |= blocks[:, :, :, row, column + half] << np.uint32(shift)
    quads = words.reshape(n // 16, k // 64, bits // 4, 4, 32)
    return np.ascontiguousarray(quads.transpose(0, 1, 2, 4, 3))


def linear(x: View, weights: PackedWeights, bias: np.ndarray | None, y: View) -> Launch:
    """x [M, padded K] float16 bits, zeros beyond K; y [M, N] float32."""
    m = x.shape[0]
    held = None if bias is None else constant("bias", bias.astype(np.float32))
    fields: list[Field] = [
        ("p", reading(x)), ("p", reading(weights.words)), ("p", reading(weights.scale)), ("p", reading(weights.zero)),
        ("p", reading(weights.factor)), ("p", reading(held)), ("p", writing(y)),
        *longs(ceil_div(1 << 32, weights.group // 16)), *ints(m, weights.padded_n, weights.padded_k, weights.n),
    ]  # fmt: skip
    header, struct, work = "qc_weight_only.cuh", "qc::WeightOnlyParams", m * weights.n * weights.k
    name = f"weight_only{weights.bits}"
    if m <= MOST_ROWS:
        kernel = Kernel(f"{name}_rows", header, struct, f"qc::weight_only_rows<{weights.bits}, {WARPS}>(p)", 32 * WARPS)
        return Launch(kernel, (weights.padded_n // 16, 1, 1), tuple(fields), work)
    kernel = Kernel(f"{name}_tiles", header, struct, f"qc::weight_only_tiles<{weights.bits}>(p)", 128)
    return Launch(kernel, (ceil_div(m, 64), ceil_div(weights.padded_n, 64), 1), tuple(fields), work)
