// Integers of any width, words and streams: the vendor's types, or with -DQC_NATIVE this machine's.
//
// A word is what one cycle moves: LANES neighbouring elements of a vector, element 0 in the low bits.
#ifndef QC_TYPES_H
#define QC_TYPES_H

#include <stdint.h>

#ifdef QC_NATIVE
#include "qc_native.h"
#else
#include <ap_int.h>
#include <hls_stream.h>

namespace qc {
// An integer that is known never to leave BITS bits.
template <int BITS> using exact = ap_int<BITS>;

// x 2^places, which fits.
template <int BITS> inline ap_int<BITS> shifted_left(ap_int<BITS> x, int places) {
#pragma HLS INLINE
    return x << places;
}
}
#endif

// Called with every word that a unit has written, where a simulation wants to see them; nothing in hardware.
#ifndef QC_TAP
#define QC_TAP(index, stream)
#endif

namespace qc {

template <class T, int LANES> struct word {
    T lane[LANES];
};

// Bits of a count: log2 rounded up.
constexpr int log2_up(int n) { return n <= 1 ? 0 : 1 + log2_up((n + 1) / 2); }

// Element `index` of a packed row of BITS-bit two's complement numbers, least significant first.
template <int BITS, int BYTES> inline exact<BITS> packed(const uint8_t (&row)[BYTES], int index) {
#pragma HLS INLINE
    const int first = index * BITS;
    uint32_t bits = row[first / 8] >> (first % 8);
    for (int got = 8 - first % 8, byte = first / 8 + 1; got < BITS; got += 8, ++byte) {
#pragma HLS UNROLL
        bits |= (uint32_t)row[byte] << got;
    }
    return (exact<BITS>)(ap_int<BITS>)bits;
}

}  // namespace qc

#endif
