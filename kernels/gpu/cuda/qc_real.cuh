// Real arithmetic between integer kernels: one result per thread, float32 inside, operands of any type and strides.
//
// What is computed is an expression that the generated source passes in.
#pragma once

#include "qc_strided.cuh"

namespace qc {

constexpr int REALS = 3;

struct RealParams {
    Strided in[REALS], out;
    int32_t size[RANK];              // of the result
    int32_t count;
    float alpha, beta, gamma, delta;  // constants of the expression
};

// An element as a real number; codes less their zero point.
__device__ __forceinline__ float load_real(const Strided &s, int64_t at)
{
    if (s.kind == FLOAT32)
        return ((const float *)s.data)[at];
    if (s.kind == FLOAT16)
        return half_to_float(((const uint16_t *)s.data)[at]);
    return (float)(load_code(s, at) - s.zero_point);
}

// Integers are cut towards zero, truth values say whether the number is not 0.
__device__ __forceinline__ void store_real(const Strided &s, int64_t at, float v)
{
    if (s.kind == FLOAT32)
        ((float *)s.data)[at] = v;
    else if (s.kind == FLOAT16)
        ((uint16_t *)s.data)[at] = float_to_half(v);
    else
        store_code(s, at, s.kind == BOOL ? v != 0.0f : (int64_t)v);
}

// An element as T: float, or int64_t for integers of any width.
template <class T>
__device__ __forceinline__ T element(const Strided &s, int64_t at)
{
    if constexpr (sizeof(T) == 4)
        return load_real(s, at);
    else
        return load_code(s, at);
}

__device__ __forceinline__ void put(const Strided &s, int64_t at, float v) { store_real(s, at, v); }
__device__ __forceinline__ void put(const Strided &s, int64_t at, int64_t v) { store_code(s, at, v); }

template <int OPERANDS, class F>
__device__ __forceinline__ void each(const RealParams &p, F f)
{
    const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= (unsigned)p.count)
        return;
    const Place place = place_of(index, p.size);
    float v[REALS] = {0.0f, 0.0f, 0.0f};
#pragma unroll
    for (int i = 0; i < OPERANDS; i++)
        v[i] = load_real(p.in[i], offset_of(place, p.in[i].stride));
    store_real(p.out, offset_of(place, p.out.stride), f(v[0], v[1], v[2]));
}

// saturate(round_half_even(x / scale) + zero point), a whole number.
__device__ __forceinline__ float to_code(float x, float scale, float zero_point, float low, float high)
{
    return fminf(fmaxf(rintf(x / scale) + zero_point, low), high);
}

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
__device__ __forceinline__ float softplus(float x) { return fmaxf(x, 0.0f) + log1pf(expf(-fabsf(x))); }
__device__ __forceinline__ float gelu(float x) { return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f)); }
__device__ __forceinline__ float gelu_tanh(float x)
{
    return 0.5f * x * (1.0f + tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x)));
}

// scale 2^(-step q) with the nearest q from 0 to `top`; 0 instead of the last one if `zero`.
__device__ __forceinline__ float round_log2(float x, float scale, float step, float top, float zero)
{
    const float q = x > 0.0f ? fminf(fmaxf(rintf(log2f(x / scale) / -step), 0.0f), top) : top;
    return q == top && zero != 0.0f ? 0.0f : scale * exp2f(-step * q);
}

// The remainder with the sign of the divisor.
__device__ __forceinline__ float modulo(float a, float b)
{
    const float r = fmodf(a, b);
    return r != 0.0f && (r < 0.0f) != (b < 0.0f) ? r + b : r;
}

}  // namespace qc
