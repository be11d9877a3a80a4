/* As requantize_s8.c for codes of 8 or 16 bits. */
#include "qc_internal.h"

void qc_requantize_s16(const void *x, void *y, int32_t count, const qc_mul_params *p, qc_widths widths)
{
    for (int32_t i = 0; i < count; i++) {
        const int32_t centred = qc_load_code(x, i, widths.a) - p->a_zero_point;
        const int32_t code = qc_requantize_any(centred, p->multiplier, p->shift, p->zero_point, p->qmin, p->qmax);
        qc_store_code(y, i, widths.y, code);
    }
}
