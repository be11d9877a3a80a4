/* As add_s8.c for codes of 8 or 16 bits: the exact sum is below 2^49. */
#include "qc_internal.h"

void qc_add_s16(const void *a, const void *b, void *y, int32_t count, int32_t period, const qc_add_params *p,
                qc_widths widths)
{
    int32_t j = 0;
    for (int32_t i = 0; i < count; i++) {
        const int64_t first = (int64_t)p->multiplier[0] * qc_load_code(a, i, widths.a);
        const int64_t second = (int64_t)p->multiplier[1] * qc_load_code(b, j, widths.b);
        qc_store_code(y, i, widths.y, qc_scale_sum(p->offset + first + second, p));
        j++;
        if (j == period) {
            j = 0;
        }
    }
}
