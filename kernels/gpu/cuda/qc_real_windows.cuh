// Windows over real numbers: averages, maxima, convolutions; a thread per result.
#pragma once

#include "qc_real.cuh"

namespace qc {

struct RealWindowParams {
    Strided x, out;             // [N, C, D, H, W] in the first five axes
    const float *weight, *bias; // of a convolution: [O, channels, kernel z, y, x]; [O] or null
    int32_t size[RANK];         // of the result
    int32_t inner[3], kernel[3], stride[3], pad[3], dilation[3];  // of x: z, y, x
    int32_t end[3];             // padding behind the last element
    int32_t count, channels, group;  // results, inputs of a group, outputs of a group
};

enum RealWindow { AVERAGE_INSIDE, AVERAGE_PADDED, MAXIMUM, CONVOLUTION };

template <int KIND>
__device__ __forceinline__ void real_window(const RealWindowParams &p)
{
    const unsigned index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= (unsigned)p.count)
        return;
    const Place place = place_of(index, p.size);
    const int first = KIND == CONVOLUTION ? place.at[1] / p.group * p.channels : place.at[1];
    const int channels = KIND == CONVOLUTION ? p.channels : 1;
    const float *weight = KIND == CONVOLUTION ? p.weight + (int64_t)place.at[1] * p.channels * p.kernel[0] * p.kernel[1] * p.kernel[2] : nullptr;
    float total = KIND == MAXIMUM ? -3.402823466e38f : KIND == CONVOLUTION && p.bias != nullptr ? p.bias[place.at[1]] : 0.0f;
    constexpr bool AVERAGE = KIND == AVERAGE_INSIDE || KIND == AVERAGE_PADDED;
    int corner[3];
#pragma unroll
    for (int i = 0; i < 3; i++)
        corner[i] = place.at[2 + i] * p.stride[i] - p.pad[i];
    int64_t base = place.at[0] * p.x.stride[0] + first * p.x.stride[1];
    int counted = 0;
    for (int c = 0; c < channels; c++, base += p.x.stride[1]) {
#pragma unroll 1
        for (int tap = 0; tap < p.kernel[0] * p.kernel[1] * p.kernel[2]; tap++) {
            const int kx = tap % p.kernel[2], rest = tap / p.kernel[2], ky = rest % p.kernel[1], kz = rest / p.kernel[1];
            const int z = corner[0] + kz * p.dilation[0], y = corner[1] + ky * p.dilation[1], x = corner[2] + kx * p.dilation[2];
            const bool inside = z >= 0 && z < p.inner[0] && y >= 0 && y < p.inner[1] && x >= 0 && x < p.inner[2];
            if (AVERAGE)
                counted += KIND == AVERAGE_INSIDE ? inside : z < p.inner[0] + p.end[0] && y < p.inner[1] + p.end[1] && x < p.inner[2] + p.end[2];
            const float w = KIND == CONVOLUTION ? *weight++ : 1.0f;
            if (!inside)
                continue;
            const float v = load_real(p.x, base + z * p.x.stride[2] + y * p.x.stride[3] + x * p.x.stride[4]);
            total = KIND == MAXIMUM ? fmaxf(total, v) : KIND == CONVOLUTION ? total + v * w : total + v;
        }
    }
    store_real(p.out, offset_of(place, p.out.stride), AVERAGE ? total / (float)counted : total);
}

}  // namespace qc
