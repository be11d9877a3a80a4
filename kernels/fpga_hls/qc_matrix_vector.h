// y = rescale(W x + bias) for every vector, PE rows and SIMD columns at a time.
#ifndef QC_MATRIX_VECTOR_H
#define QC_MATRIX_VECTOR_H

#include "qc_scaling.h"
#include "qc_weight.h"

namespace qc {

// C: vectors, row_steps = rows / pe, column_steps = columns / simd, pe, simd, weight_bits (in memory), digits, dot_bits (of
// a sum of simd products), row_bytes; input_t, output_t words; acc_t; multiplier_t; scaling.
//
// The vector is read while the first PE rows are computed and kept for the others. weights: a row per cycle of one
// vector, PE * SIMD packed numbers, SIMD of the first PE row first. Accumulators wrap around; the end fits.
template <class C>
void matrix_vector(hls::stream<typename C::input_t> &in, hls::stream<typename C::output_t> &out,
                   const uint8_t (&weights)[C::row_steps * C::column_steps][C::row_bytes],
                   const typename C::acc_t (&bias)[C::row_steps][C::pe],
                   const typename C::multiplier_t (&multiplier)[C::scaling_steps][C::scaling_pe]) {
    typename C::input_t kept[C::column_steps];
    typename C::acc_t acc[C::pe];
#pragma HLS ARRAY_PARTITION variable=acc complete
    int row = 0, column = 0, address = 0;
    for (int step = 0; step < C::vectors * C::row_steps * C::column_steps; ++step) {
#pragma HLS PIPELINE II=1
        typename C::input_t x;
        if (row == 0) {
            x = in.read();
            kept[column] = x;
        } else {
            x = kept[column];
        }
        for (int p = 0; p < C::pe; ++p) {
#pragma HLS UNROLL
            exact<C::dot_bits> dot = 0;
            for (int s = 0; s < C::simd; ++s) {
#pragma HLS UNROLL
                dot += product<C::digits, C::weight_bits, C::dot_bits>::of(weights[address], p * C::simd + s, x.lane[s]);
            }
            if (column == 0) {
                acc[p] = bias[row][p];
            }
            acc[p] += dot;
        }
        ++address;
        if (++column == C::column_steps) {
            column = 0;
            typename C::output_t y;
            for (int p = 0; p < C::pe; ++p) {
#pragma HLS UNROLL
                y.lane[p] = scaled<typename C::scaling>(acc[p], multiplier[C::per_channel ? row : 0][C::per_channel ? p : 0]);
            }
            out.write(y);
            if (++row == C::row_steps) {
                row = 0;
                address = 0;
            }
        }
    }
}

}  // namespace qc

#endif
