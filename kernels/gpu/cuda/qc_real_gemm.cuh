// Products of real matrices in float32: c = a b^T + bias, operands with any strides; tiles in shared memory, or a warp
// per column where there are few rows.
#pragma once

#include "qc_real.cuh"

namespace qc {

struct RealMatrix {
    const void *data;
    int64_t row, column, batch0, batch1;  // strides in elements
    int32_t half;                         // float16, else float32
};

struct RealGemmParams {
    RealMatrix a, b;        // [Z0, Z1, M, K] and [Z0, Z1, N, K]
    float *c;               // rows of N
    int64_t c_row, c_batch0, c_batch1;
    const float *bias;      // [N] or null
    int32_t m, n, k, batch1;
};

__device__ __forceinline__ float element(const RealMatrix &m, int64_t at)
{
    return m.half ? half_to_float(((const uint16_t *)m.data)[at]) : ((const float *)m.data)[at];
}

// Blocks of 64 x 64 by 256 threads, 4 x 4 results each, 16 of K at a time.
__device__ __forceinline__ void real_tiles(const RealGemmParams &p)
{
    constexpr int TILE = 64, STEP = 16, ROW = TILE + 4;
    QC_SHARED(float, shared, 2 * STEP * ROW);
    float *a = shared, *b = shared + STEP * ROW;
    const int m0 = blockIdx.x * TILE, n0 = blockIdx.y * TILE, z0 = blockIdx.z / p.batch1, z1 = blockIdx.z % p.batch1;
    const int row = threadIdx.x / 16 * 4, column = threadIdx.x % 16 * 4;
    float acc[4][4];
#pragma unroll
    for (int i = 0; i < 16; i++)
        acc[i / 4][i % 4] = 0.0f;
    // neighbouring threads read neighbouring elements
    auto load = [&](float *to, const RealMatrix &from, int first, int size, int k0) {
        const int64_t base = z0 * from.batch0 + z1 * from.batch1;
#pragma unroll
        for (int i = 0; i < TILE * STEP / 256; i++) {
            const int q = threadIdx.x + i * 256;
            const int r = from.column == 1 ? q / STEP : q % TILE, k = from.column == 1 ? q % STEP : q / TILE;
            const bool there = first + r < size && k0 + k < p.k;
            to[k * ROW + r] = there ? element(from, base + (first + r) * from.row + (k0 + k) * from.column) : 0.0f;
        }
    };
    for (int k0 = 0; k0 < p.k; k0 += STEP) {
        load(a, p.a, m0, p.m, k0);
        load(b, p.b, n0, p.n, k0);
        __syncthreads();
#pragma unroll
        for (int k = 0; k < STEP; k++) {
            const float4 left = load_vector<float4>(a + k * ROW + row), right = load_vector<float4>(b + k * ROW + column);
            const float x[4] = {left.x, left.y, left.z, left.w}, y[4] = {right.x, right.y, right.z, right.w};
#pragma unroll
            for (int i = 0; i < 16; i++)
                acc[i / 4][i % 4] += x[i / 4] * y[i % 4];
        }
        __syncthreads();  // before the next tile takes the place of this one
    }
    float *c = p.c + z0 * p.c_batch0 + z1 * p.c_batch1;
#pragma unroll
    for (int i = 0; i < 16; i++) {
        const int m = m0 + row + i / 4, n = n0 + column + i % 4;
        if (m < p.m && n < p.n)
            c[m * p.c_row + n] = acc[i / 4][i % 4] + (p.bias != nullptr ? p.bias[n] : 0.0f);
    }
}

// Few rows: a warp per column of the result, all rows; rows of b are read once.
template <int ROWS>
__device__ __forceinline__ void real_rows(const RealGemmParams &p)
{
    const int lane = threadIdx.x % 32, n = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, m0 = blockIdx.y * ROWS;
    if (n >= p.n)
        return;
    const int z0 = blockIdx.z / p.batch1, z1 = blockIdx.z % p.batch1;
    const int64_t from_a = z0 * p.a.batch0 + z1 * p.a.batch1, from_b = z0 * p.b.batch0 + z1 * p.b.batch1 + n * p.b.row;
    float acc[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; r++)
        acc[r] = 0.0f;
    for (int k = lane; k < p.k; k += 32) {
        const float w = element(p.b, from_b + k * p.b.column);
#pragma unroll
        for (int r = 0; r < ROWS; r++)
            if (m0 + r < p.m)
                acc[r] += w * element(p.a, from_a + (m0 + r) * p.a.row + k * p.a.column);
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        const float total = warp_sum(acc[r]);
        if (lane == r && m0 + r < p.m)
            p.c[z0 * p.c_batch0 + z1 * p.c_batch1 + (m0 + r) * p.c_row + n] = total + (p.bias != nullptr ? p.bias[n] : 0.0f);
    }
}

}  // namespace qc
