// Accumulators to codes, with one rounding:
//
//   dyadic             clip(((acc * m + 2^(shift-1)) >> shift) + zero_point)      ties up
//   shift, half even   clip(round((acc << m) / 2^shift) + zero_point)             ties to even
//
// C: shift, zero_point, qmin, qmax, half_even; product_t holds acc * m and the rounding constant; code_t the result.
#ifndef QC_SCALING_H
#define QC_SCALING_H

#include "qc_types.h"

namespace qc {

template <class C> typename C::code_t clipped(typename C::product_t x) {
#pragma HLS INLINE
    const typename C::product_t y = x + (typename C::product_t)C::zero_point;
    if (y < (typename C::product_t)C::qmin) {
        return C::qmin;
    }
    if (y > (typename C::product_t)C::qmax) {
        return C::qmax;
    }
    return y;
}

// x / 2^shift, rounded.
template <class C> typename C::code_t shifted(typename C::product_t x) {
#pragma HLS INLINE
    typedef typename C::product_t product_t;
    const product_t one = 1;
    if (C::shift == 0) {
        return clipped<C>(x);
    }
    const product_t half = one << (C::shift > 0 ? C::shift - 1 : 0);
    if (!C::half_even) {
        const product_t sum = x + half;
        return clipped<C>(sum >> C::shift);
    }
    const product_t floor = x >> C::shift;
    const product_t rest = x - shifted_left(floor, C::shift);
    const bool odd = (floor & one) != 0;
    return clipped<C>(rest > half || (rest == half && odd) ? (product_t)(floor + one) : floor);
}

// `m` is a multiplier, or for half even the number of places by which acc is shifted left.
template <class C, class A, class M> typename C::code_t scaled(A acc, M m) {
#pragma HLS INLINE
    const typename C::product_t wide = acc;
    if (C::half_even) {
        return shifted<C>(shifted_left(wide, (int)m));
    }
    return shifted<C>((typename C::product_t)(wide * (typename C::product_t)m));
}

}  // namespace qc

#endif
