/* Means of codes of 8 or 16 bits over the middle axis; sums stay below 2^31 for counts up to 2^14. */
#include "qc_internal.h"

void qc_mean_s16(const void *x, void *y, int32_t outer, int32_t count, int32_t inner, const qc_mul_params *p,
                 qc_widths widths)
{
    for (int32_t i = 0; i < outer; i++) {
        for (int32_t j = 0; j < inner; j++) {
            int32_t sum = -count * p->a_zero_point;
            for (int32_t k = 0; k < count; k++) {
                sum += qc_load_code(x, (((i * count) + k) * inner) + j, widths.a);
            }
            const int32_t code = qc_requantize_any(sum, p->multiplier, p->shift, p->zero_point, p->qmin, p->qmax);
            qc_store_code(y, (i * inner) + j, widths.y, code);
        }
    }
}
