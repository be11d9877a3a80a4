// Operands with any strides, so that transposes, slices and broadcasts cost nothing where they are read.
#pragma once

#include "qc_device.cuh"

namespace qc {

constexpr int RANK = 6;

// Kernels that only move elements take real numbers as integers of their size.
enum Kind { INT8, INT16, INT32, INT64, UINT8, BOOL, FLOAT32, FLOAT16 };

struct Strided {
    void *data;
    int64_t stride[RANK];  // in elements
    int32_t kind, zero_point;
};

__device__ __forceinline__ int64_t load_code(const Strided &s, int64_t at)
{
    switch (s.kind) {
    case INT8: return ((const int8_t *)s.data)[at];
    case INT16: return ((const int16_t *)s.data)[at];
    case INT32: return ((const int32_t *)s.data)[at];
    case INT64: return ((const int64_t *)s.data)[at];
    default: return ((const uint8_t *)s.data)[at];
    }
}

__device__ __forceinline__ void store_code(const Strided &s, int64_t at, int64_t v)
{
    switch (s.kind) {
    case INT8: ((int8_t *)s.data)[at] = (int8_t)v; break;
    case INT16: ((int16_t *)s.data)[at] = (int16_t)v; break;
    case INT32: ((int32_t *)s.data)[at] = (int32_t)v; break;
    case INT64: ((int64_t *)s.data)[at] = v; break;
    default: ((uint8_t *)s.data)[at] = (uint8_t)v;
    }
}

// Coordinates of element `index` of a row-major array of RANK axes.
struct Place { int32_t at[RANK]; };

__device__ __forceinline__ Place place_of(unsigned index, const int32_t *sizes)
{
    Place place;
#pragma unroll
    for (int i = RANK - 1; i >= 0; i--) {
        place.at[i] = (int32_t)(index % (unsigned)sizes[i]);
        index /= (unsigned)sizes[i];
    }
    return place;
}

__device__ __forceinline__ int64_t offset_of(const Place &place, const int64_t *stride)
{
    int64_t offset = 0;
#pragma unroll
    for (int i = 0; i < RANK; i++)
        offset += place.at[i] * stride[i];
    return offset;
}

}  // namespace qc
