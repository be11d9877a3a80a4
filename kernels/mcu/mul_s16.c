/* As mul_s8.c for codes of 8 or 16 bits. The compiler proves that the product fits int32. */
#include "qc_internal.h"

void qc_mul_s16(const void *a, const void *b, void *y, int32_t count, int32_t period, const qc_mul_params *p,
                qc_widths widths)
{
    int32_t j = 0;
    for (int32_t i = 0; i < count; i++) {
        const int32_t first = qc_load_code(a, i, widths.a) - p->a_zero_point;
        const int32_t product = first * (qc_load_code(b, j, widths.b) - p->b_zero_point);
        const int32_t code = qc_requantize_any(product, p->multiplier, p->shift, p->zero_point, p->qmin, p->qmax);
        qc_store_code(y, i, widths.y, code);
        j++;
        if (j == period) {
            j = 0;
        }
    }
}
