// Products of float16 activations with weights of 4 or 8 bits in groups (W4A16): y = x w^T + bias, sums in float32.
//
// Weights lie in fragment order, for every 16 output channels and 64 inputs: registers i = 0, 1 of a fragment belong to
// channel lane / 4, i = 2, 3 to channel lane / 4 + 8. Of 4 bits a lane has a word for each 16 inputs, whose bits 4 i and
// 4 i + 16 are the halves of register i; one `lop3` with the bits of 1024 gives a pair of float16. Of 8 bits it has two
// words, one per channel, whose bytes one `prmt` puts below those of 1024. Codes are stored 8 or 128 higher.
#pragma once

#include "qc_device.cuh"

namespace qc {

struct WeightOnlyParams {
    const uint16_t *x;      // [M, K] float16
    const uint4 *w;         // [N / 16, K / 64, BITS / 4, 32]
    const uint16_t *scale;  // [K / group, N] float16
    const uint16_t *zero;   // the same: float16 of 1024 + 8 or 128 + zero point
    const float *factor;    // [N]: powers of two that keep the scales within float16
    const float *bias;      // [N] or null
    float *y;               // [M, N]
    int64_t groups;         // 2^32 / (inputs of a group / 16), rounded up
    int32_t m, n, k;        // K and N are padded to 64 and 16; a group is a multiple of 16
    int32_t channels;       // N without padding
};

// The group of inputs 16 i to 16 i + 15: a division that costs one multiplication.
__device__ __forceinline__ int64_t group_of(const WeightOnlyParams &p, int i) { return ((uint64_t)i * (uint64_t)p.groups) >> 32; }

__device__ __forceinline__ unsigned pair(uint16_t half) { return (unsigned)half * 0x00010001u; }

// What a lane has of 16 channels and 64 inputs.
template <int BITS>
struct Fragment {
    unsigned words[BITS];
};

template <int BITS>
__device__ __forceinline__ Fragment<BITS> load_fragment(const WeightOnlyParams &p, int64_t block, int lane)
{
    Fragment<BITS> f;
#pragma unroll
    for (int i = 0; i < BITS / 4; i++) {
        const uint4 v = load_vector<uint4>(p.w + (block * (BITS / 4) + i) * 32 + lane);
        f.words[4 * i] = v.x;
        f.words[4 * i + 1] = v.y;
        f.words[4 * i + 2] = v.z;
        f.words[4 * i + 3] = v.w;
    }
    return f;
}

// Two codes as float16, 1024 + 8 or 128 higher: register i of inputs 16 step to 16 step + 15.
template <int BITS>
__device__ __forceinline__ unsigned raised_pair(const Fragment<BITS> &f, int step, int i)
{
    if constexpr (BITS == 4) {
        const unsigned word = f.words[step] >> (4 * i);
#ifdef QC_EMULATOR
        return (word & 0x000f000fu) | 0x64006400u;
#else
        unsigned codes;
        asm("lop3.b32 %0, %1, 0x000f000f, 0x64006400, 0xea;" : "=r"(codes) : "r"(word));  // (word & mask) | 1024
        return codes;
#endif
    } else {
        const unsigned word = f.words[2 * step + i / 2] >> (16 * (i % 2));
#ifdef QC_EMULATOR
        return (word & 255u) | (word & 0xff00u) << 8 | 0x64006400u;
#else
        return __byte_perm(word, 0x64646464u, 0x4140);
#endif
    }
}

#ifdef QC_EMULATOR
__device__ __forceinline__ unsigned dequantize_pair(unsigned codes, unsigned zero, unsigned scale)
{
    unsigned result = 0;
    for (int i = 0; i < 32; i += 16) {
        const float v = half_to_float((uint16_t)(codes >> i)) - half_to_float((uint16_t)(zero >> i));
        result |= (unsigned)float_to_half(v * half_to_float((uint16_t)(scale >> i))) << i;
    }
    return result;
}
#else
__device__ __forceinline__ unsigned dequantize_pair(unsigned codes, unsigned zero, unsigned scale)
{
    asm("sub.rn.f16x2 %0, %0, %1;" : "+r"(codes) : "r"(zero));
    asm("mul.rn.f16x2 %0, %0, %1;" : "+r"(codes) : "r"(scale));
    return codes;
}
#endif

// Up to eight rows: a block for 16 output channels, its warps share the inputs. Weights are read once and are the first
// operand of the products, x the second one.
template <int BITS, int WARPS>
__device__ __forceinline__ void weight_only_rows(const WeightOnlyParams &p)
{
    constexpr int ROWS = 8;
    QC_SHARED(float, partial, WARPS * ROWS * 16);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, t = lane % 4, g = lane / 4;
    const int n0 = blockIdx.x * 16, m0 = blockIdx.y * ROWS, blocks = p.k / 64;
    const uint16_t *x = p.x + (int64_t)(m0 + g) * p.k + 2 * t;
    float4 acc = {0.0f, 0.0f, 0.0f, 0.0f};
    for (int kb = warp; kb < blocks; kb += WARPS) {
        const Fragment<BITS> packed = load_fragment<BITS>(p, (int64_t)blockIdx.x * blocks + kb, lane);
#pragma unroll
        for (int step = 0; step < 4; step++) {
            const int64_t from = group_of(p, 4 * kb + step) * p.n + n0 + g;
            const unsigned scale[2] = {pair(p.scale[from]), pair(p.scale[from + 8])}, zero[2] = {pair(p.zero[from]), pair(p.zero[from + 8])};
            unsigned w[4];
#pragma unroll
            for (int i = 0; i < 4; i++)
                w[i] = dequantize_pair(raised_pair<BITS>(packed, step, i), zero[i / 2], scale[i / 2]);
            const int k = kb * 64 + step * 16;
            const uint2 rows = m0 + g < p.m ? uint2{load_vector<unsigned>(x + k), load_vector<unsigned>(x + k + 8)} : uint2{0, 0};
            acc = multiply_f16(acc, uint4{w[0], w[2], w[1], w[3]}, rows);
        }
    }
    const float values[4] = {acc.x, acc.y, acc.z, acc.w};
#pragma unroll
    for (int i = 0; i < 4; i++)
        partial[(warp * ROWS + 2 * t + i % 2) * 16 + g + i / 2 * 8] = values[i];
    __syncthreads();
    for (int q = threadIdx.x; q < ROWS * 16; q += WARPS * 32) {
        const int row = m0 + q / 16, n = n0 + q % 16;
        if (row >= p.m || n >= p.channels)
            continue;
        float v = 0.0f;
        for (int i = 0; i < WARPS; i++)
            v += partial[i * ROWS * 16 + q];
        p.y[(int64_t)row * p.channels + n] = v * p.factor[n] + (p.bias != nullptr ? p.bias[n] : 0.0f);
    }
}

// Many rows: tiles of 64 x 64 by four warps on tensor cores; x through shared memory, weights into registers.
template <int BITS>
__device__ __forceinline__ void weight_only_tiles(const WeightOnlyParams &p)
{
    constexpr int BM = 64, STAGES = 3, ROW = 64, TILE = BM * ROW;
    QC_SHARED(uint16_t, tiles, STAGES * TILE);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
    const int m0 = blockIdx.x * BM, wm = warp / 2 * 32, wn = blockIdx.y * 64 + warp % 2 * 32, blocks = p.k / 64;
    // rows of eight chunks of 16 bytes, swizzled
    auto at = [](int row, int chunk) { return row * ROW + ((chunk ^ (row & 7)) << 3); };
    auto load = [&](int stage, int kb) {
        for (int q = threadIdx.x; q < BM * 8; q += 128) {
            uint16_t *to = tiles + stage * TILE + at(q / 8, q % 8);
            if (m0 + q / 8 < p.m)
                copy_async<16>(to, p.x + (int64_t)(m0 + q / 8) * p.k + kb * 64 + q % 8 * 8);
            else
                store_vector(to, uint4{0, 0, 0, 0});
        }
    };
    float4 acc[2][4];
#pragma unroll
    for (int i = 0; i < 8; i++)
        acc[i / 4][i % 4] = float4{0, 0, 0, 0};
    for (int s = 0; s < STAGES - 1; s++) {
        if (s < blocks)
            load(s, s);
        copy_commit();
    }
    for (int kb = 0; kb < blocks; kb++) {
        copy_wait<STAGES - 2>();
        __syncthreads();
        if (kb + STAGES - 1 < blocks)
            load((kb + STAGES - 1) % STAGES, kb + STAGES - 1);
        copy_commit();
        const uint16_t *tile = tiles + kb % STAGES * TILE;
        Fragment<BITS> packed[2];
#pragma unroll
        for (int j = 0; j < 2; j++)
            packed[j] = wn + 16 * j < p.n ? load_fragment<BITS>(p, (int64_t)(wn / 16 + j) * blocks + kb, lane) : Fragment<BITS>{};
#pragma unroll
        for (int step = 0; step < 4; step++) {
            const int64_t group = group_of(p, 4 * kb + step);
            uint4 a[2];
#pragma unroll
            for (int i = 0; i < 2; i++)
                a[i] = load_matrices(tile + at(wm + 16 * i + lane % 16, 2 * step + lane / 16));
#pragma unroll
            for (int j = 0; j < 2; j++) {
                const bool there = wn + 16 * j < p.n;
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    const int64_t from = group * p.n + wn + 16 * j + g + 8 * half;
                    const unsigned scale = there ? pair(p.scale[from]) : 0, zero = there ? pair(p.zero[from]) : 0;
                    const uint2 b = {dequantize_pair(raised_pair<BITS>(packed[j], step, 2 * half), zero, scale),
                                     dequantize_pair(raised_pair<BITS>(packed[j], step, 2 * half + 1), zero, scale)};
#pragma unroll
                    for (int i = 0; i < 2; i++)
                        acc[i][2 * j + half] = multiply_f16(acc[i][2 * j + half], a[i], b);
                }
            }
        }
    }
    copy_wait<0>();
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const int row = m0 + wm + 16 * i + g, n = wn + 8 * j + 2 * t;
            const float4 v = acc[i][j];
            const float values[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
            for (int e = 0; e < 4; e++)
                if (row + e / 2 * 8 < p.m && n + e % 2 < p.channels)
                    p.y[(int64_t)(row + e / 2 * 8) * p.channels + n + e % 2] = values[e] * p.factor[n + e % 2] + (p.bias != nullptr ? p.bias[n + e % 2] : 0.0f);
        }
}

}  // namespace qc
