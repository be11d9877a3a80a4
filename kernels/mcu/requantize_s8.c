/* Codes to codes of another scale: y = clip(rescale(x - a_zero_point) + zero_point, qmin, qmax). */
#include "qc_internal.h"

void qc_requantize_s8(const int8_t *x, int8_t *y, int32_t count, const qc_mul_params *p)
{
    for (int32_t i = 0; i < count; i++) {
        y[i] = (int8_t)qc_requantize_any(x[i] - p->a_zero_point, p->multiplier, p->shift, p->zero_point, p->qmin, p->qmax);
    }
}
