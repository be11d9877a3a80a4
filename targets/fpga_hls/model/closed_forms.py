"""Resources and cycles by the closed forms that FINN and hls4ml publish, as pure functions.

They are what the peers' own tools estimate with; `resources` has what our units take.

- FINN: Umuroglu et al. (arXiv:1612.07119) and Blott et al. (arXiv:1809.04570), the matrix-vector-activation unit.
- hls4ml: Duarte et al. (arXiv:1804.06913), `Resource` strategy.
"""

from __future__ import annotations

import math


def finn_cycles(rows: int, columns: int, pe: int, simd: int, vectors: int = 1) -> int:
    """Cycles of a matrix of `rows` by `columns`, `pe` rows and `simd` columns at once."""
    return (rows // pe) * (columns // simd) * vectors


def finn_acc_bits(columns: int, weight_bits: int, act_bits: int, signed: bool) -> int:
    """Accumulator of a sum of `columns` products."""
    alpha = math.log2(columns) + weight_bits + act_bits - 1 - int(signed)
    return math.ceil(alpha + math.log2(1 + 2**-alpha) + 1)


def finn_luts_per_product(weight_bits: int, act_bits: int) -> int:
    """Of a multiplier in LUTs."""
    width = weight_bits + act_bits
    return (2 * math.ceil(width / 6) - 1) * width


def finn_luts(
    pe: int, simd: int, weight_bits: int, act_bits: int, acc_bits: int, dsp: bool = False, words: int = 0
) -> int:
    """LUTs of the unit; `dsp`: products are in DSP blocks; `words` > 0: that many weight words lie in LUT memory."""
    width = weight_bits + act_bits
    product = 0 if dsp else simd * finn_luts_per_product(weight_bits, act_bits)
    total = 300 + 1.1 * pe * (product + width * (2 * simd - 1) + acc_bits)
    return math.ceil(total + pe * simd * weight_bits * math.ceil(words / 64))


def finn_dsp(pe: int, simd: int, weight_bits: int, act_bits: int) -> int:
    """DSP blocks of the HLS unit: one per product of up to 48 bits together."""
    return pe * simd * math.ceil((weight_bits + act_bits) / 48)


def finn_bram18(width: int, depth: int) -> int:
    """Blocks of 18 Kbit of a memory."""
    if width == 1:
        return math.ceil(depth / 16384)
    if width == 2:
        return math.ceil(depth / 8192)
    if width <= 4:
        return math.ceil(depth / 4096) * math.ceil(width / 4)
    if width <= 9:
        return math.ceil(depth / 2048) * math.ceil(width / 9)
    if width <= 18 or depth > 512:
        return math.ceil(depth / 1024) * math.ceil(width / 18)
    return math.ceil(depth / 512) * math.ceil(width / 36)


def finn_uram(width: int, depth: int) -> int:
    """Blocks of 288 Kbit of a memory."""
    return math.ceil(width / 72) * math.ceil(depth / 4096)


def hls4ml_reuse_factors(n_in: int, n_out: int) -> list[int]:
    """Legal reuse factors of a dense layer, ascending."""
    total = n_in * n_out
    return [factor for factor in range(1, total + 1) if _legal_reuse(factor, n_in, n_out)]


def _legal_reuse(factor: int, n_in: int, n_out: int) -> bool:
    total = n_in * n_out
    if total % factor or not (factor < n_in or factor % n_in == 0):
        return False
    return factor >= n_in or math.ceil(total / min(n_in, factor)) % n_out == 0


def hls4ml_dsp(n_in: int, n_out: int, reuse: int, weight_bits: int) -> int:
    """DSP blocks of a dense layer; narrow products go to LUTs."""
    return math.ceil(n_in * n_out / reuse) if weight_bits >= 9 else 0


def hls4ml_bram36(n_in: int, n_out: int, reuse: int, weight_bits: int) -> int:
    """Blocks of 36 Kbit of a dense layer's weights: each is 36 bits wide."""
    return math.ceil(n_in * n_out * weight_bits / (36 * reuse)) if reuse > 1 else 0
