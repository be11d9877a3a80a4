// The largest element of windows; the sum of a frame.
#ifndef QC_POOL_H
#define QC_POOL_H

#include "qc_scaling.h"

namespace qc {

// C: windows = vectors * channels / pe, taps, pe, word_t.
template <class C> void max_pool(hls::stream<typename C::word_t> &in, hls::stream<typename C::word_t> &out) {
    typename C::word_t best;
    int tap = 0;
    for (int step = 0; step < C::windows * C::taps; ++step) {
#pragma HLS PIPELINE II=1
        const typename C::word_t x = in.read();
        for (int p = 0; p < C::pe; ++p) {
#pragma HLS UNROLL
            best.lane[p] = tap == 0 || x.lane[p] > best.lane[p] ? x.lane[p] : best.lane[p];
        }
        if (++tap == C::taps) {
            tap = 0;
            out.write(best);
        }
    }
}

// C: vectors, groups = channels / pe, pe, bias; input_t, output_t words; acc_t; multiplier; scaling.
template <class C> void frame_pool(hls::stream<typename C::input_t> &in, hls::stream<typename C::output_t> &out) {
    typename C::acc_t acc[C::groups][C::pe];
#pragma HLS ARRAY_PARTITION variable=acc complete dim=2
    for (int v = 0; v < C::vectors; ++v) {
        for (int g = 0; g < C::groups; ++g) {
#pragma HLS PIPELINE II=1
            const typename C::input_t x = in.read();
            for (int p = 0; p < C::pe; ++p) {
#pragma HLS UNROLL
                if (v == 0) {
                    acc[g][p] = C::bias;
                }
                acc[g][p] += x.lane[p];
            }
        }
    }
    for (int g = 0; g < C::groups; ++g) {
#pragma HLS PIPELINE II=1
        typename C::output_t y;
        for (int p = 0; p < C::pe; ++p) {
#pragma HLS UNROLL
            y.lane[p] = scaled<typename C::scaling>(acc[g][p], C::multiplier);
        }
        out.write(y);
    }
}

}  // namespace qc

#endif
