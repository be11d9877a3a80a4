/* Rescaling of integer sums: the C form of qcompiler/ir/fixed_point.py.
 *
 * QC_PROFILE_DYADIC           (acc * m + 2^(s-1)) >> s, ties up; packed shift = s - 33, in [-32, 29]
 * QC_PROFILE_SHIFT_HALF_EVEN  acc / 2^s, ties to even; packed shift = s, in [-31, 62]; m is not read
 *
 * Ranges: acc any int32, 0 < m < 2^31. Results are limited to int32, which loses nothing: every caller saturates to
 * 16 bits or fewer. Right shifts of negative numbers are arithmetic, as on every compiler for these cores.
 */
#ifndef QC_FIXED_POINT_H
#define QC_FIXED_POINT_H

#include <stdint.h>

#define QC_PROFILE_DYADIC 1
#define QC_PROFILE_SHIFT_HALF_EVEN 2

#ifndef QC_PROFILE
#define QC_PROFILE QC_PROFILE_DYADIC
#endif

#if (QC_PROFILE != QC_PROFILE_DYADIC) && (QC_PROFILE != QC_PROFILE_SHIFT_HALF_EVEN)
#error "QC_PROFILE is QC_PROFILE_DYADIC or QC_PROFILE_SHIFT_HALF_EVEN"
#endif

static inline int32_t qc_clip(int32_t v, int32_t low, int32_t high)
{
    if (v < low) {
        v = low;
    }
    return (v > high) ? high : v;
}

static inline int32_t qc_limit_int32(int64_t v)
{
    if (v < (int64_t)INT32_MIN) {
        v = (int64_t)INT32_MIN;
    }
    return (v > (int64_t)INT32_MAX) ? INT32_MAX : (int32_t)v;
}

/* The high word of a product. */
static inline int32_t qc_mul_high(int32_t a, int32_t b)
{
    return (int32_t)(((int64_t)a * b) >> 32);
}

/* v / 2^s, ties to even; -31 <= s <= 62 and |v| * 2^-s < 2^63. */
static inline int64_t qc_shift_half_even(int64_t v, int32_t s)
{
    if (s <= 0) {
        return v * ((int64_t)1 << -s);
    }
    const int64_t odd = (v >> s) & 1;
    const int64_t half = (int64_t)1 << (s - 1);
    return (v + (half - 1) + odd) >> s;
}

static inline int32_t qc_rescale_dyadic(int32_t acc, int32_t m, int32_t shift)
{
    if (shift >= 0) { /* the low word cannot reach the result: floor of a floor */
        return (qc_mul_high(acc, m) + ((int32_t)1 << shift)) >> (shift + 1);
    }
    const int32_t s = shift + 33;
    return qc_limit_int32((((int64_t)acc * m) + ((int64_t)1 << (s - 1))) >> s);
}

/* acc rescaled, before zero point and limits. */
static inline int32_t qc_rescale(int32_t acc, int32_t m, int32_t shift)
{
#if QC_PROFILE == QC_PROFILE_DYADIC
    return qc_rescale_dyadic(acc, m, shift);
#else
    (void)m;
    return qc_limit_int32(qc_shift_half_even((int64_t)acc, shift));
#endif
}

/* acc rescaled to a code. |zero_point| < 2^15. */
static inline int32_t qc_requantize(int32_t acc, int32_t m, int32_t shift, int32_t zero_point, int32_t low, int32_t high)
{
    const int32_t v = qc_rescale(acc, m, shift);
    return qc_clip(v, low - zero_point, high - zero_point) + zero_point;
}

/* The same where a program of powers of two has factors that are none (means): those are dyadic, with m > 1. */
static inline int32_t qc_requantize_any(int32_t acc, int32_t m, int32_t shift, int32_t zero_point, int32_t low, int32_t high)
{
    const int32_t v = (m == 1) ? qc_rescale(acc, m, shift) : qc_rescale_dyadic(acc, m, shift);
    return qc_clip(v, low - zero_point, high - zero_point) + zero_point;
}

#endif
