// Windows over real numbers: averages, maxima, convolutions; a thread per result.
#pragma once

#include "qc_real.cuh"

namespace qc {

struct RealWindowParams {
    Strided x, out;             // [N, C, H, W] in the first four axes
    const float *weight, *bias; // of a convolution: [O, channels, kernel y, kernel x]; [O] or null
    int32_t size[RANK];         // of the result
    int32_t count, height, width, kernel_y, kernel_x, stride_y, stride_x, pad_y, pad_x, dilation_y, dilation_x;
    int32_t end_y, end_x;       // padding behind the last element
    int32_t channels, group;    // inputs of a group, outputs of a group
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
    const float *weight = KIND == CONVOLUTION ? p.weight + (int64_t)place.at[1] * p.channels * p.kernel_y * p.kernel_x : nullptr;
    float total = KIND == MAXIMUM ? -3.402823466e38f : KIND == CONVOLUTION && p.bias != nullptr ? p.bias[place.at[1]] : 0.0f;
    constexpr bool AVERAGE = KIND == AVERAGE_INSIDE || KIND == AVERAGE_PADDED;
    const int y0 = place.at[2] * p.stride_y - p.pad_y, x0 = place.at[3] * p.stride_x - p.pad_x;
    int64_t base = place.at[0] * p.x.stride[0] + first * p.x.stride[1];
    int counted = 0;
    for (int c = 0; c < channels; c++, base += p.x.stride[1]) {
#pragma unroll 1
        for (int ky = 0; ky < p.kernel_y; ky++) {
            const int y = y0 + ky * p.dilation_y;
#pragma unroll 1
            for (int kx = 0; kx < p.kernel_x; kx++) {
                const int x = x0 + kx * p.dilation_x;
                const bool inside = y >= 0 && y < p.height && x >= 0 && x < p.width;
                if (AVERAGE)
                    counted += KIND == AVERAGE_INSIDE ? inside : y < p.height + p.end_y && x < p.width + p.end_x;
                const float w = KIND == CONVOLUTION ? *weight++ : 1.0f;
                if (!inside)
                    continue;
                const float v = load_real(p.x, base + y * p.x.stride[2] + x * p.x.stride[3]);
                total = KIND == MAXIMUM ? fmaxf(total, v) : KIND == CONVOLUTION ? total + v * w : total + v;
            }
        }
    }
    store_real(p.out, offset_of(place, p.out.stride), AVERAGE ? total / (float)counted : total);
}

}  // namespace qc
