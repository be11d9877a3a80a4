// Functions of whole rows: softmax and normalizations, as defined for the ops softmax_lookup, shiftmax,
// integer_layer_norm and integer_rms_norm; constants.
#ifndef QC_ROWS_H
#define QC_ROWS_H

#include "qc_types.h"

namespace qc {

// C: words, pe; word_t; entry_t.
template <class C>
void repeat(hls::stream<typename C::word_t> &out, const typename C::entry_t (&values)[C::words][C::pe]) {
    for (int i = 0; i < C::words; ++i) {
#pragma HLS PIPELINE II=1
        typename C::word_t y;
        for (int p = 0; p < C::pe; ++p) {
#pragma HLS UNROLL
            y.lane[p] = values[i][p];
        }
        out.write(y);
    }
}

// About unit * 2^bits * exp(-distance / unit), by shifts and one division (Li and Gu, arXiv:2207.01405).
template <int UNIT, int BITS> inline exact<40> shift_exp(exact<40> distance) {
#pragma HLS INLINE
    exact<40> p = -distance;
    p = p + (p >> 1) - (p >> 4);
    const exact<40> lowest = -(exact<40>)BITS * (exact<40>)UNIT;
    p = p < lowest ? lowest : p;
    const exact<40> q = -p / UNIT;
    const exact<40> r = -p - q * UNIT;
    const exact<40> mantissa = 2 * (exact<40>)UNIT - r;
    return (exact<40>)(mantissa << (BITS - (int)q)) >> 1;
}

template <class C> struct by_table {
    template <class T> static exact<40> exponential(int distance, const T &table) {
#pragma HLS INLINE
        return distance < C::entries ? (exact<40>)table[distance] : (exact<40>)0;
    }
};

template <class C> struct by_shifts {
    template <class T> static exact<40> exponential(int distance, const T &) {
#pragma HLS INLINE
        return shift_exp<C::unit, C::exponent_bits>(distance);
    }
};

// C: vectors, steps = channels / pe, pe, zero_point, entries; unit, exponent_bits; input_t, output_t words; entry_t;
// sum_t holds the sum of a row times 1024. E: by_table or by_shifts.
template <class C, template <class> class E>
void softmax_rows(hls::stream<typename C::input_t> &in, hls::stream<typename C::output_t> &out,
                  const typename C::entry_t (&table)[C::entries]) {
    typename C::input_t row[C::steps];
    exact<40> e[C::steps][C::pe];
    for (int v = 0; v < C::vectors; ++v) {
        int largest = -(1 << 20);
        for (int i = 0; i < C::steps; ++i) {
#pragma HLS PIPELINE II=1
            row[i] = in.read();
            for (int p = 0; p < C::pe; ++p) {
#pragma HLS UNROLL
                largest = (int)row[i].lane[p] > largest ? (int)row[i].lane[p] : largest;
            }
        }
        typename C::sum_t sum = 0;
        for (int i = 0; i < C::steps; ++i) {
#pragma HLS PIPELINE II=1
            for (int p = 0; p < C::pe; ++p) {
#pragma HLS UNROLL
                e[i][p] = E<C>::exponential(largest - (int)row[i].lane[p], table);
                sum += (typename C::sum_t)e[i][p];
            }
        }
        for (int i = 0; i < C::steps; ++i) {
#pragma HLS PIPELINE II=1
            typename C::output_t y;
            for (int p = 0; p < C::pe; ++p) {
#pragma HLS UNROLL
                const typename C::sum_t scaled = (typename C::sum_t)((typename C::sum_t)e[i][p] << 9) + sum;
                const int probability = (int)(typename C::sum_t)(scaled / (typename C::sum_t)(sum + sum));
                y.lane[p] = (probability > 255 ? 255 : probability) + C::zero_point;
            }
            out.write(y);
        }
    }
}

template <class C>
void softmax_table(hls::stream<typename C::input_t> &in, hls::stream<typename C::output_t> &out,
                   const typename C::entry_t (&table)[C::entries]) {
    softmax_rows<C, by_table>(in, out, table);
}

template <class C>
void softmax_shift(hls::stream<typename C::input_t> &in, hls::stream<typename C::output_t> &out,
                   const typename C::entry_t (&none)[C::entries]) {
    softmax_rows<C, by_shifts>(in, out, none);
}

// The largest k with k * k <= v, for 0 <= v < 2^62, a bit at a time.
inline exact<64> floor_sqrt(exact<64> v) {
    exact<64> root = 0;
    for (int bit = 30; bit >= 0; --bit) {
#pragma HLS PIPELINE II=1
        const exact<64> candidate = root | ((exact<64>)1 << bit);
        if (candidate * candidate <= v) {
            root = candidate;
        }
    }
    return root;
}

// C: vectors, steps = channels / pe, pe, zero_point_in, fraction, eps, shift, zero_point, qmin, qmax, centred;
// input_t, output_t words. Everything fits 64 bits.
template <class C>
void normalize(hls::stream<typename C::input_t> &in, hls::stream<typename C::output_t> &out,
               const int32_t (&weight)[C::steps][C::pe], const int64_t (&bias)[C::steps][C::pe]) {
    const exact<64> count = C::steps * C::pe;
    exact<64> row[C::steps][C::pe];
    for (int v = 0; v < C::vectors; ++v) {
        exact<64> sum = 0;
        for (int i = 0; i < C::steps; ++i) {
#pragma HLS PIPELINE II=1
            const typename C::input_t x = in.read();
            for (int p = 0; p < C::pe; ++p) {
#pragma HLS UNROLL
                const exact<64> centred = (exact<64>)x.lane[p] - (exact<64>)C::zero_point_in;
                row[i][p] = centred * ((exact<64>)1 << C::fraction);
                sum += row[i][p];
            }
        }
        exact<64> mean = 0;
        if (C::centred) {  // floor((2 sum + count) / (2 count)); C++ divides towards zero
            const exact<64> above = 2 * sum + count;
            const exact<64> below = 2 * count;
            mean = above / below;
            if (mean * below > above) {
                mean -= 1;
            }
        }
        exact<64> squares = C::eps;
        for (int i = 0; i < C::steps; ++i) {
#pragma HLS PIPELINE II=1
            for (int p = 0; p < C::pe; ++p) {
#pragma HLS UNROLL
                row[i][p] -= mean;
                squares += row[i][p] * row[i][p];
            }
        }
        const exact<64> reciprocal = ((exact<64>)1 << 40) / floor_sqrt(squares);
        for (int i = 0; i < C::steps; ++i) {
#pragma HLS PIPELINE II=1
            typename C::output_t y;
            for (int p = 0; p < C::pe; ++p) {
#pragma HLS UNROLL
                const exact<64> t = (exact<64>)(row[i][p] * reciprocal) >> 10;
                const exact<64> total = t * (exact<64>)weight[i][p] + (exact<64>)bias[i][p] + ((exact<64>)1 << (C::shift - 1));
                const exact<64> code = (exact<64>)(total >> C::shift) + (exact<64>)C::zero_point;
                y.lane[p] = code < C::qmin ? (exact<64>)C::qmin : (code > C::qmax ? (exact<64>)C::qmax : code);
            }
            out.write(y);
        }
    }
}

}  // namespace qc

#endif
