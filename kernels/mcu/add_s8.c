/* Sum of two operands, each with its own multiplier, and one rounding:
 *
 *   y = clip(round((m_0 (a - z_0) + m_1 (b - z_1)) * 2^-shift) + zero_point, qmin, qmax)
 *
 * Ranges: |m| < 2^31, codes of 8 bits, so the exact sum is below 2^41; shift in [1, 62] (dyadic, ties up) or [-31, 62]
 * (half even). The rounding constant and the zero points of the operands are in `offset`. */
#include "qc_internal.h"

static inline int8_t qc_sum(int32_t a, int32_t b, const qc_add_params *p)
{
    const int64_t sum = p->offset + ((int64_t)p->multiplier[0] * a) + ((int64_t)p->multiplier[1] * b);
#if QC_PROFILE == QC_PROFILE_DYADIC
    const int32_t v = qc_limit_int32(sum >> p->shift);
#else
    /* a left shift saturates long before 64 bits are full */
    const int64_t bound = (int64_t)1 << 31;
    const int64_t limited = (sum > bound) ? bound : ((sum < -bound) ? -bound : sum);
    const int32_t v = qc_limit_int32(qc_shift_half_even((p->shift < 0) ? limited : sum, p->shift));
#endif
    return (int8_t)(qc_clip(v, p->qmin - p->zero_point, p->qmax - p->zero_point) + p->zero_point);
}

void qc_add_s8(const int8_t *a, const int8_t *b, int8_t *y, int32_t count, int32_t period, const qc_add_params *p)
{
    int32_t j = 0;
    for (int32_t i = 0; i < count; i++) {
        y[i] = qc_sum(a[i], b[j], p);
        j++;
        if (j == period) {
            j = 0;
        }
    }
}
