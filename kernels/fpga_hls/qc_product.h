// Products of two streams: the second is stored whole, then the first is read vector by vector.
#ifndef QC_PRODUCT_H
#define QC_PRODUCT_H

#include "qc_scaling.h"

namespace qc {

// C: tokens, stored, heads, width, pe, steps = width / pe, zero_a, zero_b, multiplier; a_t, b_t, output_t words; term_t
// holds a product of two elements less their zero points; acc_t; scaling.
//
// Of every head of every token the products with that head of all stored tokens, pe terms at a time.
template <class C>
void scores(hls::stream<typename C::a_t> &a, hls::stream<typename C::b_t> &b, hls::stream<typename C::output_t> &out) {
    typename C::b_t memory[C::stored][C::heads * C::steps];
    typename C::a_t kept[C::steps];
    for (int j = 0; j < C::stored; ++j) {
        for (int i = 0; i < C::heads * C::steps; ++i) {
#pragma HLS PIPELINE II=1
            memory[j][i] = b.read();
        }
    }
    int head = 0, j = 0, step = 0;
    typename C::acc_t acc = 0;
    for (int i = 0; i < C::tokens * C::heads * C::stored * C::steps; ++i) {
#pragma HLS PIPELINE II=1
        if (j == 0) {
            kept[step] = a.read();
        }
        if (step == 0) {
            acc = 0;
        }
        const typename C::a_t x = kept[step];
        const typename C::b_t w = memory[j][head * C::steps + step];
        for (int p = 0; p < C::pe; ++p) {
#pragma HLS UNROLL
            const typename C::term_t first = (typename C::term_t)x.lane[p] - (typename C::term_t)C::zero_a;
            const typename C::term_t second = (typename C::term_t)w.lane[p] - (typename C::term_t)C::zero_b;
            acc += (typename C::term_t)(first * second);
        }
        if (++step == C::steps) {
            step = 0;
            typename C::output_t y;
            y.lane[0] = scaled<typename C::scaling>(acc, C::multiplier);
            out.write(y);
            if (++j == C::stored) {
                j = 0;
                head = head + 1 == C::heads ? 0 : head + 1;
            }
        }
    }
}

// For every head of every token a weight per stored token comes, and the weighted sum of that head of the stored tokens
// is written, pe channels at a time.
template <class C>
void mixture(hls::stream<typename C::a_t> &a, hls::stream<typename C::b_t> &b, hls::stream<typename C::output_t> &out) {
    typename C::b_t memory[C::stored][C::heads * C::steps];
    typename C::a_t kept[C::stored];
    for (int j = 0; j < C::stored; ++j) {
        for (int i = 0; i < C::heads * C::steps; ++i) {
#pragma HLS PIPELINE II=1
            memory[j][i] = b.read();
        }
    }
    int head = 0, j = 0, step = 0;
    typename C::acc_t acc[C::pe];
#pragma HLS ARRAY_PARTITION variable=acc complete
    for (int i = 0; i < C::tokens * C::heads * C::stored * C::steps; ++i) {
#pragma HLS PIPELINE II=1
        if (step == 0) {
            kept[j] = a.read();
        }
        const typename C::term_t first = (typename C::term_t)kept[j].lane[0] - (typename C::term_t)C::zero_a;
        const typename C::b_t w = memory[j][head * C::steps + step];
        for (int p = 0; p < C::pe; ++p) {
#pragma HLS UNROLL
            if (j == 0) {
                acc[p] = 0;
            }
            const typename C::term_t second = (typename C::term_t)w.lane[p] - (typename C::term_t)C::zero_b;
            acc[p] += (typename C::term_t)(first * second);
        }
        if (++j == C::stored) {
            j = 0;
            typename C::output_t y;
            for (int p = 0; p < C::pe; ++p) {
#pragma HLS UNROLL
                y.lane[p] = scaled<typename C::scaling>(acc[p], C::multiplier);
            }
            out.write(y);
            if (++step == C::steps) {
                step = 0;
                head = head + 1 == C::heads ? 0 : head + 1;
            }
        }
    }
}

}  // namespace qc

#endif
