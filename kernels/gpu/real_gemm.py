"""Products of real matrices in float32 (`cuda/qc_real_gemm.cuh`): tiles, or a warp per column for few rows."""

from __future__ import annotations

import numpy as np

from qcompiler.kernels.gpu.launch import (
    Field,
    Kernel,
    Launch,
    View,
    ceil_div,
    ints,
    longs,
    reading,
    writing,
)

TILE = 64
MOST_ROWS = 8
WARPS = 4


def _matrix(view: View) -> list[Field]:
    batch0, batch1, row, column = (s if d != 1 else 0 for s, d in zip(view.strides, view.shape))
    if view.shape[3] == 1:
        column = 1
    return [("p", reading(view)), *longs(row, column, batch0, batch1), *ints(view.dtype == np.float16), ("a", 8)]


def matmul(a: View, b: View, c: View, bias: View | None = None) -> Launch:
    """a [Z0, Z1, M, K], b [Z0, Z1, N, K] with any strides, float32 or float16; c [Z0, Z1, M, N] float32, rows without gaps."""
    (z0, z1, m, k), n = a.shape, b.shape[2]
    fields: list[Field] = [
        *_matrix(a), *_matrix(b), ("p", writing(c)), *longs(c.strides[2], *c.strides[:2]), ("p", reading(bias)), *ints(m, n, k, z1),
    ]  # fmt: skip
    header, struct, work = "qc_real_gemm.cuh", "qc::RealGemmParams", z0 * z1 * m * n * k
    if m <= MOST_ROWS and _together(b.strides[3], k):
        rows = next(r for r in (1, 2, 4, 8) if m <= r)
        kernel = Kernel(f"real_gemm_rows{rows}", header, struct, f"qc::real_rows<{rows}>(p)", 32 * WARPS)
        return Launch(kernel, (ceil_div(n, WARPS), ceil_div(m, rows), z0 * z1), tuple(fields), work)
    kernel = Kernel("real_gemm_tiles", header, struct, "qc::real_tiles(p)", 256)
    return Launch(kernel, (ceil_div(m, TILE), ceil_div(n, TILE), z0 * z1), tuple(fields), work)


def _together(stride: int, size: int) -> bool:
    return stride == 1 or size == 1

