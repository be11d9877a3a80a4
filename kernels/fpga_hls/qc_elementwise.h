// Sums of streams, other parameters, tables: a word in, a word out.
#ifndef QC_ELEMENTWISE_H
#define QC_ELEMENTWISE_H

#include "qc_scaling.h"

namespace qc {

// C: words, pe, multiplier_a, multiplier_b, offset = -(multiplier_a zero_a + multiplier_b zero_b);
// a_t, b_t, output_t words; scaling.
template <class C>
void add(hls::stream<typename C::a_t> &a, hls::stream<typename C::b_t> &b, hls::stream<typename C::output_t> &out) {
    typedef typename C::scaling::product_t product_t;
    for (int i = 0; i < C::words; ++i) {
#pragma HLS PIPELINE II=1
        const typename C::a_t x = a.read();
        const typename C::b_t y = b.read();
        typename C::output_t z;
        for (int p = 0; p < C::pe; ++p) {
#pragma HLS UNROLL
            const product_t first = (product_t)x.lane[p] * (product_t)C::multiplier_a;
            const product_t second = (product_t)y.lane[p] * (product_t)C::multiplier_b;
            z.lane[p] = shifted<typename C::scaling>((product_t)(first + second + (product_t)C::offset));
        }
        out.write(z);
    }
}

// C: words, pe, zero_point, acc_t (an element less its zero point), multiplier; input_t, output_t words; scaling.
template <class C> void rescale(hls::stream<typename C::input_t> &in, hls::stream<typename C::output_t> &out) {
    for (int i = 0; i < C::words; ++i) {
#pragma HLS PIPELINE II=1
        const typename C::input_t x = in.read();
        typename C::output_t y;
        for (int p = 0; p < C::pe; ++p) {
#pragma HLS UNROLL
            const typename C::acc_t centred = (typename C::acc_t)x.lane[p] - (typename C::acc_t)C::zero_point;
            y.lane[p] = scaled<typename C::scaling>(centred, C::multiplier);
        }
        out.write(y);
    }
}

// C: words, pe, smallest (code), entries; input_t, output_t words; entry_t.
template <class C>
void lookup(hls::stream<typename C::input_t> &in, hls::stream<typename C::output_t> &out,
            const typename C::entry_t (&table)[C::entries]) {
    for (int i = 0; i < C::words; ++i) {
#pragma HLS PIPELINE II=1
        const typename C::input_t x = in.read();
        typename C::output_t y;
        for (int p = 0; p < C::pe; ++p) {
#pragma HLS UNROLL
            y.lane[p] = table[(int)x.lane[p] - C::smallest];
        }
        out.write(y);
    }
}

}  // namespace qc

#endif
