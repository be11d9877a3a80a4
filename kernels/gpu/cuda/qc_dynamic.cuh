// Linear layers whose operand is quantized where it is used: ranges of x [M, K] by tensor, row, or row and group of
// inputs, then products of int8 with 8-bit or 4-bit weights, exact within a group, and real sums over groups.
//
// Operands of 16 bits are two terms of 8: codes, and codes of what they leave. Definitions: `dynamic_linear` in
// qcompiler/ir/ops/quantized.py. Codes are kept 128 lower than there.
#pragma once

#include "qc_real.cuh"
#include "qc_tile_load.cuh"

namespace qc {

struct DynamicCodesParams {
    const float *x;         // [M, K]
    int8_t *codes;          // [terms, M, K padded]
    float *scale;           // [terms, M, groups]
    const float *range;     // scale and zero point of the whole tensor, or null
    int32_t m, k, padded_k, group, groups;
};

// A warp per row and group; the second of two terms has no range of the whole tensor.
template <int TERMS>
__device__ __forceinline__ void dynamic_codes(const DynamicCodesParams &p)
{
    const int lane = threadIdx.x % 32, index = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (index >= p.m * p.groups)
        return;
    const int row = index / p.groups, group = index % p.groups;
    const int first = group * p.group, last = group + 1 == p.groups ? p.padded_k : first + p.group;
    const float *x = p.x + (int64_t)row * p.k;
    float scale, zero_point = 0.0f;
    if (p.range != nullptr) {
        scale = p.range[0];
        zero_point = p.range[1];
    } else {
        float peak = 0.0f;
        for (int i = first + lane; i < last && i < p.k; i += 32)
            peak = fmaxf(peak, fabsf(x[i]));
        peak = warp_max(peak);
        scale = peak > 0.0f ? peak / 127.0f : 1.0f;
    }
    for (int i = first + lane; i < last; i += 32)
        p.codes[(int64_t)row * p.padded_k + i] = (int8_t)(i < p.k ? to_code(x[i], scale, zero_point, -128.0f, 127.0f) : 0.0f);
    if (lane == 0)
        p.scale[(int64_t)row * p.groups + group] = scale;
    if (TERMS == 1)
        return;
    auto left = [&](int i) { return x[i] - multiply_rounded(to_code(x[i], scale, 0.0f, -128.0f, 127.0f), scale); };
    float peak = 0.0f;
    for (int i = first + lane; i < last && i < p.k; i += 32)
        peak = fmaxf(peak, fabsf(left(i)));
    peak = warp_max(peak);
    const float fine = peak > 0.0f ? peak / 127.0f : 1.0f;
    for (int i = first + lane; i < last; i += 32)
        p.codes[(int64_t)(p.m + row) * p.padded_k + i] = (int8_t)(i < p.k ? to_code(left(i), fine, 0.0f, -128.0f, 127.0f) : 0.0f);
    if (lane == 0)
        p.scale[(int64_t)(p.m + row) * p.groups + group] = fine;
}

struct TensorRangeParams {
    const float *x;
    float *range;   // scale and zero point
    int32_t count;
};

// One block: the range of all elements and 0, in 255 steps.
__device__ __forceinline__ void tensor_range(const TensorRangeParams &p)
{
    constexpr int WARPS = 8;
    QC_SHARED(float, ends, 2 * WARPS);
    float low = 0.0f, high = 0.0f;
    for (int i = threadIdx.x; i < p.count; i += WARPS * 32) {
        low = fminf(low, p.x[i]);
        high = fmaxf(high, p.x[i]);
    }
    low = -warp_max(-low);
    high = warp_max(high);
    if (threadIdx.x % 32 == 0) {
        ends[threadIdx.x / 32] = low;
        ends[WARPS + threadIdx.x / 32] = high;
    }
    __syncthreads();
    if (threadIdx.x > 0)
        return;
    for (int i = 0; i < WARPS; i++) {
        low = fminf(low, ends[i]);
        high = fmaxf(high, ends[WARPS + i]);
    }
    const float scale = high > low ? (high - low) / 255.0f : 1.0f;
    p.range[0] = scale;
    p.range[1] = fminf(fmaxf(rintf(-low / scale), 0.0f), 255.0f) - 128.0f;
}

struct GroupProductParams {
    const int8_t *a;            // [terms, M, K padded to 64]
    const void *b;              // [N padded to 64, K padded]: bytes, or 4 bits in the order of `sixteen_codes`
    const float *a_scale;       // [terms, M, scales]
    const float *b_scale;       // [groups, N padded]
    const int32_t *b_zero;      // [groups, N padded]: zero points, or null
    const float *range;         // as in DynamicCodesParams
    const int32_t *b_sum;       // [N padded]: sums of the weights' centred codes; read where there is a range
    const float *bias;          // [N] or null
    float *y;                   // [M, N]
    int32_t m, n, padded_n, padded_k, group, scales, terms;
};

// Codes of 4 bits, 8 higher: the low halves of four bytes are codes 0..3, the high ones 4..7.
__device__ __forceinline__ int4 sixteen_codes(uint2 words)
{
    const unsigned low = 0x0f0f0f0fu, top = 0x80808080u, eight = 0x08080808u;
    const unsigned four[4] = {words.x & low, words.x >> 4 & low, words.y & low, words.y >> 4 & low};
    int signed_four[4];
#pragma unroll
    for (int i = 0; i < 4; i++)
        signed_four[i] = (int)(((four[i] | top) - eight) ^ top);  // no byte borrows from the next
    return {signed_four[0], signed_four[1], signed_four[2], signed_four[3]};
}

// Blocks of BM x 64 by four warps of WM x WN; groups are multiples of 32. ZEROS: weights have zero points.
template <int BM, int WM, int WN, int BITS, bool ZEROS>
__device__ __forceinline__ void group_product(const GroupProductParams &p)
{
    constexpr int BN = 64, STAGES = 3, THREADS = 128, MI = WM / 16, NI = WN / 16, STAGE = (BM + BN) * TILE_K;
    static_assert(BM / WM * (BN / WN) == 4, "four warps");
    QC_SHARED(int8_t, shared, STAGES * STAGE);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, m0 = blockIdx.x * BM, n0 = blockIdx.y * BN;
    const int wm = warp / (BN / WN) * WM, wn = warp % (BN / WN) * WN, whole = p.padded_k / TILE_K, tiles = whole * p.terms;
    auto load = [&](int stage, int step) {
        int8_t *a = shared + stage * STAGE, *b = a + BM * TILE_K;
        const int tile = step < whole ? step : step - whole;
        const int8_t *codes = p.a + (step < whole ? 0 : (int64_t)p.m * p.padded_k);
        for (int q = threadIdx.x; q < BM * CHUNKS; q += THREADS) {
            const int row = m0 + q / CHUNKS;
            load_chunk<16>(a + swizzled(q / CHUNKS, q % CHUNKS), MatrixRow{row < p.m ? codes + (int64_t)row * p.padded_k : nullptr},
                           tile * TILE_K + q % CHUNKS * CHUNK, p.padded_k);
        }
#pragma unroll
        for (int i = 0; i < BN * CHUNKS / THREADS; i++) {
            const int q = threadIdx.x + i * THREADS;
            const int64_t at = (int64_t)(n0 + q / CHUNKS) * p.padded_k + tile * TILE_K + q % CHUNKS * CHUNK;
            int8_t *to = b + swizzled(q / CHUNKS, q % CHUNKS);
            if (BITS == 4)
                store_vector(to, sixteen_codes(load_vector<uint2>((const int8_t *)p.b + at / 2)));
            else
                copy_async<16>(to, (const int8_t *)p.b + at);
        }
    };
    int4 acc[MI][2 * NI], a_sum[MI];
    float4 total[MI][2 * NI];
#pragma unroll
    for (int i = 0; i < MI; i++)
        a_sum[i] = int4{0, 0, 0, 0};
#pragma unroll
    for (int i = 0; i < MI * 2 * NI; i++) {
        acc[i / (2 * NI)][i % (2 * NI)] = int4{0, 0, 0, 0};
        total[i / (2 * NI)][i % (2 * NI)] = float4{0.0f, 0.0f, 0.0f, 0.0f};
    }
    const int zero_point = p.range != nullptr ? (int)p.range[1] : 0;
    // what a group adds: its exact sum times both scales
    auto flush = [&](int term, int group) {
        const float *a_scale = p.a_scale + (int64_t)term * p.m * p.scales;
        float left[MI][2];
#pragma unroll
        for (int i = 0; i < 2 * MI; i++) {
            const int row = m0 + wm + 16 * (i / 2) + 8 * (i % 2) + lane / 4;
            left[i / 2][i % 2] = row < p.m ? a_scale[(int64_t)row * p.scales + (group < p.scales ? group : p.scales - 1)] : 0.0f;
        }
#pragma unroll
        for (int j = 0; j < 2 * NI; j++) {
            const int n = n0 + wn + 8 * j + lane % 4 * 2;
            const float right[2] = {p.b_scale[(int64_t)group * p.padded_n + n], p.b_scale[(int64_t)group * p.padded_n + n + 1]};
            const int offset[2] = {p.range != nullptr ? zero_point * p.b_sum[n] : 0, p.range != nullptr ? zero_point * p.b_sum[n + 1] : 0};
            const int zero[2] = {ZEROS ? p.b_zero[(int64_t)group * p.padded_n + n] : 0, ZEROS ? p.b_zero[(int64_t)group * p.padded_n + n + 1] : 0};
#pragma unroll
            for (int i = 0; i < MI; i++) {
                int4 v = acc[i][j];
                if (ZEROS)
                    v = int4{v.x - zero[0] * a_sum[i].x, v.y - zero[1] * a_sum[i].x, v.z - zero[0] * a_sum[i].z, v.w - zero[1] * a_sum[i].z};
                total[i][j].x += (float)(v.x - offset[0]) * (left[i][0] * right[0]);
                total[i][j].y += (float)(v.y - offset[1]) * (left[i][0] * right[1]);
                total[i][j].z += (float)(v.z - offset[0]) * (left[i][1] * right[0]);
                total[i][j].w += (float)(v.w - offset[1]) * (left[i][1] * right[1]);
                acc[i][j] = int4{0, 0, 0, 0};
            }
        }
#pragma unroll
        for (int i = 0; i < MI; i++)
            a_sum[i] = int4{0, 0, 0, 0};
    };
    for (int t = 0; t < STAGES - 1; t++) {
        if (t < tiles)
            load(t, t);
        copy_commit();
    }
    for (int t = 0; t < tiles; t++) {
        copy_wait<STAGES - 2>();
        __syncthreads();  // the tile is there for all, and all have left the one that is loaded next
        if (t + STAGES - 1 < tiles)
            load((t + STAGES - 1) % STAGES, t + STAGES - 1);
        copy_commit();
        const int8_t *a_tile = shared + t % STAGES * STAGE, *b_tile = a_tile + BM * TILE_K;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            uint4 a[MI], b[NI];
#pragma unroll
            for (int i = 0; i < MI; i++)
                a[i] = load_matrices(a_tile + swizzled(wm + 16 * i + lane % 16, 2 * half + lane / 16));
#pragma unroll
            for (int j = 0; j < NI; j++)
                b[j] = load_matrices(b_tile + swizzled(wn + 16 * j + lane % 8 + lane / 16 * 8, 2 * half + lane / 8 % 2));
#pragma unroll
            for (int i = 0; i < MI; i++)
#pragma unroll
                for (int j = 0; j < NI; j++) {
                    acc[i][2 * j] = multiply_s8(acc[i][2 * j], a[i], uint2{b[j].x, b[j].y});
                    acc[i][2 * j + 1] = multiply_s8(acc[i][2 * j + 1], a[i], uint2{b[j].z, b[j].w});
                }
            if (ZEROS) {  // sums of rows: products with ones
#pragma unroll
                for (int i = 0; i < MI; i++)
                    a_sum[i] = multiply_s8(a_sum[i], a[i], uint2{0x01010101u, 0x01010101u});
            }
            const int term = t >= whole, end = (t - term * whole) * TILE_K + 32 * (half + 1);
            if (end % p.group == 0 || end == p.padded_k)
                flush(term, (end - 1) / p.group);
        }
    }
    copy_wait<0>();
#pragma unroll
    for (int i = 0; i < MI; i++)
#pragma unroll
        for (int j = 0; j < 2 * NI; j++) {
            const float values[4] = {total[i][j].x, total[i][j].y, total[i][j].z, total[i][j].w};
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int row = m0 + wm + 16 * i + 8 * (e / 2) + lane / 4, n = n0 + wn + 8 * j + lane % 4 * 2 + e % 2;
                if (row < p.m && n < p.n)
                    p.y[(int64_t)row * p.n + n] = values[e] + (p.bias != nullptr ? p.bias[n] : 0.0f);
            }
        }
}

}  // namespace qc
