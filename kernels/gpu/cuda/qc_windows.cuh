// Windows without a matrix product: depthwise convolution, maximum pooling, and sums over axes.
#pragma once

#include "qc_requantize.cuh"
#include "qc_strided.cuh"

namespace qc {

struct DepthwiseParams {
    const void *x;               // int8, or int16
    const int8_t *weights;       // [taps, padded channels]
    void *y;                     // [N, H, W, C]
    int64_t image, line, pixel;  // strides of x; its channels are neighbours
    const int32_t *bias;
    const int32_t *zeros;        // zero points of the weights [C], or null
    Rescale rescale;
    int32_t batch, channels, weight_row, height, width, out_height, out_width, kernel_y, kernel_x;
    int32_t stride_y, stride_x, pad_y, pad_x, dilation_y, dilation_x, zero_point;
};

__device__ __forceinline__ void load_four(int8_t *to, const int8_t *from)
{
    const int codes = load_vector<int>(from);
#pragma unroll
    for (int i = 0; i < 4; i++)
        to[i] = (int8_t)(codes >> (8 * i));
}

__device__ __forceinline__ void load_four(int16_t *to, const int16_t *from)
{
    const int2 codes = load_vector<int2>(from);
#pragma unroll
    for (int i = 0; i < 4; i++)
        to[i] = (int16_t)((i < 2 ? codes.x : codes.y) >> (16 * (i % 2)));
}

// One thread per output pixel and VEC channels (4 or 1).
template <class IN, int VEC, int PROFILE, class OUT>
__device__ __forceinline__ void depthwise(const DepthwiseParams &p)
{
    const int parts = p.channels / VEC;
    int64_t index = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= (int64_t)p.batch * p.out_height * p.out_width * parts)
        return;
    const int c = (int)(index % parts) * VEC;
    index /= parts;
    const int64_t pixel = index;
    const int ox = (int)(index % p.out_width), oy = (int)(index / p.out_width % p.out_height);
    const IN *image = (const IN *)p.x + index / p.out_width / p.out_height * p.image + c;
    int acc[VEC], zero[VEC];
#pragma unroll
    for (int i = 0; i < VEC; i++) {
        acc[i] = p.bias != nullptr ? p.bias[c + i] : 0;
        zero[i] = p.zeros != nullptr ? p.zeros[c + i] : 0;
    }
    for (int ky = 0; ky < p.kernel_y; ky++) {
        const int y = oy * p.stride_y - p.pad_y + ky * p.dilation_y;
        if (y < 0 || y >= p.height)
            continue;  // a padded code is the zero point and adds nothing
        for (int kx = 0; kx < p.kernel_x; kx++) {
            const int x = ox * p.stride_x - p.pad_x + kx * p.dilation_x;
            if (x < 0 || x >= p.width)
                continue;
            const IN *from = image + y * p.line + x * p.pixel;
            const int8_t *w = p.weights + (ky * p.kernel_x + kx) * p.weight_row + c;
            if constexpr (VEC == 4) {
                IN codes[VEC];
                load_four(codes, from);
                const int filters = load_vector<int>(w);
#pragma unroll
                for (int i = 0; i < VEC; i++)
                    acc[i] += ((int)codes[i] - p.zero_point) * ((int)(int8_t)(filters >> (8 * i)) - zero[i]);
            } else
                acc[0] += ((int)from[0] - p.zero_point) * ((int)w[0] - zero[0]);
        }
    }
    OUT *y = (OUT *)p.y + pixel * p.channels + c;
#pragma unroll
    for (int i = 0; i < VEC; i++)
        y[i] = finish<PROFILE, OUT>(acc[i], p.rescale, c + i);
}

struct WindowParams {
    Strided x, out;             // [N, C, D, H, W] in the first five axes
    int32_t size[RANK];         // of the result
    int32_t inner[3], kernel[3], stride[3], pad[3], dilation[3];  // of x: z, y, x
    int32_t count;
};

__device__ __forceinline__ void max_pool(const WindowParams &p)
{
    const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= (unsigned)p.count)
        return;
    const Place place = place_of(index, p.size);
    int64_t best = p.x.kind == UINT8 ? 0 : p.x.kind == INT8 ? -128 : -32768;
    const int64_t base = place.at[0] * p.x.stride[0] + place.at[1] * p.x.stride[1];
    for (int kz = 0; kz < p.kernel[0]; kz++) {
        const int z = place.at[2] * p.stride[0] - p.pad[0] + kz * p.dilation[0];
        for (int ky = 0; ky < p.kernel[1]; ky++) {
            const int y = place.at[3] * p.stride[1] - p.pad[1] + ky * p.dilation[1];
            for (int kx = 0; kx < p.kernel[2]; kx++) {
                const int x = place.at[4] * p.stride[2] - p.pad[2] + kx * p.dilation[2];
                if (z < 0 || z >= p.inner[0] || y < 0 || y >= p.inner[1] || x < 0 || x >= p.inner[2])
                    continue;
                const int64_t v = load_code(p.x, base + z * p.x.stride[2] + y * p.x.stride[3] + x * p.x.stride[4]);
                best = v > best ? v : best;
            }
        }
    }
    store_code(p.out, offset_of(place, p.out.stride), best);
}

struct SumParams {
    Strided x, out;
    int64_t inner_stride[RANK];  // of x, along the axes that are summed
    int32_t size[RANK];          // of the result
    int32_t inner[RANK];         // sizes of the axes that are summed
    int32_t count, terms;
    Rescale rescale;
};

// Sum of centred codes over axes, rescaled; one warp per result.
template <int PROFILE>
__device__ __forceinline__ void sum_axes(const SumParams &p)
{
    const int lane = threadIdx.x % 32, index = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (index >= p.count)
        return;
    const Place place = place_of((unsigned)index, p.size);
    const int64_t base = offset_of(place, p.x.stride);
    int total = 0;
    for (int i = lane; i < p.terms; i += 32)
        total += (int)load_code(p.x, base + offset_of(place_of((unsigned)i, p.inner), p.inner_stride)) - p.x.zero_point;
    total = warp_sum(total);
    if (lane == 0)
        store_code(p.out, offset_of(place, p.out.stride), requantize<PROFILE>(total, p.rescale, 0));
}

}  // namespace qc
