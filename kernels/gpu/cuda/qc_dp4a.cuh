// int8 matrix product with few rows: one warp per output channel, four products per dp4a, sums by shuffles.
//
// The weights are those of qc_gemm.cuh, [N, K padded to 64]; each is read once, 16 bytes per lane.
#pragma once

#include "qc_requantize.cuh"
#include "qc_tile_load.cuh"

namespace qc {

struct RowsGemmParams {
    const int8_t *a, *b;
    void *c;
    int64_t a_row, b_row, c_row;
    const int32_t *bias;
    Rescale rescale;
    int32_t m, n, k;
};

// Four codes of a row from k on; zeros beyond its end.
template <int VEC>
__device__ __forceinline__ int four_codes(const int8_t *row, int k, int size)
{
    if (VEC >= 4)
        return k < size ? load_vector<int>(row + k) : 0;
    unsigned word = 0;
#pragma unroll
    for (int i = 0; i < 4; i++)
        if (k + i < size)
            word |= (unsigned)(uint8_t)row[k + i] << (8 * i);
    return (int)word;
}

// ROWS rows at a time; VEC: elements of a that lie together and aligned, 4 or 1.
template <int ROWS, int VEC, int PROFILE, class OUT>
__device__ __forceinline__ void rows_gemm(const RowsGemmParams &p)
{
    const int lane = threadIdx.x % 32, n = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, m0 = blockIdx.y * ROWS;
    if (n >= p.n)
        return;
    const int8_t *weights = p.b + n * p.b_row;
    int acc[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; r++)
        acc[r] = 0;
    for (int k = lane * CHUNK; k < p.k; k += 32 * CHUNK) {
        const int4 w = load_vector<int4>(weights + k);
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            if (m0 + r >= p.m)
                continue;
            const int8_t *row = p.a + (m0 + r) * p.a_row;
            acc[r] = __dp4a(four_codes<VEC>(row, k, p.k), w.x, acc[r]);
            acc[r] = __dp4a(four_codes<VEC>(row, k + 4, p.k), w.y, acc[r]);
            acc[r] = __dp4a(four_codes<VEC>(row, k + 8, p.k), w.z, acc[r]);
            acc[r] = __dp4a(four_codes<VEC>(row, k + 12, p.k), w.w, acc[r]);
        }
    }
    const int bias = p.bias != nullptr ? p.bias[n] : 0;
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        const int total = (int)warp_sum((unsigned)acc[r]);
        if (lane == r && m0 + r < p.m)
            ((OUT *)p.c)[(m0 + r) * p.c_row + n] = finish<PROFILE, OUT>(add_wrapping(total, bias), p.rescale, n);
    }
}

}  // namespace qc
