"""The peak of the tensor cores on int8 (`cuda/qc_peak.cuh`)."""

from __future__ import annotations

from qcompiler.kernels.gpu.launch import Kernel, Launch, View, ints, writing

CHAINS, THREADS = 8, 256
PRODUCTS = 16 * 8 * 32
"""Of one instruction of a warp."""


def peak(out: View, steps: int) -> Launch:
    """out [blocks, THREADS] int32: every thread adds 32 ones in each of 4 `CHAINS` sums per step."""
    blocks = out.shape[0]
    kernel = Kernel("peak_products", "qc_peak.cuh", "qc::PeakParams", f"qc::peak_products<{CHAINS}>(p)", THREADS)
    work = blocks * THREADS // 32 * CHAINS * steps * PRODUCTS
    return Launch(kernel, (blocks, 1, 1), (("p", writing(out)), *ints(steps, 0x01010101)), work)
