// What a product computes from its codes before they are written: a table, or the sum with a residual.
//
// The integers are those of the ops one by one: the codes are rounded and clipped in between.
#pragma once

#include "qc_requantize.cuh"

namespace qc {

struct After {
    const void *table;         // [256] of the type of the result, from the smallest code on
    const void *other;         // the other operand of a sum; lies as the result does
    int64_t own, others;       // multipliers; of SUM_FLOAT32 the bits of float32
    int32_t other_wide;        // int16, else int8
    int32_t own_zero, other_zero, shift, zero_point, low, high;  // of SUM_FLOAT32 `own_zero` is the bits of what all zero points add
};

enum Next { NOTHING, TABLE_AFTER, SUM_DYADIC, SUM_HALF_EVEN, SUM_FLOAT32 };

// The result at element `at` of the output; `there`: the output has such an element.
template <int NEXT, class OUT>
__device__ __forceinline__ OUT next(const After &a, int code, int64_t at, bool there)
{
    if (NEXT == TABLE_AFTER)
        return ((const OUT *)a.table)[code + 128];
    if (!there)
        return (OUT)code;
    const int other = a.other_wide ? ((const int16_t *)a.other)[at] : ((const int8_t *)a.other)[at];
    if (NEXT == SUM_FLOAT32) {  // from the last operand to the first; `shift` says which one the codes are
        const float own = float_of_bits((int32_t)a.own), others = float_of_bits((int32_t)a.others), base = float_of_bits(a.own_zero);
        const float real = a.shift == 0 ? fmaf((float)code, own, fmaf((float)other, others, base)) : fmaf((float)other, others, fmaf((float)code, own, base));
        return (OUT)clip(whole(rintf(real)), a.low, a.high);
    }
    const int64_t total = (code - a.own_zero) * a.own + (other - a.other_zero) * a.others;
    const int64_t rounded = NEXT == SUM_DYADIC ? (total + ((int64_t)1 << (a.shift - 1))) >> a.shift : shift_half_even(total, a.shift);
    return (OUT)clip(rounded + a.zero_point, a.low, a.high);
}

}  // namespace qc
