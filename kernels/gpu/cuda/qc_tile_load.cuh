// Loading of tiles of int8 operands into shared memory: rows of 64 bytes, as 16-byte chunks that are swizzled so that
// the eight rows of a matrix load lie in different banks.
#pragma once

#include "qc_device.cuh"

namespace qc {

constexpr int TILE_K = 64, CHUNK = 16, CHUNKS = TILE_K / CHUNK;

__device__ __forceinline__ int swizzled(int row, int chunk) { return row * TILE_K + ((chunk ^ ((row >> 1) & 3)) << 4); }

// A matrix with rows of contiguous elements.
struct Matrix {
    const int8_t *data;
    int64_t row, batch0, batch1;  // strides in elements
};

// Geometry of a convolution over [N, H, W, C] or [N, D, H, W, C]; k counts taps, channels innermost.
struct Window {
    const int2 *taps;             // [padded K / VEC]: offset of a tap's element, and its place (`tap_inside`)
    int64_t image, plane, line, pixel;  // strides of x in elements
    int32_t depth, height, width, out_depth, out_height, out_width, stride_z, stride_y, stride_x, pad_z, pad_y, pad_x;
    int32_t fill;                 // the code of the real 0
    int32_t low_fill;             // of codes of 16 bits: its low byte, 128 lower; `fill` is the high one
};

// Where the rows of a tile come from that one thread loads.
struct MatrixRow { const int8_t *data; };
struct WindowRow { const int8_t *data; int z, y, x; };

// True if the image has the element of a tap: row << 16 | column, over three axes plane << 22 | row << 11 | column.
template <bool DEPTH>
__device__ __forceinline__ bool tap_inside(const WindowRow &row, int place, const Window &w)
{
    const int y = row.y + (DEPTH ? place >> 11 & 0x7ff : place >> 16), x = row.x + (place & (DEPTH ? 0x7ff : 0xffff));
    const bool inside = row.data != nullptr && (unsigned)y < (unsigned)w.height && (unsigned)x < (unsigned)w.width;
    return inside && (!DEPTH || (unsigned)(row.z + (place >> 22)) < (unsigned)w.depth);
}

// Copy the chunk at k of a row with K elements; beyond it there are zeros. VEC: elements that lie together and aligned.
template <int VEC, bool DEPTH = false>
__device__ __forceinline__ void load_chunk(int8_t *to, const MatrixRow &row, int k, int size, int = 0)
{
    if (VEC >= 4 && row.data != nullptr && k + CHUNK <= size) {
        for (int i = 0; i < CHUNK; i += VEC < 4 ? 4 : VEC)
            copy_async<VEC < 4 ? 4 : VEC>(to + i, row.data + k + i);
        return;
    }
    unsigned words[4] = {0, 0, 0, 0};
    if (row.data != nullptr && k < size) {
#pragma unroll
        for (int i = 0; i < CHUNK; i++)
            if (k + i < size)
                words[i / 4] |= (unsigned)(uint8_t)row.data[k + i] << (8 * (i % 4));
    }
    store_vector(to, uint4{words[0], words[1], words[2], words[3]});
}

template <int VEC, bool DEPTH>
__device__ __forceinline__ void load_chunk(int8_t *to, const WindowRow &row, int k, const Window &w, int code)
{
    const unsigned fill = (unsigned)(uint8_t)code * 0x01010101u;
    if (VEC == 1) {
        unsigned words[4] = {0, 0, 0, 0};
#pragma unroll
        for (int i = 0; i < CHUNK; i++) {
            const int2 tap = w.taps[k + i];
            words[i / 4] |= (tap_inside<DEPTH>(row, tap.y, w) ? (unsigned)(uint8_t)row.data[tap.x] : fill & 255u) << (8 * (i % 4));
        }
        store_vector(to, uint4{words[0], words[1], words[2], words[3]});
        return;
    }
    constexpr int STEP = VEC == 1 ? 4 : VEC;
#pragma unroll
    for (int i = 0; i < CHUNK; i += STEP) {
        const int2 tap = w.taps[(k + i) / STEP];
        if (tap_inside<DEPTH>(row, tap.y, w))
            copy_async<STEP>(to + i, row.data + tap.x);
        else if (STEP == 16)
            store_vector(to + i, uint4{fill, fill, fill, fill});
        else
            store_vector(to + i, fill);
    }
}

__device__ __forceinline__ MatrixRow matrix_row(const Matrix &m, int row, int rows, int z0, int z1)
{
    return {row < rows ? m.data + z0 * m.batch0 + z1 * m.batch1 + row * m.row : nullptr};
}

// Row m of the matrix of windows: output pixel m of all images. `first`: of the channels of a group.
template <bool DEPTH>
__device__ __forceinline__ WindowRow window_row(const Window &w, const int8_t *first, int m, int rows)
{
    if (m >= rows)
        return {nullptr, 0, 0, 0};
    const int x = m % w.out_width, lines = m / w.out_width, y = lines % w.out_height, planes = lines / w.out_height;
    const int z = DEPTH ? planes % w.out_depth : 0, n = DEPTH ? planes / w.out_depth : planes;
    const int front = DEPTH ? z * w.stride_z - w.pad_z : 0, top = y * w.stride_y - w.pad_y, left = x * w.stride_x - w.pad_x;
    return {first + n * w.image + front * w.plane + top * w.line + left * w.pixel, front, top, left};
}

}  // namespace qc
