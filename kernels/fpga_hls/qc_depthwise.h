// One filter per channel over windows that come channel group by channel group.
#ifndef QC_DEPTHWISE_H
#define QC_DEPTHWISE_H

#include "qc_scaling.h"
#include "qc_weight.h"

namespace qc {

// C: vectors, row_steps = channels / pe, column_steps = taps, pe, weight_bits (in memory), digits, dot_bits (of a product), row_bytes;
// input_t, output_t words; acc_t; multiplier_t; scaling. weights: a row per cycle of one window.
template <class C>
void depthwise(hls::stream<typename C::input_t> &in, hls::stream<typename C::output_t> &out,
               const uint8_t (&weights)[C::row_steps * C::column_steps][C::row_bytes],
               const typename C::acc_t (&bias)[C::row_steps][C::pe],
               const typename C::multiplier_t (&multiplier)[C::scaling_steps][C::scaling_pe]) {
    typename C::acc_t acc[C::pe];
#pragma HLS ARRAY_PARTITION variable=acc complete
    int group = 0, tap = 0, address = 0;
    for (int step = 0; step < C::vectors * C::row_steps * C::column_steps; ++step) {
#pragma HLS PIPELINE II=1
        const typename C::input_t x = in.read();
        for (int p = 0; p < C::pe; ++p) {
#pragma HLS UNROLL
            const exact<C::dot_bits> y = product<C::digits, C::weight_bits, C::dot_bits>::of(weights[address], p, x.lane[p]);
            if (tap == 0) {
                acc[p] = bias[group][p];
            }
            acc[p] += y;
        }
        ++address;
        if (++tap == C::column_steps) {
            tap = 0;
            typename C::output_t y;
            for (int p = 0; p < C::pe; ++p) {
#pragma HLS UNROLL
                y.lane[p] = scaled<typename C::scaling>(acc[p], multiplier[C::per_channel ? group : 0][C::per_channel ? p : 0]);
            }
            out.write(y);
            if (++group == C::row_steps) {
                group = 0;
                address = 0;
            }
        }
    }
}

}  // namespace qc

#endif
