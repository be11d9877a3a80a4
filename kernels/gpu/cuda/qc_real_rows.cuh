// Functions of whole rows of real numbers, one warp each: softmax, normalizations, reductions over any axes.
#pragma once

#include "qc_real.cuh"

namespace qc {

struct RealRowParams {
    Strided x, out;                 // the last axis is the row
    const float *weight, *bias;     // of a normalization, or null
    int32_t size[RANK];             // the last one is 1: rows
    int32_t rows, length;
    float eps;
};

struct Row { int64_t x, out; };

// Where a warp's row begins; false if it has none.
__device__ __forceinline__ bool row_of(const RealRowParams &p, Row &row)
{
    const int index = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (index >= p.rows)
        return false;
    const Place place = place_of((unsigned)index, p.size);
    row = {offset_of(place, p.x.stride), offset_of(place, p.out.stride)};
    return true;
}

// exp(x) / sum exp(x), or with LOG its logarithm.
template <bool LOG>
__device__ __forceinline__ void real_softmax(const RealRowParams &p)
{
    Row row;
    if (!row_of(p, row))
        return;
    const int lane = threadIdx.x % 32;
    auto number = [&](int i) { return load_real(p.x, row.x + i * p.x.stride[RANK - 1]); };
    float top = -3.402823466e38f;
    for (int i = lane; i < p.length; i += 32)
        top = fmaxf(top, number(i));
    top = warp_max(top);
    float total = 0.0f;
    for (int i = lane; i < p.length; i += 32)
        total += expf(number(i) - top);
    total = warp_sum(total);
    const float log_total = LOG ? logf(total) : 0.0f;
    for (int i = lane; i < p.length; i += 32) {
        const float distance = number(i) - top;
        store_real(p.out, row.out + i * p.out.stride[RANK - 1], LOG ? distance - log_total : expf(distance) / total);
    }
}

// MEAN: layer normalization, else RMS normalization.
template <bool MEAN>
__device__ __forceinline__ void real_normalize(const RealRowParams &p)
{
    Row row;
    if (!row_of(p, row))
        return;
    const int lane = threadIdx.x % 32;
    auto number = [&](int i) { return load_real(p.x, row.x + i * p.x.stride[RANK - 1]); };
    float mean = 0.0f;
    if (MEAN) {
        for (int i = lane; i < p.length; i += 32)
            mean += number(i);
        mean = warp_sum(mean) / (float)p.length;
    }
    float squares = 0.0f;
    for (int i = lane; i < p.length; i += 32) {
        const float v = number(i) - mean;
        squares += v * v;
    }
    const float root = sqrtf(warp_sum(squares) / (float)p.length + p.eps);
    for (int i = lane; i < p.length; i += 32) {
        float y = (number(i) - mean) / root;
        y = p.weight != nullptr ? y * p.weight[i] : y;
        store_real(p.out, row.out + i * p.out.stride[RANK - 1], p.bias != nullptr ? y + p.bias[i] : y);
    }
}

struct RealReduceParams {
    Strided x, out;
    int64_t inner_stride[RANK];  // of x, along the axes that are reduced
    int32_t size[RANK];          // of the result
    int32_t inner[RANK];         // sizes of the axes that are reduced
    int32_t count, terms;
};

enum Reduction { SUM_OF, MEAN_OF, LARGEST_OF, SMALLEST_OF, PRODUCT_OF, ANY_OF, ALL_OF };

template <int KIND>
__device__ __forceinline__ float folded(float a, float b)
{
    return KIND == LARGEST_OF ? fmaxf(a, b) : KIND == SMALLEST_OF ? fminf(a, b) : KIND == PRODUCT_OF ? a * b
         : KIND == ANY_OF ? (float)(a != 0.0f || b != 0.0f) : KIND == ALL_OF ? (float)(a != 0.0f && b != 0.0f) : a + b;
}

// Integers wrap around in the type of the result.
template <int KIND>
__device__ __forceinline__ int64_t folded(int64_t a, int64_t b)
{
    return KIND == LARGEST_OF ? (a > b ? a : b) : KIND == SMALLEST_OF ? (a < b ? a : b) : KIND == PRODUCT_OF ? (int64_t)((uint64_t)a * (uint64_t)b)
         : KIND == ANY_OF ? a != 0 || b != 0 : KIND == ALL_OF ? a != 0 && b != 0 : (int64_t)((uint64_t)a + (uint64_t)b);
}

// One warp per result. T: float, or int64_t for integers of any width.
template <class T, int KIND>
__device__ __forceinline__ void reduce(const RealReduceParams &p)
{
    const int lane = threadIdx.x % 32, index = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (index >= p.count)
        return;
    const Place place = place_of((unsigned)index, p.size);
    const int64_t base = offset_of(place, p.x.stride);
    auto number = [&](int i) { return element<T>(p.x, base + offset_of(place_of((unsigned)i, p.inner), p.inner_stride)); };
    // largest and smallest begin with the first element, which infinities may be
    T total = KIND == LARGEST_OF || KIND == SMALLEST_OF ? number(0) : (T)(KIND == PRODUCT_OF || KIND == ALL_OF);
    for (int i = lane; i < p.terms; i += 32)
        total = folded<KIND>(total, number(i));
    for (int bits = 16; bits > 0; bits >>= 1)
        total = folded<KIND>(total, __shfl_xor_sync(ALL, total, bits));
    if (lane == 0)
        put(p.out, offset_of(place, p.out.stride), KIND == MEAN_OF ? total / (T)p.terms : total);
}

}  // namespace qc
