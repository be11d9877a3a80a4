// Products of a weight in its memory and a code.
#ifndef QC_WEIGHT_H
#define QC_WEIGHT_H

#include "qc_types.h"

namespace qc {

// The weight is a sum of DIGITS signed powers of two: a shift and an addition for each. A digit has 4 bits: the power in the
// low three, 7 for none, and the sign. DOT bits hold every sum on the way.
template <int DIGITS, int BITS, int DOT> struct product {
    template <int BYTES, class T> static exact<DOT> of(const uint8_t (&row)[BYTES], int index, T x) {
#pragma HLS INLINE
        exact<DOT> sum = 0;
        for (int d = 0; d < DIGITS; ++d) {
#pragma HLS UNROLL
            const int digit = (int)packed<4>(row, index * DIGITS + d);
            const int place = digit & 7;
            const exact<DOT> term = place == 7 ? (exact<DOT>)0 : shifted_left((exact<DOT>)x, place);
            sum += digit < 0 ? (exact<DOT>)(-term) : term;
        }
        return sum;
    }
};

// It is a number of BITS bits.
template <int BITS, int DOT> struct product<0, BITS, DOT> {
    template <int BYTES, class T> static exact<DOT> of(const uint8_t (&row)[BYTES], int index, T x) {
#pragma HLS INLINE
        const exact<DOT> weight = packed<BITS>(row, index);
        return weight * (exact<DOT>)x;
    }
};

}  // namespace qc

#endif
