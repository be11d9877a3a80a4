// Functions of whole rows: softmax in three forms, layer and RMS normalization. One warp per row.
//
// Definitions: qcompiler/ir/ops/integer.py and integer_norm.py.
#pragma once

#include "qc_requantize.cuh"
#include "qc_shift_exp.cuh"
#include "qc_strided.cuh"

namespace qc {

struct RowParams {
    Strided x, mask, out;    // the last axis is the row; mask.data may be null
    const int16_t *table;    // exponentials of a softmax
    const int32_t *weight;   // of a normalization
    const int64_t *bias;     // or null
    int32_t size[RANK];      // the last one is 1: rows
    int32_t rows, length, table_length;
    int32_t unit, bits, fraction, shift;
    int64_t eps;
    int32_t zero_point, low, high;
};

enum Softmax { TABLE, SHIFT_ROUND, SHIFT_RECIPROCAL, LOG2 };

// Exponentials from a table are below 2^15, so rows of up to 2^15 add up in 32 bits.
template <int FORM>
struct SumOf { using type = int64_t; };
template <>
struct SumOf<TABLE> { using type = unsigned; };
template <>
struct SumOf<LOG2> { using type = unsigned; };

template <int FORM>
__device__ __forceinline__ typename SumOf<FORM>::type exponential(const RowParams &p, int distance)
{
    if (FORM == TABLE || FORM == LOG2)
        return distance < p.table_length ? p.table[distance] : 0;
    return shift_exp(-distance, p.unit, p.bits);
}

// The nearest power of two to a probability in steps of 2^-15, in steps of 2^-14.
__device__ __forceinline__ int64_t nearest_power(unsigned p)
{
    int k = 0;
    for (int bit = 1; bit < 16; bit++)
        k += p >= 1u << bit;
    k += (uint64_t)p * p >= (uint64_t)1 << (2 * k + 1);
    return p < 2 ? 0 : 1 << (k > 0 ? k - 1 : 0);
}

template <int FORM>
__device__ __forceinline__ void softmax(const RowParams &p)
{
    const int lane = threadIdx.x % 32, row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (row >= p.rows)
        return;
    const Place place = place_of((unsigned)row, p.size);
    const int64_t x0 = offset_of(place, p.x.stride), y0 = offset_of(place, p.out.stride);
    const int64_t m0 = p.mask.data != nullptr ? offset_of(place, p.mask.stride) : 0;
    auto kept = [&](int i) { return p.mask.data == nullptr || load_code(p.mask, m0 + i * p.mask.stride[RANK - 1]) != 0; };
    auto code = [&](int i) { return (int)load_code(p.x, x0 + i * p.x.stride[RANK - 1]); };
    int top = -(1 << 30);
    for (int i = lane; i < p.length; i += 32)
        if (kept(i)) {
            const int v = code(i);
            top = v > top ? v : top;
        }
    top = warp_max(top);
    typename SumOf<FORM>::type total = 0;
    for (int i = lane; i < p.length; i += 32)
        if (kept(i))
            total += exponential<FORM>(p, top - code(i));
    total = warp_sum(total);
    const int64_t most = ((int64_t)1 << 31) - 1;
    const int64_t reciprocal = FORM == SHIFT_RECIPROCAL ? most / (total < 1 ? 1 : total > most ? most : total) : 0;
    for (int i = lane; i < p.length; i += 32) {
        const typename SumOf<FORM>::type e = kept(i) ? exponential<FORM>(p, top - code(i)) : 0;
        int64_t y;
        if constexpr (FORM == LOG2 || FORM == TABLE) {
            const unsigned share = ((e << (FORM == LOG2 ? 16 : 9)) + total) / (total > 0 ? 2 * total : 1);
            y = FORM == LOG2 ? nearest_power(share) : clip((int64_t)share + p.zero_point, p.low, p.high);
        } else if constexpr (FORM == SHIFT_RECIPROCAL)
            y = clip(((e * reciprocal) >> 24) + p.zero_point, p.low, p.high);
        else
            y = clip(((e << 9) + total) / (total > 0 ? 2 * total : 1) + p.zero_point, p.low, p.high);
        store_code(p.out, y0 + i * p.out.stride[RANK - 1], y);
    }
}

__device__ __forceinline__ int64_t floor_divide(int64_t a, int64_t b)
{
    const int64_t q = a / b;
    return q - (a % b != 0 && (a < 0) != (b < 0));
}

// Largest k with k k <= v, for 0 <= v < 2^62; the root in double is off by one at most.
__device__ __forceinline__ int64_t floor_sqrt(int64_t v)
{
#ifdef QC_EMULATOR
    int64_t k = (int64_t)__builtin_sqrt((double)v);
#else
    int64_t k = (int64_t)sqrt((double)v);
#endif
    while (k * k > v)
        k--;
    while ((k + 1) * (k + 1) <= v)
        k++;
    return k;
}

// MEAN: layer normalization, else RMS normalization.
template <bool MEAN>
__device__ __forceinline__ void normalize(const RowParams &p)
{
    const int lane = threadIdx.x % 32, row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (row >= p.rows)
        return;
    const Place place = place_of((unsigned)row, p.size);
    const int64_t x0 = offset_of(place, p.x.stride), y0 = offset_of(place, p.out.stride);
    auto code = [&](int i) { return (load_code(p.x, x0 + i * p.x.stride[RANK - 1]) - p.x.zero_point) * ((int64_t)1 << p.fraction); };
    int64_t mean = 0;
    if (MEAN) {
        int64_t total = 0;
        for (int i = lane; i < p.length; i += 32)
            total += code(i);
        total = warp_sum(total);
        mean = floor_divide(2 * total + p.length, 2 * (int64_t)p.length);
    }
    int64_t squares = 0;
    for (int i = lane; i < p.length; i += 32) {
        const int64_t y = code(i) - mean;
        squares += y * y;
    }
    const int64_t reciprocal = ((int64_t)1 << 40) / floor_sqrt(warp_sum(squares) + p.eps);
    for (int i = lane; i < p.length; i += 32) {
        const int64_t t = ((code(i) - mean) * reciprocal) >> 10;
        const int64_t total = t * p.weight[i] + (p.bias != nullptr ? p.bias[i] : 0) + ((int64_t)1 << (p.shift - 1));
        store_code(p.out, y0 + i * p.out.stride[RANK - 1], clip((total >> p.shift) + p.zero_point, p.low, p.high));
    }
}

}  // namespace qc
