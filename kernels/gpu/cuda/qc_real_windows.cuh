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
    int counted = 0;
    for (int c = 0; c < channels; c++) {
        const int64_t base = place.at[0] * p.x.stride[0] + (first + c) * p.x.stride[1];
        for (int ky = 0; ky < p.kernel_y; ky++) {
            const int y = place.at[2] * p.stride_y - p.pad_y + ky * p.dilation_y;
            for (int kx = 0; kx < p.kernel_x; kx++) {
                const int x = place.at[3] * p.stride_x - p.pad_x + kx * p.dilation_x;
                counted += y < p.height + p.end_y && x < p.width + p.end_x;
                if (y < 0 || y >= p.height || x < 0 || x >= p.width) {
                    counted -= KIND == AVERAGE_INSIDE && y < p.height + p.end_y && x < p.width + p.end_x;
                    continue;
                }
                const float v = load_real(p.x, base + y * p.x.stride[2] + x * p.x.stride[3]);
                if (KIND == MAXIMUM)
                    total = fmaxf(total, v);
                else
                    total += KIND == CONVOLUTION ? v * weight[(c * p.kernel_y + ky) * p.kernel_x + kx] : v;
            }
        }
    }
    const bool average = KIND == AVERAGE_INSIDE || KIND == AVERAGE_PADDED;
    store_real(p.out, offset_of(place, p.out.stride), average ? total / (float)counted : total);
}

}  // namespace qc
