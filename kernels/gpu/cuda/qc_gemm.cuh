// int8 matrix product on tensor cores with a fused rescale: c = requantize(a b^T + bias).
//
// a [M, K] is a matrix or the windows of a convolution; b [N, K]. Tiles of BM x BN by warps of WM x WN, 64 of K at a
// time, STAGES tiles under way through asynchronous copies, fragments by ldmatrix, products by mma.m16n8k32. Results
// are gathered in shared memory and written in 16-byte pieces.
//
// Codes of 16 bits are two planes of bytes: value = 256 high + low + 128. Their product is a pass over K per pair of
// planes, from the high ones to the low ones; what is summed so far is multiplied by 256 where the next pair is lower.
// Accumulators are int32 modulo 2^32; what they become fits int32, which interval analysis has proven.
#pragma once

#include "qc_epilogue.cuh"
#include "qc_tile_load.cuh"

namespace qc {

struct GemmParams {
    Matrix a, b;           // constant b: padded to whole tiles, zero points folded into the bias
    int64_t a_low, b_low;  // of codes of 16 bits: from the plane of high bytes to that of low ones
    void *c;
    int64_t c_row, c_batch0, c_batch1;
    const int32_t *bias;   // [N] per group, or null
    const int32_t *b_zeros;  // of SHIFTED weights: zero points [N] per group
    Rescale rescale;
    After after;           // what is computed from the codes before they are written
    Window window;         // of a convolution
    int32_t m, n, k, batch1;
    int32_t group_channels;     // channels from one batch1 to the next: N for groups of a convolution, else 0
    int32_t a_zero, b_zero;     // of products of two activations; 128 lower for codes of 16 bits
    int32_t vector_stores;      // rows of c begin at multiples of 16 bytes
};

enum Operand { MATRIX, WINDOWS, WINDOWS_3D };
enum Right { WEIGHTS, SHIFTED, ACTIVATIONS };  // SHIFTED: weights with zero points

// A thread's part of loading a tile of ROWS rows.
template <int ROWS, int THREADS, class Row>
struct Share {
    static constexpr int COUNT = (ROWS * CHUNKS + THREADS - 1) / THREADS;
    Row rows[COUNT];
};

// A_PLANES, B_PLANES: 2 for codes of 16 bits.
template <int BM, int BN, int WM, int WN, int STAGES, int OPERAND, int VEC, int RIGHT, int A_PLANES, int B_PLANES, int PROFILE, int NEXT, class OUT>
struct Gemm {
    static constexpr bool DEPTH = OPERAND == WINDOWS_3D, ROW_SUMS = RIGHT != WEIGHTS, COLUMN_SUMS = RIGHT == ACTIVATIONS;
    static constexpr int PASSES = A_PLANES * B_PLANES;
    static constexpr int WARPS_M = BM / WM, WARPS_N = BN / WN, THREADS = WARPS_M * WARPS_N * 32;
    static constexpr int MI = WM / 16, NI = WN / 16;
    static constexpr int A_TILE = BM * TILE_K, B_TILE = BN * TILE_K;
    static constexpr int PIECE = 16 / (int)sizeof(OUT), C_ROW = BN + PIECE;
    static constexpr int TILES = STAGES * (A_TILE + B_TILE), RESULT = BM * C_ROW * (int)sizeof(OUT);
    static constexpr int BYTES = TILES > RESULT ? TILES : RESULT;
    static_assert(BYTES <= 48 * 1024, "static shared memory ends at 48 KiB");

    // `offset`: of the plane of bytes, `fill`: what windows have beyond the image.
    template <int ROWS, class Row, class Geometry>
    static __device__ __forceinline__ void load(
        int8_t *tile, const Share<ROWS, THREADS, Row> &share, int k, const Geometry &geometry, int64_t offset, int fill = 0)
    {
#pragma unroll
        for (int i = 0; i < Share<ROWS, THREADS, Row>::COUNT; i++) {
            const int q = threadIdx.x + i * THREADS;
            Row row = share.rows[i];
            if (PASSES > 1 && row.data != nullptr)
                row.data += offset;
            if (ROWS * CHUNKS % THREADS == 0 || q < ROWS * CHUNKS)
                load_chunk<VEC, DEPTH>(tile + swizzled(q / CHUNKS, q % CHUNKS), row, k + q % CHUNKS * CHUNK, geometry, fill);
        }
    }

    // Constant weights lie in whole tiles.
    static __device__ __forceinline__ void load_weights(int8_t *tile, const int8_t *b, int64_t stride, int k)
    {
#pragma unroll
        for (int i = 0; i < (BN * CHUNKS + THREADS - 1) / THREADS; i++) {
            const int q = threadIdx.x + i * THREADS;
            if (BN * CHUNKS % THREADS == 0 || q < BN * CHUNKS)
                copy_async<16>(tile + swizzled(q / CHUNKS, q % CHUNKS), b + q / CHUNKS * stride + k + q % CHUNKS * CHUNK);
        }
    }

    static __device__ __forceinline__ void run(const GemmParams &p)
    {
        QC_SHARED(int8_t, shared, BYTES);
        const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
        const int m0 = blockIdx.x * BM, n0 = blockIdx.y * BN, z0 = blockIdx.z / p.batch1, z1 = blockIdx.z % p.batch1;
        const int wm = warp / WARPS_N * WM, wn = warp % WARPS_N * WN;

        Share<BM, THREADS, WindowRow> windows;
        Share<BM, THREADS, MatrixRow> a_rows;
        Share<BN, THREADS, MatrixRow> b_rows;
        const int8_t *weights = p.b.data + z0 * p.b.batch0 + z1 * p.b.batch1 + n0 * p.b.row;
#pragma unroll
        for (int i = 0; i < Share<BM, THREADS, MatrixRow>::COUNT; i++) {
            const int row = m0 + (threadIdx.x + i * THREADS) / CHUNKS;
            if (OPERAND != MATRIX)
                windows.rows[i] = window_row<DEPTH>(p.window, p.a.data + z1 * p.a.batch1, row, p.m);
            else
                a_rows.rows[i] = matrix_row(p.a, row, p.m, z0, z1);
        }
        if (RIGHT == ACTIVATIONS) {
#pragma unroll
            for (int i = 0; i < Share<BN, THREADS, MatrixRow>::COUNT; i++)
                b_rows.rows[i] = matrix_row(p.b, n0 + (threadIdx.x + i * THREADS) / CHUNKS, p.n, z0, z1);
        }
        const int whole = (p.k + TILE_K - 1) / TILE_K, tiles = whole * PASSES;
        auto load_tile = [&](int stage, int t) {
            int8_t *to = shared + stage * (A_TILE + B_TILE);
            const int pass = PASSES > 1 ? t / whole : 0, k = (t - pass * whole) * TILE_K;
            const bool a_is_low = pass / B_PLANES == 1, b_is_low = B_PLANES > 1 && pass % B_PLANES == 1;
            const int64_t a_offset = a_is_low ? p.a_low : 0, b_offset = b_is_low ? p.b_low : 0;
            if constexpr (OPERAND != MATRIX)
                load<BM>(to, windows, k, p.window, a_offset, a_is_low ? p.window.low_fill : p.window.fill);
            else
                load<BM>(to, a_rows, k, p.k, a_offset);
            if constexpr (RIGHT == ACTIVATIONS)
                load<BN>(to + A_TILE, b_rows, k, p.k, b_offset);
            else
                load_weights(to + A_TILE, weights, p.b.row, k);
        };

        int4 acc[MI][2 * NI], a_sum[MI], b_sum[2 * NI];
#pragma unroll
        for (int i = 0; i < MI; i++) {
            a_sum[i] = int4{0, 0, 0, 0};
#pragma unroll
            for (int j = 0; j < 2 * NI; j++)
                acc[i][j] = int4{0, 0, 0, 0};
        }
#pragma unroll
        for (int j = 0; j < 2 * NI; j++)
            b_sum[j] = int4{0, 0, 0, 0};

        for (int t = 0; t < STAGES - 1; t++) {
            if (t < tiles)
                load_tile(t, t);
            copy_commit();
        }
        for (int t = 0; t < tiles; t++) {
            copy_wait<STAGES - 2>();
            __syncthreads();  // the tile is there for all, and all have left the one that is loaded next
            if (t + STAGES - 1 < tiles)
                load_tile((t + STAGES - 1) % STAGES, t + STAGES - 1);
            copy_commit();
            const int8_t *a_tile = shared + t % STAGES * (A_TILE + B_TILE), *b_tile = a_tile + A_TILE;
            const int pass = PASSES > 1 ? t / whole : 0;
            if (PASSES > 1 && t == pass * whole && pass % 2 == 1) {
#pragma unroll
                for (int i = 0; i < MI; i++) {
                    a_sum[i] = times_256(a_sum[i]);
#pragma unroll
                    for (int j = 0; j < 2 * NI; j++)
                        acc[i][j] = times_256(acc[i][j]);
                }
#pragma unroll
                for (int j = 0; j < 2 * NI; j++)
                    b_sum[j] = times_256(b_sum[j]);
            }
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
                // sums of rows and columns: products with ones, in the layout of the accumulators; every plane once
                const unsigned one = 0x01010101u;
                if (ROW_SUMS && pass % B_PLANES == B_PLANES - 1) {
#pragma unroll
                    for (int i = 0; i < MI; i++)
                        a_sum[i] = multiply_s8(a_sum[i], a[i], uint2{one, one});
                }
                if (COLUMN_SUMS && pass / B_PLANES == A_PLANES - 1) {
#pragma unroll
                    for (int j = 0; j < NI; j++) {
                        b_sum[2 * j] = multiply_s8(b_sum[2 * j], uint4{one, one, one, one}, uint2{b[j].x, b[j].y});
                        b_sum[2 * j + 1] = multiply_s8(b_sum[2 * j + 1], uint4{one, one, one, one}, uint2{b[j].z, b[j].w});
                    }
                }
            }
        }
        copy_wait<0>();
        __syncthreads();  // the results take the place of the tiles

        OUT *result = (OUT *)shared;
        const int64_t place = z0 * p.c_batch0 + z1 * p.c_batch1;
        const int constant = multiply_wrapping(multiply_wrapping(p.a_zero, p.b_zero), p.k);
#pragma unroll
        for (int j = 0; j < 2 * NI; j++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const int column = wn + 8 * j + lane % 4 * 2 + e, n = n0 + column;
                const int channel = n < p.n ? z1 * p.group_channels + n : 0;
                const int bias = RIGHT != ACTIVATIONS && p.bias != nullptr ? p.bias[channel] : 0;
                const int b_zero = RIGHT == SHIFTED ? p.b_zeros[channel] : p.b_zero;
                const int column_sum = e == 0 ? b_sum[j].x : b_sum[j].y;
#pragma unroll
                for (int i = 0; i < MI; i++)
#pragma unroll
                    for (int half = 0; half < 2; half++) {
                        int v = half == 0 ? (e == 0 ? acc[i][j].x : acc[i][j].y) : (e == 0 ? acc[i][j].z : acc[i][j].w);
                        if (ROW_SUMS)
                            v = add_wrapping(v, multiply_wrapping(-b_zero, half == 0 ? a_sum[i].x : a_sum[i].z));
                        if (COLUMN_SUMS)
                            v = add_wrapping(add_wrapping(v, constant), multiply_wrapping(-p.a_zero, column_sum));
                        else
                            v = add_wrapping(v, bias);
                        const int row = wm + 16 * i + 8 * half + lane / 4;
                        const bool there = m0 + row < p.m && n < p.n;
                        OUT &y = result[row * C_ROW + column];
                        if constexpr (NEXT == NOTHING)
                            y = finish<PROFILE, OUT>(v, p.rescale, channel);
                        else
                            y = next<NEXT, OUT>(p.after, requantize<PROFILE>(v, p.rescale, channel), place + (m0 + row) * p.c_row + n, there);
                    }
            }
        __syncthreads();
        OUT *c = (OUT *)p.c + place;
        for (int q = threadIdx.x; q < BM * BN / PIECE; q += THREADS) {
            const int row = q / (BN / PIECE), column = q % (BN / PIECE) * PIECE;
            const OUT *from = result + row * C_ROW + column;
            OUT *to = c + (m0 + row) * p.c_row + n0 + column;
            if (m0 + row >= p.m || n0 + column >= p.n)
                continue;
            if (p.vector_stores && n0 + column + PIECE <= p.n)
                store_vector(to, load_vector<uint4>(from));
            else
                for (int i = 0; i < PIECE && n0 + column + i < p.n; i++)
                    to[i] = from[i];
        }
    }
};

}  // namespace qc
