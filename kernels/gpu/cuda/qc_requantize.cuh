// Fixed-point rescaling, bit for bit that of qcompiler/ir/fixed_point.py.
#pragma once

#include "qc_device.cuh"

namespace qc {

// TO_REAL is no rescale: accumulators times their scale, float32; NO_RESCALE: accumulators.
enum Profile { DYADIC, DYADIC_DOUBLE, SHIFT_HALF_EVEN, FLOAT32_HALF_EVEN, TO_REAL, NO_RESCALE };

// What rescales a tensor or its channels.
struct Rescale {
    const int32_t *multiplier;  // [C]; the bits of a float32 for FLOAT32_HALF_EVEN and TO_REAL; unused by SHIFT_HALF_EVEN
    const int8_t *shift;        // [C]; unused by FLOAT32_HALF_EVEN
    int32_t zero_point, low, high;
    int32_t per_channel;        // 0: C is 1
};

__device__ __forceinline__ int64_t shift_half_even(int64_t v, int s)
{
    if (s <= 0)
        return (int64_t)((uint64_t)v << -s);
    const int64_t floor = v >> s, rest = v - (int64_t)((uint64_t)floor << s), half = (int64_t)1 << (s - 1);
    return floor + (rest > half || (rest == half && (floor & 1)));
}

// High 32 bits of twice the product, rounded; then a division by a power of two with ties away from zero.
__device__ __forceinline__ int64_t rescale_double(int32_t acc, int32_t m, int s)
{
    const int left = s < 31 ? 31 - s : 0, right = s > 31 ? (s - 31 < 31 ? s - 31 : 31) : 0;
    const int64_t shifted = clip((int64_t)acc * ((int64_t)1 << left), -2147483648LL, 2147483647LL);
    const int64_t product = shifted * m;
    const int64_t total = product + (product >= 0 ? (int64_t)1 << 30 : 1 - ((int64_t)1 << 30));
    // a quotient that is cut towards zero
    const int64_t high = total >= 0 ? total >> 31 : -(-total >> 31);
    const int64_t mask = ((int64_t)1 << right) - 1;
    return (high >> right) + ((high & mask) > (mask >> 1) + (high < 0));
}

// A whole number as int64; every type of a result saturates long before its limits.
__device__ __forceinline__ int64_t whole(float v)
{
    return v >= 4e18f ? 4000000000000000000LL : v <= -4e18f ? -4000000000000000000LL : (int64_t)v;
}

template <int PROFILE>
__device__ __forceinline__ int64_t rescale(int32_t acc, int32_t m, int s)
{
    if (PROFILE == DYADIC)
        return ((int64_t)acc * m + ((int64_t)1 << (s - 1))) >> s;
    if (PROFILE == DYADIC_DOUBLE)
        return rescale_double(acc, m, s);
    if (PROFILE == SHIFT_HALF_EVEN)
        return shift_half_even(acc, s);
    return whole(rintf(multiply_rounded((float)acc, float_of_bits(m))));
}

template <int PROFILE>
__device__ __forceinline__ int32_t requantize(int32_t acc, const Rescale &r, int channel)
{
    if (PROFILE == NO_RESCALE)
        return acc;
    const int c = r.per_channel ? channel : 0;
    const int32_t m = PROFILE == SHIFT_HALF_EVEN ? 1 : r.multiplier[c];
    const int s = PROFILE == FLOAT32_HALF_EVEN ? 0 : r.shift[c];
    return (int32_t)clip(rescale<PROFILE>(acc, m, s) + r.zero_point, r.low, r.high);
}

// What accumulators of a product become: a code, or a real number.
template <int PROFILE, class OUT>
__device__ __forceinline__ OUT finish(int32_t acc, const Rescale &r, int channel)
{
    if constexpr (PROFILE == TO_REAL)
        return multiply_rounded((float)acc, float_of_bits(r.multiplier[r.per_channel ? channel : 0]));
    else
        return (OUT)requantize<PROFILE>(acc, r, channel);
}

}  // namespace qc
