// Exponentials by shifts (Li and Gu, arXiv:2207.01405, section 3.2), bit for bit those of qcompiler/ir/ops/integer.py.
#pragma once

#include "qc_device.cuh"

namespace qc {

// About unit 2^bits exp(p / unit) for p <= 0.
__device__ __forceinline__ int64_t shift_exp(int64_t p, int unit, int bits)
{
    p = p + (p >> 1) - (p >> 4);
    const int64_t lowest = -(int64_t)bits * unit;
    p = p < lowest ? lowest : p;
    const int64_t q = -p / unit, r = -p - q * unit;
    return ((2 * (int64_t)unit - r) << (bits - q)) >> 1;
}

}  // namespace qc
