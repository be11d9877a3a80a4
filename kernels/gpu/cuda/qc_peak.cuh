// What tensor cores reach when all operands lie in registers: the roof beside which products are shown.
#pragma once

#include "qc_device.cuh"

namespace qc {

struct PeakParams {
    int32_t *out;   // a number per thread, so that nothing is left out
    int32_t steps, ones;
};

// CHAINS products that do not wait for each other, again and again.
template <int CHAINS>
__device__ __forceinline__ void peak_products(const PeakParams &p)
{
    const unsigned word = (unsigned)p.ones;
    int4 acc[CHAINS];
#pragma unroll
    for (int i = 0; i < CHAINS; i++)
        acc[i] = int4{0, 0, 0, 0};
    for (int step = 0; step < p.steps; step++)
#pragma unroll
        for (int i = 0; i < CHAINS; i++)
            acc[i] = multiply_s8(acc[i], uint4{word, word, word, word}, uint2{word, word});
    int total = 0;
#pragma unroll
    for (int i = 0; i < CHAINS; i++)
        total = add_wrapping(total, add_wrapping(add_wrapping(acc[i].x, acc[i].y), add_wrapping(acc[i].z, acc[i].w)));
    p.out[blockIdx.x * blockDim.x + threadIdx.x] = total;
}

}  // namespace qc
