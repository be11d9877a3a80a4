// Words to other streams: copies, vectors side by side, words of other lanes.
#ifndef QC_ROUTING_H
#define QC_ROUTING_H

#include "qc_types.h"

namespace qc {

// C: words, word_t.
template <class C>
void fork(hls::stream<typename C::word_t> &in, hls::stream<typename C::word_t> &first, hls::stream<typename C::word_t> &second) {
    for (int i = 0; i < C::words; ++i) {
#pragma HLS PIPELINE II=1
        const typename C::word_t x = in.read();
        first.write(x);
        second.write(x);
    }
}

template <class C>
void fork(hls::stream<typename C::word_t> &in, hls::stream<typename C::word_t> &first, hls::stream<typename C::word_t> &second,
          hls::stream<typename C::word_t> &third) {
    for (int i = 0; i < C::words; ++i) {
#pragma HLS PIPELINE II=1
        const typename C::word_t x = in.read();
        first.write(x);
        second.write(x);
        third.write(x);
    }
}

// C: vectors, words_a, words_b (of a vector), word_t.
template <class C>
void concat(hls::stream<typename C::word_t> &a, hls::stream<typename C::word_t> &b, hls::stream<typename C::word_t> &out) {
    int at = 0;
    for (int i = 0; i < C::vectors * (C::words_a + C::words_b); ++i) {
#pragma HLS PIPELINE II=1
        const typename C::word_t x = at < C::words_a ? a.read() : b.read();
        out.write(x);
        at = at + 1 == C::words_a + C::words_b ? 0 : at + 1;
    }
}

// C: words (of the narrow side), narrow, factor = wide / narrow; narrow_t, wide_t.
template <class C> void widen(hls::stream<typename C::narrow_t> &in, hls::stream<typename C::wide_t> &out) {
    typename C::wide_t word;
    int part = 0;
    for (int i = 0; i < C::words; ++i) {
#pragma HLS PIPELINE II=1
        const typename C::narrow_t x = in.read();
        for (int l = 0; l < C::narrow * C::factor; ++l) {
#pragma HLS UNROLL
            if (l / C::narrow == part) {
                word.lane[l] = x.lane[l % C::narrow];
            }
        }
        if (++part == C::factor) {
            part = 0;
            out.write(word);
        }
    }
}

template <class C> void narrow(hls::stream<typename C::wide_t> &in, hls::stream<typename C::narrow_t> &out) {
    typename C::wide_t word;
    int part = 0;
    for (int i = 0; i < C::words; ++i) {
#pragma HLS PIPELINE II=1
        if (part == 0) {
            word = in.read();
        }
        typename C::narrow_t x;
        for (int l = 0; l < C::narrow; ++l) {
#pragma HLS UNROLL
            x.lane[l] = word.lane[part * C::narrow + l];
        }
        out.write(x);
        part = part + 1 == C::factor ? 0 : part + 1;
    }
}

}  // namespace qc

#endif
